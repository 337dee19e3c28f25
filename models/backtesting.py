"""What a backtest reads of all organizations: billed stretches, closed periods, lines, usage added up.

As the auditor, inside a read-only snapshot. Usage is reduced inside Postgres, window by window
through the index of usage: a million events come out as a few thousand rows.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import and_, false, func, select, text
from sqlalchemy.orm import Session

from billing.periods import Period
from models import usage_facts
from models.catalog import Meter, PlanCharge, PlanPrice, Product, ProductPlan
from models.invoices import Invoice, InvoiceLine
from models.metering_sql import group_number, passes
from models.organizations import Organization
from models.subscriptions import ProductSubscription, SubscriptionItem


@dataclass(frozen=True, slots=True)
class BilledStretch:
    """A subscription item, which is a stretch of unchanged terms, with what bills it."""

    item: SubscriptionItem
    subscription: ProductSubscription
    plan: ProductPlan
    price: PlanPrice


@dataclass(frozen=True, slots=True)
class ClosedPeriod:
    """A billing period of a subscription that has ended, and whose usage is invoiced."""

    organization_id: UUID
    subscription_id: UUID
    start_at: datetime
    end_at: datetime


@dataclass(frozen=True, slots=True)
class PastLine:
    """What a backtest needs of an invoice line; `status` is its invoice's."""

    subscription_id: UUID
    item_id: UUID | None
    meter_id: UUID | None
    key: str
    kind: str
    quantity: Decimal
    amount_minor: int
    discount_minor: int
    period_start_at: datetime
    period_end_at: datetime
    proration: dict[str, Any] | None
    trial: bool
    status: str


@dataclass(frozen=True, slots=True)
class Counting:
    """How a meter counts, and how a price splits its events into groups (see `models.usage_billing`).

    `charged`: the records that lines took, as these heard of corrections. Else those of a meter that the
    plan never charged: they wait, with all their corrections.
    """

    aggregation: str
    unique_property: str | None
    filters: str
    matches: str
    charged: bool

    @classmethod
    def of(cls, meter: Meter, matches: Sequence[Mapping[str, Any]], *, charged: bool) -> "Counting":
        # Most have neither: writing JSON of nothing for each window is a tenth of a backtest.
        filters = json.dumps(meter.filters, sort_keys=True) if meter.filters else "{}"
        listed = json.dumps(list(matches)) if matches else "[]"
        return cls(meter.aggregation, meter.unique_property, filters, listed, charged)


@dataclass(frozen=True, slots=True)
class UsageWindow:
    """Where to count: one item and meter in one closed period."""

    closed: ClosedPeriod
    item_id: UUID
    meter_id: UUID


@dataclass(frozen=True, slots=True)
class WindowUsage:
    """What one group's records come to; `window` is its place in the list that was asked."""

    window: int
    number: int
    counted: int
    excluded: int
    voided: int
    quantity: Decimal | None


# How Postgres reduces each aggregation; what it adds up is exact, and divided by the caller.
_REDUCTIONS = {
    "count": "count(*) FILTER (WHERE counts)",
    "sum": "sum(quantity) FILTER (WHERE counts)",
    "avg": "sum(quantity) FILTER (WHERE counts)",
    "max": "max(quantity) FILTER (WHERE counts)",
    "min": "min(quantity) FILTER (WHERE counts)",
    "unique": "count(DISTINCT properties ->> :unique_property) FILTER (WHERE counts)",
    "last": """(array_agg(quantity ORDER BY occurred_at DESC, event_id COLLATE "C" DESC)
                FILTER (WHERE counts))[1]""",
    "time_weighted_sum": "sum(quantity * extract(epoch FROM w.end_at - occurred_at)) FILTER (WHERE counts)",
}
_NUMBER = group_number("r.properties", "CAST(:matches AS jsonb)")
_PASSES = passes("r.properties", "CAST(:filters AS jsonb)")
_WINDOW = """
    r.organization_id = w.organization_id AND r.subscription_id = w.subscription_id
    AND r.item_id = w.item_id AND r.meter_id = w.meter_id
    AND r.occurred_at >= w.start_at AND r.occurred_at < w.end_at
"""
_CORRECTIONS = """
    k.organization_id = w.organization_id AND k.meter_id = w.meter_id
    AND k.occurred_at >= w.start_at AND k.occurred_at < w.end_at
"""
_CHARGED = usage_facts.corrected(f"{_WINDOW} AND r.state = 'rated'", usage_facts.TAKEN, _CORRECTIONS)
_UNCHARGED = usage_facts.corrected(f"{_WINDOW} AND r.state = 'waiting'", usage_facts.ALL, _CORRECTIONS)
# Where nobody of a batch was ever corrected, no record is asked about it.
_PLAIN = f"SELECT r.*, false AS void FROM tenant.usage_records r WHERE {_WINDOW} AND r.state = "
_ANY_CORRECTION = text(
    "SELECT EXISTS (SELECT FROM tenant.usage_corrections k WHERE k.organization_id = ANY(:organizations))"
)
# LATERAL with an aggregate in it is an index scan per window, however many windows there are.
_USAGE = """
    SELECT w.n - 1 AS window, u.*
    FROM unnest(
        CAST(:organizations AS uuid[]), CAST(:subscriptions AS uuid[]), CAST(:items AS uuid[]),
        CAST(:meters AS uuid[]), CAST(:starts AS timestamptz[]), CAST(:ends AS timestamptz[])
    ) WITH ORDINALITY AS w (organization_id, subscription_id, item_id, meter_id, start_at, end_at, n)
    CROSS JOIN LATERAL (
        SELECT number, count(*) FILTER (WHERE counts) AS counted,
               count(*) FILTER (WHERE NOT passes AND NOT void) AS excluded,
               count(*) FILTER (WHERE void) AS voided, {reduction} AS quantity
        FROM (
            SELECT r.*, {number} AS number, {passes} AS passes, {passes} AND NOT r.void AS counts
            FROM ({corrected}) r
        ) r
        GROUP BY number
    ) u
"""


