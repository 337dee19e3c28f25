"""The lists of the admin: over all organizations, read only, for a session of the auditor.

Every fragment of SQL here is a constant; what a person types is only ever a bound value.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

PAGE_SIZE = 50


@dataclass(frozen=True, slots=True)
class ListQuery:
    """One list: `columns FROM source`, what can be searched and filtered, and its newest-first sequence.

    `table` is what a detail page shows whole, but for the columns `hidden`; None when there is no such page.
    """

    columns: str
    source: str
    latest: str
    search: tuple[str, ...] = ()
    filters: Mapping[str, str] = field(default_factory=dict)
    table: str | None = None
    hidden: tuple[str, ...] = ()


def rows(
    session: Session,
    query: ListQuery,
    *,
    search: str = "",
    filters: Mapping[str, str] | None = None,
    page: int = 1,
) -> tuple[list[dict[str, Any]], bool]:
    """One page of a list, and whether there is another."""
    conditions = ["true"]
    bound: dict[str, Any] = {"limit": PAGE_SIZE + 1, "offset": (page - 1) * PAGE_SIZE}
    if search and query.search:
        conditions.append("(" + " OR ".join(f"{column} ILIKE :search" for column in query.search) + ")")
        bound["search"] = f"%{_literal(search)}%"
    for name, value in (filters or {}).items():
        column, bound[name] = query.filters[name], value
        if name == "day":
            bound[name] = _day(value)
            if bound[name] is None:
                return [], False
            # As a range of instants, so that an index can answer.
            begin = "CAST(:day AS date)::timestamp AT TIME ZONE 'UTC'"
            conditions.append(f"{column} >= {begin} AND {column} < {begin} + interval '1 day'")
        elif not column.endswith("id"):
            conditions.append(f"CAST({column} AS text) = :{name}")
        elif _is_id(value):
            # Compared as ids, so that an index can answer.
            conditions.append(f"{column} = CAST(:{name} AS uuid)")
        else:
            return [], False
    statement = " ".join(
        [
            "SELECT",
            query.columns,
            "FROM",
            query.source,
            "WHERE",
            " AND ".join(conditions),
            "ORDER BY",
            query.latest,
            "LIMIT :limit OFFSET :offset",
        ]
    )
    found = [dict(row) for row in session.execute(text(statement), bound).mappings()]
    return found[:PAGE_SIZE], len(found) > PAGE_SIZE


def row(session: Session, query: ListQuery, key: UUID) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """One row as its list shows it, and whole; None when there is none."""
    found, _ = rows(session, query, filters={"id": str(key)})
    if query.table is None or not found:
        return None
    whole = text(" ".join(["SELECT to_jsonb(t) FROM", query.table, "t WHERE t.id = :key"]))
    values: dict[str, Any] = session.execute(whole, {"key": key}).scalar_one()
    return found[0], {name: value for name, value in values.items() if name not in query.hidden}


def _is_id(value: str) -> bool:
    try:
        UUID(value)
    except ValueError:
        return False
    return True


def _day(value: str) -> date | None:
    try:
        return date.fromisoformat(value)
    except ValueError:
        return None


def _literal(search: str) -> str:
    """What was typed means itself in ILIKE."""
    return search.replace("\\", "\\\\").replace("%", r"\%").replace("_", r"\_")


_LIVE = "('trialing', 'active', 'past_due', 'paused')"
_SUBSCRIBERS = (
    "(SELECT count(DISTINCT (i.organization_id, i.subscription_id)) FROM tenant.subscription_items i "
    "JOIN tenant.product_subscriptions s ON (s.organization_id, s.id) = (i.organization_id, "
    "i.subscription_id) "
    "AND s.status IN " + _LIVE + " WHERE i.ended_at IS NULL AND "
)
_PRICES = (
    "(SELECT jsonb_agg(jsonb_build_array(x.currency, x.interval, x.amount_minor) "
    "ORDER BY x.currency, x.amount_minor) FROM "
)
OF_ORGANIZATION = " JOIN catalog.organizations o ON o.id = t.organization_id"
ORGANIZATION = "o.id AS organization_id, o.name AS organization"

PRODUCTS = ListQuery(
    columns="t.id, t.icon, t.color, t.name, t.code, t.status, t.billing_type, t.is_public, "
    + _SUBSCRIBERS
    + "i.product_id = t.id) AS subscriptions, t.stripe_product_id",
    source="catalog.products t",
    latest="t.code",
    search=("t.name", "t.code"),
    filters={"id": "t.id", "status": "t.status", "billing_type": "t.billing_type"},
    table="catalog.products",
)
PLANS = ListQuery(
    columns="t.id, p.name AS product, r.name AS tier, t.code, t.version, t.base_charge, "
    + _PRICES
    + "catalog.plan_prices x WHERE x.plan_id = t.id) AS prices, t.available_standalone, "
    "t.available_in_bundles, " + _SUBSCRIBERS + "i.plan_id = t.id) AS subscriptions, t.superseded_at",
    source="catalog.product_plans t JOIN catalog.products p ON p.id = t.product_id "
    "JOIN catalog.plan_tiers r ON r.id = t.tier_id",
    latest="p.code, r.rank, t.version DESC",
    search=("t.code", "p.name", "r.name"),
    filters={"id": "t.id", "product": "p.code", "tier": "r.code", "product_id": "t.product_id"},
    table="catalog.product_plans",
)
BUNDLES = ListQuery(
    columns="t.id, t.name, t.code, (SELECT string_agg(b.quantity || ' x ' || l.code, ', "
    "' ORDER BY b.position) "
    "FROM catalog.bundle_products b JOIN catalog.product_plans l ON l.id = b.plan_id "
    "WHERE b.bundle_id = t.id) AS members, "
    + _PRICES
    + "catalog.bundle_prices x WHERE x.bundle_id = t.id AND x.superseded_at IS NULL) AS prices, "
    "t.is_featured, t.is_public, "
    "(SELECT count(*) FROM tenant.product_subscriptions s WHERE s.bundle_id = t.id AND s.status IN "
    + _LIVE
    + ") AS subscriptions",
    source="catalog.subscription_bundles t",
    latest="t.id",
    search=("t.name", "t.code"),
    filters={"id": "t.id"},
    table="catalog.subscription_bundles",
)
ORGANIZATIONS = ListQuery(
    columns="t.id, t.name, t.slug, t.email, t.currency, c.name AS clock, c.frozen_at AS clock_at, "
    "(SELECT count(*) FROM tenant.product_subscriptions s WHERE s.organization_id = t.id AND s.status IN "
    + _LIVE
    + ") AS subscriptions, t.stripe_customer_id, t.parked_at, t.created_at",
    source="catalog.organizations t LEFT JOIN ops.test_clocks c ON c.id = t.test_clock_id",
    latest="t.id DESC",
    search=("t.name", "t.slug", "t.email", "t.external_id", "t.stripe_customer_id"),
    filters={"id": "t.id", "currency": "t.currency", "parked": "t.parked_at IS NOT NULL"},
    table="catalog.organizations",
)
SUBSCRIPTIONS = ListQuery(
    columns="t.id, " + ORGANIZATION + ", coalesce(l.code, b.code || ' bundle') AS subscribed_to, t.status, "
    "t.quantity, t.interval, t.currency, t.current_period_end_at, "
    "ceil(extract(epoch FROM t.current_period_end_at - coalesce(c.frozen_at, "
    "now())) / 86400)::int AS days_left, "
    "t.trial_end_at, t.cancel_at_period_end, t.stripe_subscription_id",
    source="tenant.product_subscriptions t" + OF_ORGANIZATION + " "
    "LEFT JOIN catalog.product_plans l ON l.id = t.product_plan_id "
    "LEFT JOIN catalog.subscription_bundles b ON b.id = t.bundle_id "
    "LEFT JOIN ops.test_clocks c ON c.id = o.test_clock_id",
    latest="t.id DESC",
    search=("o.name", "o.slug", "l.code", "b.code", "t.stripe_subscription_id"),
    filters={
        "id": "t.id",
        "status": "t.status",
        "currency": "t.currency",
        "organization": "t.organization_id",
    },
    table="tenant.product_subscriptions",
)
ITEMS = ListQuery(
    columns="p.name AS product, l.code AS plan, t.quantity, x.amount_minor, x.currency, x.interval, "
    "t.started_at, t.ended_at, t.stripe_item_id",
    source="tenant.subscription_items t JOIN catalog.products p ON p.id = t.product_id "
    "JOIN catalog.product_plans l ON l.id = t.plan_id JOIN catalog.plan_prices x ON x.id = t.price_id",
    latest="t.position, t.id",
    filters={"subscription": "t.subscription_id"},
)
INVOICES = ListQuery(
    columns="t.id, coalesce(t.number, '(draft)') AS number, "
    + ORGANIZATION
    + ", t.kind, t.status, t.currency, "
    "t.period_start_at, t.period_end_at, t.total_minor, t.reduced_minor, t.paid_minor, "
    "CASE WHEN t.status = 'void' THEN 0 ELSE t.total_minor - t.reduced_minor - t.paid_minor END "
    "AS due_minor, t.finalized_at, t.parked_reason",
    source="tenant.invoices t" + OF_ORGANIZATION,
    latest="t.id DESC",
    search=("t.number", "o.name", "o.slug", "t.stripe_invoice_id"),
    filters={
        "id": "t.id",
        "status": "t.status",
        "kind": "t.kind",
        "currency": "t.currency",
        "parked": "t.parked_at IS NOT NULL",
        "organization": "t.organization_id",
        "subscription": "t.subscription_id",
    },
    table="tenant.invoices",
)
LINES = ListQuery(
    columns="t.kind, t.description, t.quantity, t.unit_price, t.currency, t.amount_minor, t.discount_minor, "
    "t.tax_minor, t.period_start_at, t.period_end_at, t.explanation, t.id AS line",
    source="tenant.invoice_lines t",
    latest="t.position, t.id",
    filters={"invoice": "t.invoice_id"},
)
PAYMENTS = ListQuery(
    columns="t.id, " + ORGANIZATION + ", n.id AS invoice_id, n.number AS invoice, t.attempt, t.amount_minor, "
    "t.currency, t.status, t.decline_code, t.attempted_at, t.settled_at",
    source="tenant.payments t" + OF_ORGANIZATION + " JOIN tenant.invoices n "
    "ON (n.organization_id, n.id) = (t.organization_id, t.invoice_id)",
    latest="t.id DESC",
    search=("n.number", "o.name", "t.stripe_payment_intent_id"),
    filters={
        "id": "t.id",
        "status": "t.status",
        "invoice": "t.invoice_id",
        "organization": "t.organization_id",
    },
    table="tenant.payments",
)
DISPUTES = ListQuery(
    columns="t.id, t.created_at, " + ORGANIZATION + ", n.id AS invoice_id, n.number AS invoice, "
    "t.payment_id, t.amount_minor, t.currency, t.reason, t.status, t.closed_at",
    source="tenant.disputes t"
    + OF_ORGANIZATION
    + " JOIN tenant.payments y ON (y.organization_id, y.id) = (t.organization_id, t.payment_id) "
    "JOIN tenant.invoices n ON (n.organization_id, n.id) = (y.organization_id, y.invoice_id)",
    latest="t.created_at DESC, t.id DESC",
    search=("n.number", "o.name", "t.stripe_dispute_id", "t.reason"),
    filters={
        "id": "t.id",
        "status": "t.status",
        "payment": "t.payment_id",
        "invoice": "n.id",
        "organization": "t.organization_id",
    },
    table="tenant.disputes",
)
CASES = ListQuery(
    columns="t.id, " + ORGANIZATION + ", n.id AS invoice_id, n.number AS invoice, n.total_minor, n.currency, "
    "t.state, t.first_failed_at, t.grace_until_at, t.retries_done, t.next_attempt_at, "
    "t.decline_code, t.closed_at",
    source="tenant.dunning_cases t" + OF_ORGANIZATION + " JOIN tenant.invoices n "
    "ON (n.organization_id, n.id) = (t.organization_id, t.invoice_id)",
    latest="t.id DESC",
    search=("n.number", "o.name"),
    filters={
        "id": "t.id",
        "state": "t.state",
        "organization": "t.organization_id",
        "invoice": "t.invoice_id",
    },
    table="tenant.dunning_cases",
)
STEPS = ListQuery(
    columns="t.at, t.kind, t.detail",
    source="tenant.dunning_steps t",
    latest="t.at, t.id",
    filters={"case": "t.case_id"},
)
MAILS = ListQuery(
    columns="t.id, t.created_at, "
    + ORGANIZATION
    + ", t.channel, t.kind, t.recipient, t.subject, t.state, t.sent_at, t.error",
    source="tenant.notifications t" + OF_ORGANIZATION,
    latest="t.id DESC",
    search=("t.recipient", "t.subject", "o.name"),
    filters={
        "id": "t.id",
        "channel": "t.channel",
        "kind": "t.kind",
        "state": "t.state",
        "organization": "t.organization_id",
    },
    table="tenant.notifications",
)
WEBHOOKS = ListQuery(
    columns="t.id, t.received_at, t.type, t.event_id, t.object_id, t.source, t.state, t.attempts, "
    "t.handled_at, "
    "t.last_error",
    source="ops.webhook_inbox t",
    latest="t.id DESC",
    search=("t.type", "t.event_id", "t.object_id", "t.customer_id"),
    filters={"id": "t.id", "state": "t.state", "source": "t.source"},
    table="ops.webhook_inbox",
)
BATCHES = ListQuery(
    columns="t.id, t.received_at, p.name AS product, t.accepted, t.duplicates, t.state, t.attempts, "
    "t.handled_at, "
    "t.idempotency_key, t.last_error",
    source="ops.usage_inbox t JOIN catalog.products p ON p.id = t.product_id",
    latest="t.id DESC",
    search=("t.idempotency_key", "p.name"),
    filters={"id": "t.id", "state": "t.state", "product": "p.code"},
    table="ops.usage_inbox",
    # Up to five thousand events; the usage list shows them one by one.
    hidden=("events",),
)
JOBS = ListQuery(
    columns="t.id, t.kind, o.id AS organization_id, o.name AS organization, t.state, t.attempts, "
    "t.deferrals, "
    "t.due_at, t.not_before_at, t.finished_at, t.last_error",
    source="ops.jobs t LEFT JOIN catalog.organizations o ON o.id = t.organization_id",
    latest="t.id DESC",
    search=("t.kind", "t.unique_key", "o.name", "t.last_error"),
    filters={"id": "t.id", "state": "t.state", "kind": "t.kind", "organization": "t.organization_id"},
    table="ops.jobs",
)
CALLS = ListQuery(
    columns="t.id, t.created_at, t.operation, t.object_id, o.id AS organization_id, o.name AS organization, "
    "t.state, t.sends, t.request_id, t.resolved_at",
    source="ops.stripe_calls t LEFT JOIN catalog.organizations o ON o.id = t.organization_id",
    latest="t.id DESC",
    search=("t.operation", "t.object_id", "t.idempotency_key", "t.request_id", "o.name"),
    filters={"id": "t.id", "state": "t.state", "organization": "t.organization_id"},
    table="ops.stripe_calls",
    # Replies may hold a client secret, which lets its reader act for the customer.
    hidden=("reply",),
)
RECONCILIATIONS = ListQuery(
    columns="t.id, t.started_at, t.finished_at, t.compared, jsonb_array_length(t.differences) AS differences",
    source="ops.reconciliation_runs t",
    latest="t.id DESC",
    filters={"id": "t.id"},
    table="ops.reconciliation_runs",
)
KEYS = ListQuery(
    columns="t.id, t.kind, t.name, coalesce(p.name, o.name) AS bound_to, t.last_four, t.created_at, "
    "array_to_string(t.scopes, ', ') AS scopes, t.last_used_at, t.expires_at, t.revoked_at",
    source="ops.api_keys t LEFT JOIN catalog.products p ON p.id = t.product_id "
    "LEFT JOIN catalog.organizations o ON o.id = t.organization_id",
    latest="t.id DESC",
    search=("t.name", "o.name", "p.name", "t.last_four"),
    filters={"kind": "t.kind"},
)
AUDIT = ListQuery(
    columns="t.at, t.actor, t.action, t.object_type, t.object_id, t.detail",
    source="ops.audit_log t",
    latest="t.id DESC",
    search=("t.actor", "t.action", "t.object_id"),
    filters={"action": "t.action"},
)
