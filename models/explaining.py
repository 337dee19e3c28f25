"""What an explanation reads: a line with its surroundings, and the usage records that it cites."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import TextClause, and_, select, text
from sqlalchemy.orm import Session

from billing.periods import Period
from models import usage_facts
from models.catalog import Meter, PlanPrice, Product, ProductPlan
from models.invoices import CreditEntry, Invoice, InvoiceLine
from models.metering_sql import passes
from models.subscriptions import SubscriptionItem

_ROWS_PER_FETCH = 5_000


@dataclass(frozen=True, slots=True)
class LineRows:
    """A line with its invoice, product and meter, and with the plan version and price of its item.

    `siblings` are all lines of the invoice, in their sequence: discounts are split over them.
    """

    invoice: Invoice
    line: InvoiceLine
    product: Product
    meter: Meter | None
    item: SubscriptionItem | None
    plan: ProductPlan | None
    price: PlanPrice | None
    siblings: Sequence[InvoiceLine]


@dataclass(frozen=True, slots=True)
class Debit:
    """The line that charged what a change gives back."""

    invoice_number: str | None
    invoice_id: UUID
    position: int


@dataclass(frozen=True, slots=True)
class CitedEvent:
    """A usage record as it came; the line cites it for itself, or for a correction of it."""

    product_id: UUID
    event_id: str
    occurred_at: datetime
    quantity: Decimal
    properties: dict[str, Any] | None
    batch_id: UUID


@dataclass(frozen=True, slots=True)
class LineName:
    """Where a line is, for a caller that only knew the invoice's number."""

    organization_id: UUID
    invoice_id: UUID
    line_id: UUID
    position: int
    kind: str


_WINDOW = """
    r.organization_id = :organization_id AND r.subscription_id = :subscription_id AND r.meter_id = :meter_id
    AND r.occurred_at >= :start_at AND r.occurred_at < :end_at
"""
_CORRECTIONS_OF_WINDOW = """
    k.organization_id = :organization_id AND k.meter_id = :meter_id
    AND k.occurred_at >= :start_at AND k.occurred_at < :end_at
"""
# As these lines were rated: what was corrected later is not heard.
_AS_RATED = usage_facts.corrected(
    f"{_WINDOW} AND r.invoice_line_id = ANY(CAST(:line_ids AS uuid[]))",
    usage_facts.TAKEN_BY,
    _CORRECTIONS_OF_WINDOW,
)
_PASSING = passes("facts.properties", "CAST(:filters AS jsonb)")
_REDUCED = {"sum": "sum(quantity)", "count": "count(*)", "max": "max(quantity)", "min": "min(quantity)"}
_CITES = f"""
    FROM tenant.usage_records r
    WHERE {_WINDOW} AND (
        r.invoice_line_id = ANY(CAST(:line_ids AS uuid[]))
        OR (r.product_id, r.event_id) IN (
            SELECT k.product_id, k.event_id FROM tenant.usage_corrections k
            WHERE k.organization_id = :organization_id AND {usage_facts.TAKEN_BY}))
"""
_CITED_COUNT = text(f"SELECT count(*) {_CITES}")
_CITED_COLUMNS = "SELECT r.product_id, r.event_id, r.occurred_at, r.quantity, r.properties, r.batch_id"
_IN_SEQUENCE = "ORDER BY r.occurred_at, r.event_id LIMIT :most"
_CITED = text(f"{_CITED_COLUMNS} {_CITES} {_IN_SEQUENCE}")
_CITED_AFTER = text(
    f"{_CITED_COLUMNS} {_CITES} AND (r.occurred_at, r.event_id) > (:after_at, :after_id) {_IN_SEQUENCE}"
)


@cache
def _counting(columns: str, filtered: bool, rest: str = "") -> TextClause:
    """A statement over the facts as rated; of their properties nothing is asked where no filter does."""
    passing = _PASSING if filtered else "true"
    return text(f"SELECT {columns} FROM ({_AS_RATED}) facts WHERE NOT facts.void AND {passing} {rest}")


def line_rows(session: Session, organization_id: UUID, invoice_id: UUID, line_id: UUID) -> LineRows | None:
    """The line, if it is on this invoice of this organization."""
    found = invoice_lines(session, organization_id, invoice_id)
    return next((rows for rows in found if rows.line.id == line_id), None)


def invoice_lines(session: Session, organization_id: UUID, invoice_id: UUID) -> list[LineRows]:
    """Every line of an invoice in its sequence; none for an invoice that is not there."""
    found = session.execute(
        select(Invoice, InvoiceLine, Product, Meter, SubscriptionItem, ProductPlan, PlanPrice)
        .join(
            InvoiceLine,
            and_(
                InvoiceLine.organization_id == Invoice.organization_id, InvoiceLine.invoice_id == Invoice.id
            ),
        )
        .join(Product, Product.id == InvoiceLine.product_id)
        .outerjoin(Meter, Meter.id == InvoiceLine.meter_id)
        .outerjoin(
            SubscriptionItem,
            and_(
                SubscriptionItem.organization_id == InvoiceLine.organization_id,
                SubscriptionItem.id == InvoiceLine.item_id,
            ),
        )
        .outerjoin(ProductPlan, ProductPlan.id == SubscriptionItem.plan_id)
        .outerjoin(PlanPrice, PlanPrice.id == SubscriptionItem.price_id)
        .where(Invoice.organization_id == organization_id, Invoice.id == invoice_id)
        .order_by(InvoiceLine.position, InvoiceLine.id)
    ).all()
    siblings = [row[1] for row in found]
    return [LineRows(*row, siblings) for row in found]


