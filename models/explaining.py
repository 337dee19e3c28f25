"""What an explanation reads: a line with its surroundings, and the usage records that it cites."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, cast
from uuid import UUID

from sqlalchemy import ColumnElement, and_, func, select, text, tuple_
from sqlalchemy.orm import Session

from models.catalog import Meter, Product
from models.invoices import Invoice, InvoiceLine
from models.metering_sql import passes
from models.usage import UsageRecord

_ROWS_PER_FETCH = 5_000


@dataclass(frozen=True, slots=True)
class LineRows:
    """A line with its invoice, product and meter, and what the invoice's discount is split over."""

    invoice: Invoice
    line: InvoiceLine
    product: Product
    meter: Meter | None
    discountable_minor: int


@dataclass(frozen=True, slots=True)
class CitedEvent:
    """A usage record as its invoice line cites it."""

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


def line_rows(session: Session, organization_id: UUID, invoice_id: UUID, line_id: UUID) -> LineRows | None:
    """The line, if it is on this invoice of this organization."""
    row = session.execute(
        select(Invoice, InvoiceLine, Product, Meter)
        .join(InvoiceLine, and_(InvoiceLine.organization_id == Invoice.organization_id))
        .join(Product, Product.id == InvoiceLine.product_id)
        .outerjoin(Meter, Meter.id == InvoiceLine.meter_id)
        .where(
            Invoice.organization_id == organization_id,
            Invoice.id == invoice_id,
            InvoiceLine.invoice_id == invoice_id,
            InvoiceLine.id == line_id,
        )
    ).one_or_none()
    if row is None:
        return None
    discountable = session.execute(
        select(func.coalesce(func.sum(InvoiceLine.amount_minor), 0)).where(
            InvoiceLine.organization_id == organization_id,
            InvoiceLine.invoice_id == invoice_id,
            InvoiceLine.discountable,
        )
    ).scalar_one()
    return LineRows(row[0], row[1], row[2], row[3], int(discountable))


def cited_events(
    session: Session, line: InvoiceLine, after: tuple[datetime, str] | None, most: int
) -> Sequence[CitedEvent]:
    """The line's own events by time and id, those after `after`; at most `most`."""
    place = tuple_(UsageRecord.occurred_at, UsageRecord.event_id)
    statement = select(
        UsageRecord.event_id,
        UsageRecord.occurred_at,
        UsageRecord.quantity,
        UsageRecord.properties,
        UsageRecord.batch_id,
    ).where(*_cited_by(line, [line.id]))
    if after is not None:
        statement = statement.where(place > after)
    rows = session.execute(statement.order_by(UsageRecord.occurred_at, UsageRecord.event_id).limit(most))
    return [CitedEvent(*row) for row in rows]


def count_events(session: Session, line: InvoiceLine) -> int:
    """How many events the line cites."""
    return session.execute(select(func.count()).where(*_cited_by(line, [line.id]))).scalar_one()


def rated_facts(
    session: Session, line: InvoiceLine, line_ids: Sequence[UUID], unique_property: str | None
) -> Iterator[tuple[Decimal, datetime, str, str | None]]:
    """What these lines of one period cite and count.

    Returns: (quantity, instant, event id, value of the unique property) of each event.
    """
    unique_value = UsageRecord.properties[unique_property or ""].astext.label("unique_value")
    rows = session.execute(
        select(UsageRecord.quantity, UsageRecord.occurred_at, UsageRecord.event_id, unique_value)
        .where(*_cited_by(line, line_ids), *_that_count(line))
        .execution_options(yield_per=_ROWS_PER_FETCH)
    )
    for row in rows:
        yield row.quantity, row.occurred_at, row.event_id, row.unique_value


def daily_facts(
    session: Session, line: InvoiceLine, line_ids: Sequence[UUID], reduction: str
) -> Sequence[tuple[Decimal, datetime]]:
    """One (quantity, last instant) for each day of what these lines count: a large line stays in Postgres.

    Args: `reduction` is sum, count, max or min: what can be reduced in parts.
    """
    parts: dict[str, ColumnElement[Any]] = {
        "sum": func.sum(UsageRecord.quantity),
        "count": func.count(),
        "max": func.max(UsageRecord.quantity),
        "min": func.min(UsageRecord.quantity),
    }
    rows = session.execute(
        select(parts[reduction].label("quantity"), func.max(UsageRecord.occurred_at).label("at"))
        .where(*_cited_by(line, line_ids), *_that_count(line))
        .group_by(func.date_trunc("day", UsageRecord.occurred_at))
    )
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


def _cited_by(line: InvoiceLine, line_ids: Sequence[UUID]) -> tuple[ColumnElement[bool], ...]:
    """Through the index of usage: line ids alone have none."""
    return (
        UsageRecord.organization_id == line.organization_id,
        UsageRecord.subscription_id == line.subscription_id,
        UsageRecord.meter_id == line.meter_id,
        UsageRecord.occurred_at >= line.period_start_at,
        UsageRecord.occurred_at < line.period_end_at,
        UsageRecord.invoice_line_id.in_(line_ids),
    )


def _that_count(line: InvoiceLine) -> tuple[ColumnElement[bool], ...]:
    """Those that pass the filters by which the line was counted."""
    filters = line.explanation.get("filters")
    if not filters:
        return ()
    passing = text(passes("tenant.usage_records.properties", "CAST(:filters AS jsonb)"))
    return (cast("ColumnElement[bool]", passing.bindparams(filters=json.dumps(filters))),)