def plans(session: Session, codes: Sequence[str]) -> Sequence[ProductPlan]:
    """Every version of the plans of these codes."""
    return session.execute(select(ProductPlan).where(ProductPlan.code.in_(codes))).scalars().all()


def charges(session: Session, plan_ids: Sequence[UUID]) -> list[tuple[PlanCharge, Meter]]:
    rows = session.execute(
        select(PlanCharge, Meter)
        .join(Meter, Meter.id == PlanCharge.meter_id)
        .where(PlanCharge.plan_id.in_(plan_ids))
    )
    return [(charge, meter) for charge, meter in rows]


def meters(session: Session, plan_ids: Sequence[UUID]) -> Sequence[Meter]:
    """The meters of the products that these plans are of."""
    products = select(ProductPlan.product_id).where(ProductPlan.id.in_(plan_ids))
    return (
        session.execute(select(Meter).where(Meter.product_id.in_(products)).order_by(Meter.code))
        .scalars()
        .all()
    )


def product_names(session: Session) -> dict[UUID, str]:
    return {row.id: row.code for row in session.execute(select(Product.id, Product.code))}


def subscribers(
    session: Session, plan_ids: Sequence[UUID], currency: str | None, organization_id: UUID | None
) -> list[tuple[UUID, str]]:
    """(id, slug) of the organizations that ever had one of these plans, the oldest first."""
    statement = (
        select(SubscriptionItem.organization_id)
        .join(PlanPrice, PlanPrice.id == SubscriptionItem.price_id)
        .where(SubscriptionItem.plan_id.in_(plan_ids))
    )
    if currency is not None:
        statement = statement.where(PlanPrice.currency == currency)
    if organization_id is not None:
        statement = statement.where(SubscriptionItem.organization_id == organization_id)
    rows = session.execute(
        select(Organization.id, Organization.slug)
        .where(Organization.id.in_(statement))
        .order_by(Organization.id)
    )
    return [(row.id, row.slug) for row in rows]


def stretches(session: Session, organization_ids: Sequence[UUID]) -> list[BilledStretch]:
    """Every item of these organizations, also of plans that are not asked for: a change names both."""
    rows = session.execute(
        select(SubscriptionItem, ProductSubscription, ProductPlan, PlanPrice)
        .join(
            ProductSubscription,
            and_(
                ProductSubscription.organization_id == SubscriptionItem.organization_id,
                ProductSubscription.id == SubscriptionItem.subscription_id,
            ),
        )
        .join(ProductPlan, ProductPlan.id == SubscriptionItem.plan_id)
        .join(PlanPrice, PlanPrice.id == SubscriptionItem.price_id)
        .where(SubscriptionItem.organization_id.in_(organization_ids))
        .order_by(SubscriptionItem.organization_id, SubscriptionItem.started_at, SubscriptionItem.id)
    )
    return [BilledStretch(*row) for row in rows]


def closed_periods(
    session: Session, organization_ids: Sequence[UUID], start_at: datetime, end_at: datetime
) -> list[ClosedPeriod]:
    """The billing periods that begin in `[start_at, end_at)` and whose usage has a finalized invoice."""
    rows = session.execute(
        select(
            Invoice.organization_id, Invoice.subscription_id, Invoice.period_start_at, Invoice.period_end_at
        ).where(
            Invoice.organization_id.in_(organization_ids),
            Invoice.kind.in_(("cycle", "final")),
            Invoice.period_start_at >= start_at,
            Invoice.period_start_at < end_at,
            Invoice.finalized_at.is_not(None),
        )
    )
    return [ClosedPeriod(*row) for row in rows]


