"""Rows by the million, straight into the tables: what a large installation holds, for plans to be made of.

Ids are made of numbers (`numbered`), so that rows refer to each other without a look-up. Columns that
nobody names get any value that they take, so that new ones need nothing here.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Boolean, Column, Connection, DateTime, Integer, Numeric, Uuid, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import UUID as PG_UUID

from models.schema import metadata

NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)
# A large catalog: products, of three tiers each, of which four versions were replaced.
PRODUCTS, TIERS, VERSIONS, BUNDLES = 200, 3, 5, 20
PER_ORGANIZATION = 5
_KINDS = ("organization", "subscription", "item", "invoice", "line", "product", "tier", "plan", "meter")


@dataclass(frozen=True, slots=True)
class Rows:
    """How many subscriptions there are, and one of the middle to ask for."""

    subscriptions: int

    @property
    def organizations(self) -> int:
        return self.subscriptions // PER_ORGANIZATION

    @property
    def one(self) -> int:
        """The number of an organization in the middle; its subscriptions are `one` + k * organizations."""
        return self.organizations // 2


def numbered(kind: str, number: int) -> UUID:
    """The id of the row of a kind and number; ids rise with the number, as those of time do."""
    return UUID(f"0190{_KINDS.index(kind):04x}-0000-7000-8000-{number:012x}")


def sql_id(kind: str, number: str) -> str:
    """The same in SQL, of an expression for the number."""
    prefix = f"0190{_KINDS.index(kind):04x}-0000-7000-8000-"
    return f"('{prefix}' || lpad(to_hex({number}), 12, '0'))::uuid"


def fill(connection: Connection, subscriptions: int) -> Rows:
    """Write the rows as the owner of the tables; triggers and foreign keys look away."""
    rows = Rows(subscriptions)
    connection.execute(text("SET LOCAL session_replication_role = replica"))
    _fill_catalog(connection)
    _fill_tenants(connection, rows)
    _fill_ops(connection, rows)
    # What vacuum does by and by: block ranges written since count as "may hold anything" until then.
    connection.execute(
        text(
            "SELECT brin_summarize_new_values(c.oid) FROM pg_class c JOIN pg_am m ON m.oid = c.relam "
            "WHERE m.amname = 'brin' AND c.relnamespace = 'tenant'::regnamespace"
        )
    )
    for table in metadata.tables.values():
        connection.execute(text(f"ANALYZE {table.fullname}"))
    return rows


def _fill_catalog(connection: Connection) -> None:
    plans = PRODUCTS * TIERS * VERSIONS
    product, tier, version = f"n % {PRODUCTS}", f"n / {PRODUCTS} % {TIERS}", f"n / {PRODUCTS * TIERS}"
    shown = {"is_public": "true"}
    insert(
        connection, "catalog.products", PRODUCTS, id=sql_id("product", "n"), code="'product-' || n", **shown
    )
    insert(connection, "catalog.plan_tiers", TIERS, id=sql_id("tier", "n"), code="'tier-' || n", rank="n")
    insert(connection, "catalog.meters", PRODUCTS, id=sql_id("meter", "n"), product_id=sql_id("product", "n"))
    insert(
        connection,
        "catalog.product_plans",
        plans,
        id=sql_id("plan", "n"),
        product_id=sql_id("product", product),
        tier_id=sql_id("tier", tier),
        version=f"{version} + 1",
        code=f"'plan-' || {product} || '-' || {tier}",
        available_standalone="true",
        **shown,
        superseded_at=f"CASE WHEN {version} < {VERSIONS - 1} THEN now() END",
    )
    insert(
        connection,
        "catalog.plan_prices",
        plans * 6,
        id=sql_id("line", "n"),
        plan_id=sql_id("plan", f"n % {plans}"),
        currency=f"CASE WHEN n / {plans} % 2 = 0 THEN 'USD' ELSE 'ZAR' END",
        interval=f"(ARRAY['month', 'quarter', 'year'])[n / {plans} / 2 + 1]",
    )
    insert(
        connection,
        "catalog.plan_charges",
        plans,
        plan_id=sql_id("plan", "n"),
        meter_id=sql_id("meter", product),
        currency="'USD'",
    )
    bundle = {"bundle_id": sql_id("invoice", f"n % {BUNDLES}")}
    insert(connection, "catalog.subscription_bundles", BUNDLES, id=sql_id("invoice", "n"), **shown)
    insert(connection, "catalog.bundle_prices", BUNDLES, **bundle)
    insert(
        connection,
        "catalog.bundle_products",
        BUNDLES * 3,
        **bundle,
        plan_id=sql_id("plan", f"{plans} - 1 - n"),
    )


def _fill_tenants(connection: Connection, rows: Rows) -> None:
    organizations, many = rows.organizations, rows.subscriptions
    of = {"organization_id": sql_id("organization", f"n % {organizations}")}
    of_subscription = {**of, "subscription_id": sql_id("subscription", "n"), "item_id": sql_id("item", "n")}
    product = sql_id("product", f"n % {PRODUCTS}")
    insert(
        connection,
        "catalog.organizations",
        organizations,
        id=sql_id("organization", "n"),
        slug="'slug-' || n",
        external_id="'external-' || n",
        stripe_customer_id="'cus_' || n",
    )
    insert(
        connection,
        "tenant.product_subscriptions",
        many,
        **of,
        id=sql_id("subscription", "n"),
        status="CASE WHEN n % 10 = 0 THEN 'cancelled' ELSE 'active' END",
        stripe_subscription_id="'sub_' || n",
        started_at="timestamptz '2026-01-15 12:00Z'",
        ended_at="CASE WHEN n % 10 = 0 THEN timestamptz '2026-06-01 12:00Z' END",
        usage_closed_until_at="timestamptz '2026-05-15 12:00Z'",
        current_period_start_at="timestamptz '2026-05-15 12:00Z'",
    )
    insert(
        connection,
        "tenant.subscription_items",
        many,
        **of,
        id=sql_id("item", "n"),
        subscription_id=sql_id("subscription", "n"),
        product_id=product,
        plan_id=sql_id("plan", f"n % {PRODUCTS}"),
        price_id=sql_id("line", f"n % {PRODUCTS}"),
        stripe_item_id="'si_' || n",
        started_at="timestamptz '2026-01-15 12:00Z'",
    )
    insert(
        connection,
        "tenant.payment_methods",
        organizations,
        **of,
        stripe_payment_method_id="'pm_' || n",
        is_default="true",
    )
    # One event in a thousand came after its period was billed.
    insert(
        connection,
        "tenant.usage_records",
        many,
        **of_subscription,
        product_id=product,
        meter_id=sql_id("meter", f"n % {PRODUCTS}"),
        event_id="'event-' || n",
        state="'waiting'",
        occurred_at="timestamptz '2026-05-15 12:00Z' + n * interval '5 minutes'",
        late="n % 1000 = 0",
    )
    insert(
        connection,
        "tenant.usage_corrections",
        many // 10,
        **of,
        id=sql_id("line", "n"),
        product_id=product,
        meter_id=sql_id("meter", f"n % {PRODUCTS}"),
        event_id="'event-' || n",
        occurred_at="timestamptz '2026-05-15 12:00Z' + n * interval '5 minutes'",
        kind="'quantity'",
        quantity="2",
        number="1",
        invoice_line_id="CASE WHEN n % 100 > 0 THEN " + sql_id("line", "n") + " END",
    )
    insert(
        connection,
        "tenant.usage_conflicts",
        many // 10,
        **of,
        id=sql_id("line", "n"),
        product_id=product,
        event_id="'event-' || n",
        event='\'{"quantity": "1", "occurred_at": "2026-05-15T12:00:00+00:00", "properties": null}\'',
        received_at="timestamptz '2026-05-15 12:00Z' + n * interval '1 s'",
    )
    _fill_invoices(connection, rows, of)


def _fill_invoices(connection: Connection, rows: Rows, of: dict[str, str]) -> None:
    many = rows.subscriptions
    finalized = "timestamptz '2026-05-15 13:00Z'"
    insert(
        connection,
        "tenant.invoices",
        many,
        **of,
        id=sql_id("invoice", "n"),
        subscription_id=sql_id("subscription", "n"),
        kind="'cycle'",
        status="CASE WHEN n % 50 = 0 THEN 'open' ELSE 'paid' END",
        period_start_at="timestamptz '2026-04-15 12:00Z'",
        period_end_at="timestamptz '2026-05-15 12:00Z'",
        number="'N-' || n",
        finalized_at=finalized,
        rated_at=finalized,
        stripe_invoice_id="'in_' || n",
        subtotal_minor="0",
        discount_minor="0",
        tax_minor="0",
        credit_minor="0",
        total_minor="0",
        paid_minor="0",
        reduced_minor="0",
    )
    of_invoice = {**of, "invoice_id": sql_id("invoice", "n")}
    of_subscription = {"subscription_id": sql_id("subscription", "n")}
    product = sql_id("product", f"n % {PRODUCTS}")
    insert(
        connection,
        "tenant.invoice_lines",
        many,
        **of_invoice,
        **of_subscription,
        id=sql_id("line", "n"),
        product_id=product,
        meter_id=sql_id("meter", f"n % {PRODUCTS}"),
        item_id=sql_id("item", "n"),
        period_start_at="timestamptz '2026-04-15 12:00Z'",
        key="'usage'",
    )
    insert(connection, "tenant.payments", many, **of_invoice, attempt="1")
    insert(connection, "tenant.notifications", many // 5, **of, key="'mail-' || n")
    insert(
        connection,
        "tenant.dunning_cases",
        many // 50,
        organization_id=sql_id("organization", f"n * 50 % {rows.organizations}"),
        invoice_id=sql_id("invoice", "n * 50"),
        subscription_id=sql_id("subscription", "n * 50"),
    )


def _fill_ops(connection: Connection, rows: Rows) -> None:
    many = rows.subscriptions
    # Of the jobs that wait, all but one in ten thousand are due in the future.
    insert(
        connection,
        "ops.jobs",
        many * 2,
        kind="'invoicing.take_over'",
        unique_key="'job-' || n",
        subject_id=sql_id("subscription", f"n % {many}"),
        state=f"CASE WHEN n < {many} THEN 'queued' ELSE 'done' END",
        due_at=f"timestamptz '{NOW.isoformat()}' + (n % 10000 - 1) * interval '5 minutes'",
        not_before_at="timestamptz '2026-01-01Z'",
    )
    insert(
        connection,
        "ops.webhook_inbox",
        many,
        event_id="'evt_' || n",
        customer_id=f"'cus_' || n % {rows.organizations}",
        state="CASE WHEN n % 10000 = 0 THEN 'queued' ELSE 'done' END",
        not_before_at="timestamptz '2026-01-01Z'",
    )
    insert(
        connection,
        "ops.usage_inbox",
        many // 5,
        product_id=sql_id("product", f"n % {PRODUCTS}"),
        idempotency_key="'key-' || n",
        state="CASE WHEN n % 10000 = 0 THEN 'queued' ELSE 'done' END",
        rolled_up_at="CASE WHEN n % 1000 = 0 THEN NULL ELSE timestamptz '2026-01-01Z' END",
        events="'[]'",
        not_before_at="timestamptz '2026-01-01Z'",
    )
    insert(
        connection,
        "ops.api_keys",
        rows.organizations,
        kind="'organization'",
        organization_id=sql_id("organization", "n"),
        key_hash="'hash-' || n",
        scopes="ARRAY['read', 'write']",
    )
    insert(connection, "ops.stripe_calls", many, idempotency_key="'call-' || n", state="'succeeded'")


def insert(connection: Connection, table: str, count: int, **expressions: str) -> None:
    """`count` rows numbered n from 0; columns as SQL over n, or any value that they take."""
    columns = metadata.tables[table].columns
    given = {
        column.name: expressions.get(column.name) or _any(column)
        for column in columns
        if column.name in expressions or not (column.nullable or column.server_default)
    }
    names = ", ".join(f'"{name}"' for name in given)
    connection.execute(
        text(
            f"INSERT INTO {table} ({names}) SELECT {', '.join(given.values())} "
            f"FROM generate_series(0, {count - 1}) AS n"
        )
    )


def _any(column: Column[Any]) -> str:
    """SQL for a value of the column; of a state, the first that its check names."""
    for constraint in column.table.constraints:
        check = str(getattr(constraint, "sqltext", ""))
        if check.startswith(f"{column.name} IN ("):
            return f"'{check.split(chr(39), 2)[1]}'"
    kinds: tuple[tuple[Any, str], ...] = (
        (Uuid, "gen_random_uuid()"),
        (PG_UUID, "gen_random_uuid()"),
        (Boolean, "false"),
        (Integer, "1"),
        (Numeric, "1"),
        (DateTime, f"timestamptz '{NOW.isoformat()}'"),
        (JSONB, "'{}'"),
        (ARRAY, "'{}'"),
    )
    for kind, sql in kinds:
        if isinstance(column.type, kind):
            return sql
    return "'USD'" if column.name == "currency" else "'x' || n"