def debit(session: Session, line: InvoiceLine, period: Period, net_minor: int) -> Debit | None:
    """The line that charged this net amount for the product's period, before the credit `line`."""
    row = session.execute(
        select(Invoice.number, Invoice.id, InvoiceLine.position)
        .join(
            InvoiceLine,
            and_(
                InvoiceLine.organization_id == Invoice.organization_id, InvoiceLine.invoice_id == Invoice.id
            ),
        )
        .where(
            InvoiceLine.organization_id == line.organization_id,
            InvoiceLine.subscription_id == line.subscription_id,
            InvoiceLine.product_id == line.product_id,
            InvoiceLine.kind.in_(("recurring", "seats", "proration")),
            InvoiceLine.period_start_at == period.start,
            InvoiceLine.period_end_at == period.end,
            InvoiceLine.amount_minor - InvoiceLine.discount_minor == net_minor,
            InvoiceLine.id != line.id,
        )
        .order_by(Invoice.created_at)
        .limit(1)
    ).one_or_none()
    return None if row is None else Debit(*row)


def credit_used(session: Session, invoice: Invoice) -> Sequence[CreditEntry]:
    """The ledger's entries that the invoice made when it was finalized."""
    return (
        session.execute(
            select(CreditEntry)
            .where(
                CreditEntry.organization_id == invoice.organization_id,
                CreditEntry.invoice_id == invoice.id,
                CreditEntry.key.in_((f"invoice:{invoice.id}", f"carried:{invoice.id}")),
            )
            .order_by(CreditEntry.id)
        )
        .scalars()
        .all()
    )


def invoices_numbered(session: Session, number: str) -> Sequence[tuple[UUID, UUID]]:
    """(organization, invoice) of every invoice with this number; read as the auditor."""
    rows = session.execute(
        select(Invoice.organization_id, Invoice.id).where(Invoice.number == number).order_by(Invoice.id)
    )
    return [(row.organization_id, row.id) for row in rows]


def cited_events(
    session: Session, line: InvoiceLine, after: tuple[datetime, str] | None, most: int
) -> Sequence[CitedEvent]:
    """The line's own events by time and id, those after `after`; at most `most`."""
    bounds = _bounds(line, [line.id])
    if after is not None:
        bounds |= {"after_at": after[0], "after_id": after[1]}
    rows = session.execute(_CITED if after is None else _CITED_AFTER, {**bounds, "most": most})
    return [CitedEvent(*row) for row in rows]


def count_events(session: Session, line: InvoiceLine) -> int:
    """How many events the line cites."""
    return int(session.execute(_CITED_COUNT, _bounds(line, [line.id])).scalar_one())


def rated_facts(
    session: Session, line: InvoiceLine, line_ids: Sequence[UUID], unique_property: str | None
) -> Iterator[tuple[Decimal, datetime, str, str | None]]:
    """What these lines of one period cite and count, as it was corrected when they were rated.

    Returns: (quantity, instant, event id, value of the unique property) of each event.
    """
    filters = _filters(line)
    values = {**_bounds(line, line_ids), **filters, "unique_property": unique_property or ""}
    columns = "quantity, occurred_at, event_id, properties ->> :unique_property AS unique_value"
    statement = _counting(columns, bool(filters))
    rows = session.execute(statement, values, execution_options={"yield_per": _ROWS_PER_FETCH})
    for row in rows:
        yield row.quantity, row.occurred_at, row.event_id, row.unique_value


def daily_facts(
    session: Session, line: InvoiceLine, line_ids: Sequence[UUID], reduction: str
) -> Sequence[tuple[Decimal, datetime]]:
    """One (quantity, last instant) for each day of what these lines count: a large line stays in Postgres.

    Args: `reduction` is sum, count, max or min: what can be reduced in parts.
    """
    filters = _filters(line)
    columns = f"{_REDUCED[reduction]} AS quantity, max(occurred_at) AS at"
    statement = _counting(columns, bool(filters), "GROUP BY date_trunc('day', occurred_at)")
    rows = session.execute(statement, {**_bounds(line, line_ids), **filters})
    return [(Decimal(row.quantity), row.at) for row in rows]


def lines_numbered(session: Session, number: str) -> Sequence[LineName]:
    """The lines of every invoice with this number, by position; read as the auditor."""
    rows = session.execute(
        select(Invoice.organization_id, Invoice.id, InvoiceLine.id, InvoiceLine.position, InvoiceLine.kind)
        .join(
            InvoiceLine,
            and_(
                InvoiceLine.organization_id == Invoice.organization_id, InvoiceLine.invoice_id == Invoice.id
            ),
        )
        .where(Invoice.number == number)
        .order_by(Invoice.organization_id, InvoiceLine.position)
    )
    return [LineName(*row) for row in rows]


def _bounds(line: InvoiceLine, line_ids: Sequence[UUID]) -> dict[str, Any]:
    """The line's window, through the index of usage: line ids alone have none."""
    return {
        "organization_id": line.organization_id,
        "subscription_id": line.subscription_id,
        "meter_id": line.meter_id,
        "start_at": line.period_start_at,
        "end_at": line.period_end_at,
        "line_ids": list(line_ids),
    }


def _filters(line: InvoiceLine) -> dict[str, Any]:
    """The filters by which the line was counted, to be bound; empty where there are none."""
    filters = line.explanation.get("filters")
    return {"filters": json.dumps(filters)} if filters else {}