def lines(
    session: Session, organization_ids: Sequence[UUID], start_at: datetime, end_at: datetime
) -> list[PastLine]:
    """The rated lines whose own period begins in `[start_at, end_at)`, whichever invoice they are on."""
    rows = session.execute(
        select(
            InvoiceLine.subscription_id,
            InvoiceLine.item_id,
            InvoiceLine.meter_id,
            InvoiceLine.key,
            InvoiceLine.kind,
            InvoiceLine.quantity,
            InvoiceLine.amount_minor,
            InvoiceLine.discount_minor,
            InvoiceLine.period_start_at,
            InvoiceLine.period_end_at,
            InvoiceLine.explanation["proration"].label("proration"),
            func.coalesce(InvoiceLine.explanation["trial"].as_boolean(), false()).label("trial"),
            Invoice.status,
        )
        .join(
            Invoice,
            and_(
                Invoice.organization_id == InvoiceLine.organization_id, Invoice.id == InvoiceLine.invoice_id
            ),
        )
        .where(
            InvoiceLine.organization_id.in_(organization_ids),
            InvoiceLine.period_start_at >= start_at,
            InvoiceLine.period_start_at < end_at,
            Invoice.rated_at.is_not(None),
        )
        .order_by(InvoiceLine.organization_id, InvoiceLine.period_start_at, InvoiceLine.key)
    )
    return [PastLine(**row._mapping) for row in rows]


def usage(session: Session, windows: Sequence[UsageWindow], counting: Counting) -> list[WindowUsage]:
    """What each window's records come to, group by group.

    `quantity` is the sum for avg, and quantity times seconds for time_weighted_sum.
    """
    # Nothing is asked of a record's properties where meter and price ask nothing: most do not.
    grouped, filtered = counting.matches != "[]", counting.filters != "{}"
    statement = _USAGE.format(
        reduction=_REDUCTIONS[counting.aggregation],
        number=_NUMBER if grouped else "0",
        passes=_PASSES if filtered else "true",
        corrected=_source(session, windows, charged=counting.charged),
    )
    values: dict[str, Any] = {
        "organizations": [window.closed.organization_id for window in windows],
        "subscriptions": [window.closed.subscription_id for window in windows],
        "items": [window.item_id for window in windows],
        "meters": [window.meter_id for window in windows],
        "starts": [window.closed.start_at for window in windows],
        "ends": [window.closed.end_at for window in windows],
        **({"unique_property": counting.unique_property or ""} if counting.aggregation == "unique" else {}),
        **({"matches": counting.matches} if grouped else {}),
        **({"filters": counting.filters} if filtered else {}),
    }
    return [WindowUsage(**row._mapping) for row in session.execute(text(statement), values)]


def _source(session: Session, windows: Sequence[UsageWindow], *, charged: bool) -> str:
    organizations = list({window.closed.organization_id for window in windows})
    if session.execute(_ANY_CORRECTION, {"organizations": organizations}).scalar_one():
        return _CHARGED if charged else _UNCHARGED
    return f"{_PLAIN} '{'rated' if charged else 'waiting'}'"


_UNTAKEN = text(
    f"""
    SELECT count(*) FROM (
        SELECT r.item_id, r.meter_id, r.occurred_at FROM tenant.usage_records r
        WHERE r.organization_id = ANY(:organizations) AND r.late AND r.state = 'waiting'
        UNION ALL
        SELECT r.item_id, r.meter_id, r.occurred_at
        FROM tenant.usage_corrections k {usage_facts.RECORD}
        WHERE k.organization_id = ANY(:organizations) AND k.invoice_line_id IS NULL AND r.state = 'rated'
    ) u
    JOIN tenant.subscription_items i ON i.organization_id = ANY(:organizations) AND i.id = u.item_id
    WHERE u.occurred_at >= :start_at AND u.occurred_at < :end_at AND i.id = ANY(:items)
      AND EXISTS (SELECT FROM catalog.plan_charges c WHERE c.plan_id = i.plan_id AND c.meter_id = u.meter_id)
    """
)


def untaken(
    session: Session, organization_ids: Sequence[UUID], item_ids: Sequence[UUID], period: Period
) -> int:
    """How many late events and corrections of these items no invoice has taken yet."""
    values = {"organizations": list(organization_ids), "items": list(item_ids)}
    within = {"start_at": period.start, "end_at": period.end}
    return int(session.execute(_UNTAKEN, {**values, **within}).scalar_one())
