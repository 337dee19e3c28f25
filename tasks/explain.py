"""Explanations: why an invoice line costs what it costs, down to its usage events, and again from them."""

import base64
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple
from uuid import UUID

from billing.errors import Conflict, InvalidTerms, InvalidUsage, NotFound
from billing.exact import exact_number, exact_text
from billing.groups import Match, read_match
from billing.metering import Aggregation, UsageFact, aggregate, matches, parse_instant
from billing.money import Money, format_money, round_half_away
from billing.periods import Period
from billing.proration import ProratedPart
from billing.rating import ChargeTerms, rate
from models import explaining, usage_corrections
from models.database import Session
from models.explaining import CitedEvent, LineRows
from tasks.context import Context
from tasks.explanation_text import explain_text

__all__ = ["LineReference", "explain_line", "explain_text", "find_line"]

_MOST_PER_PAGE = 1_000
_METERED = ("usage", "adjustment")
# How the parts that Postgres reduced each day to become the whole: a line may cite millions of events.
_BY_PARTS = {
    Aggregation.sum: Aggregation.sum,
    Aggregation.count: Aggregation.sum,
    Aggregation.max: Aggregation.max,
    Aggregation.min: Aggregation.min,
}


class LineReference(NamedTuple):
    """What `explain_line` needs to know of a line."""

    organization_id: UUID
    invoice_id: UUID
    line_id: UUID


def find_line(context: Context, reference: str) -> LineReference:
    """The line that `ACME-000042/3` (invoice number, position) means.

    Without a position: the first line for usage, else the first line.
    Raises: NotFound; Conflict when two organizations have invoices of this number.
    """
    number, _, position = reference.partition("/")
    with context.auditor.system() as session:
        lines = explaining.lines_numbered(session, number.strip())
    if len({line.organization_id for line in lines}) > 1:
        raise Conflict(f"two organizations have an invoice {number}")
    wanted = [line for line in lines if not position or str(line.position) == position.strip()]
    if not wanted:
        raise NotFound(f"there is no invoice line {reference}")
    line = wanted[0] if position else next((each for each in wanted if each.kind == "usage"), wanted[0])
    return LineReference(line.organization_id, line.invoice_id, line.line_id)


def explain_line(
    context: Context,
    organization_id: UUID,
    invoice_id: UUID,
    line_id: UUID,
    page: str | None = None,
    *,
    page_size: int = 100,
) -> dict[str, Any]:
    """Everything that made the line's amount, JSON-safe: numbers as exact text, amounts in minor units.

    `events` holds one page of the usage events that the line cites and the cursor of the next;
    `recomputed` is the amount computed again from all of them under the line's own terms (on the
    first page only: `page` None).
    Raises: NotFound, also for a line of another organization or invoice; InvalidTerms for a bad cursor.
    """
    after = None if page is None else _cursor_read(page)
    with context.tenant(organization_id) as unit:
        rows = explaining.line_rows(unit.session, organization_id, invoice_id, line_id)
        if rows is None:
            raise NotFound("no such invoice line")
        return {
            **_account(rows),
            "events": _events(unit.session, rows, after, min(max(page_size, 1), _MOST_PER_PAGE)),
            "recomputed": _recomputed(unit.session, rows) if page is None else None,
        }


def _account(rows: LineRows) -> dict[str, Any]:
    """What the line says of itself: everything but the events."""
    line, invoice, told = rows.line, rows.invoice, rows.line.explanation
    rating: Mapping[str, Any] = told.get("rating") or {}
    return {
        "invoice": {
            "id": str(invoice.id),
            "number": invoice.number,
            "kind": invoice.kind,
            "status": invoice.status,
            "currency": invoice.currency,
            "total_minor": invoice.total_minor,
            "period": _period_record(invoice.period_start_at, invoice.period_end_at),
        },
        "line": {
            "id": str(line.id),
            "position": line.position,
            "kind": line.kind,
            "description": line.description,
            "quantity": _exact(line.quantity),
            "unit_price": None if line.unit_price is None else _exact(line.unit_price),
            "currency": line.currency,
            "amount_minor": line.amount_minor,
            "period": _period_record(line.period_start_at, line.period_end_at),
        },
        "product": {"code": rows.product.code, "name": rows.product.name},
        "price": {**(told.get("plan") or {}), "terms": told.get("terms"), "interval": told.get("interval")},
        "quantity": _quantity(rows, rating),
        "trial": bool(told.get("trial")),
        "steps": rating.get("steps") or [],
        "rounding": _rounding(rows, rating),
        "proration": told.get("proration"),
        "discount": _discount(rows),
        "tax": _tax(rows),
        "cause": told.get("adjusts"),
    }


def _quantity(rows: LineRows, rating: Mapping[str, Any]) -> dict[str, Any]:
    meter = rows.meter
    return {
        "value": rating.get("quantity") or _exact(rows.line.quantity),
        "billable": rating.get("billable"),
        "unit": meter.unit if meter else None,
        "aggregation": rows.line.explanation.get("aggregation") if meter else None,
        "facts": rows.line.explanation.get("facts"),
        "excluded": rows.line.explanation.get("excluded", 0),
        "filters": rows.line.explanation.get("filters") or {},
        "group": rows.line.explanation.get("group"),
        "voided": rows.line.explanation.get("voided", 0),
    }


def _rounding(rows: LineRows, rating: Mapping[str, Any]) -> dict[str, Any]:
    """The exact amount and what it was rounded to, once; for an adjustment those of the whole period."""
    exact = rating.get("exact")
    if exact is None and rows.line.unit_price is not None:
        exact = exact_text(Fraction(rows.line.unit_price) * Fraction(rows.line.quantity))
    rounded = None if exact is None else round_half_away(exact_number(exact))
    return {"rule": "half away from zero, once per line", "exact": exact, "rounded_minor": rounded}


def _discount(rows: LineRows) -> dict[str, Any]:
    return {
        "amount_minor": rows.line.discount_minor,
        "of_invoice_minor": rows.invoice.discount_minor,
        "split_over_minor": rows.discountable_minor,
        "rule": "one after the other: a percentage of what the line still costs, rounded half away from "
        "zero; an amount split over the lines that it covers by what they still cost, largest remainder",
        "parts": rows.line.explanation.get("discounts", []),
        "discountable": rows.line.discountable,
    }


def _tax(rows: LineRows) -> dict[str, Any]:
    percentage = rows.invoice.tax_percentage
    return {
        "name": rows.invoice.tax_name,
        "percentage": None if percentage is None else _exact(percentage),
        "inclusive": rows.invoice.tax_inclusive,
        "base_minor": rows.line.amount_minor - rows.line.discount_minor,
        "amount_minor": rows.line.tax_minor,
    }


def _events(
    session: Session, rows: LineRows, after: tuple[datetime, str] | None, page_size: int
) -> dict[str, Any]:
    if rows.line.meter_id is None:
        return {"items": [], "next": None, "total": 0}
    # One more than asked for tells whether there is a next page.
    found = explaining.cited_events(session, rows.line, after, page_size + 1)
    shown = found[:page_size]
    filters = read_match(rows.line.explanation.get("filters") or {}, field="filters")
    corrections = _corrections(session, rows, shown)
    return {
        "items": [
            _event_record(event, filters, corrections.get((event.product_id, event.event_id), []))
            for event in shown
        ],
        "next": _cursor(shown[-1]) if len(found) > page_size else None,
        "total": explaining.count_events(session, rows.line),
    }


def _corrections(
    session: Session, rows: LineRows, events: Sequence[CitedEvent]
) -> dict[tuple[UUID, str], list[dict[str, Any]]]:
    """Every correction of these events, the oldest first; `counted_here` by this line or one it adjusts."""
    heard = {rows.line.id, *(UUID(each) for each in _adjusts(rows).get("line_ids", ()))}
    found: dict[tuple[UUID, str], list[dict[str, Any]]] = {}
    for product_id in {event.product_id for event in events}:
        ids = [event.event_id for event in events if event.product_id == product_id]
        standing = usage_corrections.of_events(session, rows.line.organization_id, product_id, ids)
        for each in standing:
            found.setdefault((product_id, each.event_id), []).append(
                {
                    "id": str(each.id),
                    "kind": each.kind,
                    "quantity": None if each.quantity is None else _exact(each.quantity),
                    "reason": each.reason,
                    "who": each.who,
                    "received_at": _instant(each.received_at),
                    "line_id": None if each.invoice_line_id is None else str(each.invoice_line_id),
                    "counted_here": each.invoice_line_id in heard,
                }
            )
    return found


def _adjusts(rows: LineRows) -> Mapping[str, Any]:
    adjusts: Mapping[str, Any] = rows.line.explanation.get("adjusts") or {}
    return adjusts


def _event_record(event: CitedEvent, filters: Match, corrections: list[dict[str, Any]]) -> dict[str, Any]:
    """The event as it came, and its corrections; `counts` says whether the line counts it."""
    heard = [each for each in corrections if each["counted_here"]]
    void = bool(heard) and heard[-1]["kind"] == "void"
    return {
        "event_id": event.event_id,
        "occurred_at": _instant(event.occurred_at),
        "quantity": _exact(event.quantity),
        "properties": event.properties or {},
        "counts": matches(event.properties or {}, filters) and not void,
        "batch_id": str(event.batch_id),
        "corrections": corrections,
    }


def _recomputed(session: Session, rows: LineRows) -> dict[str, Any]:
    """The amount once more: from the events and the stored terms, or from quantity and unit price."""
    again = _again(session, rows)
    if again is None:
        return {
            "recomputed_minor": None,
            "agrees": False,
            "difference": f"a {rows.line.kind} line that is Stripe's cannot be computed again",
        }
    gap = again - Money(rows.line.amount_minor, rows.line.currency)
    return {
        "recomputed_minor": again.minor,
        "agrees": not gap.minor,
        "difference": f"computed again, the line is {format_money(gap)} more" if gap.minor else None,
    }


def _again(session: Session, rows: LineRows) -> Money | None:
    line = rows.line
    if line.kind in _METERED:
        return _metered_again(session, rows)
    if line.kind == "proration":
        part = ProratedPart.from_record(line.explanation.get("proration") or {})
        return part.amount if part else None
    if line.unit_price is None:
        return None
    return Money(round_half_away(Fraction(line.unit_price) * Fraction(line.quantity)), line.currency)


def _metered_again(session: Session, rows: LineRows) -> Money:
    """Rate the events again; an adjustment is the whole period less what its earlier lines charged."""
    line = rows.line
    adjusts = _adjusts(rows)
    line_ids = [line.id, *(UUID(each) for each in adjusts.get("line_ids", ()))]
    quantity = _quantity_again(session, rows, line_ids)
    charge = rate(quantity, ChargeTerms.from_record(line.explanation["terms"])).amount
    return charge - Money(int(adjusts.get("billed_minor", 0)), line.currency)


def _quantity_again(session: Session, rows: LineRows, line_ids: Sequence[UUID]) -> Fraction:
    line, meter = rows.line, rows.meter
    assert meter is not None, "a usage line has a meter"
    aggregation = Aggregation(line.explanation["aggregation"])
    period = Period(line.period_start_at, line.period_end_at)
    if aggregation in _BY_PARTS:
        days = explaining.daily_facts(session, line, line_ids, aggregation.value)
        return aggregate(_BY_PARTS[aggregation], (UsageFact(Fraction(part), at) for part, at in days), period)
    cited = explaining.rated_facts(session, line, line_ids, meter.unique_property)
    facts = (UsageFact(Fraction(quantity), at, event_id, value) for quantity, at, event_id, value in cited)
    return aggregate(aggregation, facts, period)


def _cursor(event: CitedEvent) -> str:
    place = json.dumps([_instant(event.occurred_at), event.event_id])
    return base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")


def _cursor_read(page: str) -> tuple[datetime, str]:
    try:
        at, event_id = json.loads(base64.urlsafe_b64decode(page + "=" * (-len(page) % 4)))
        return parse_instant(at), str(event_id)
    except (ValueError, TypeError, InvalidUsage) as error:
        raise InvalidTerms("is not a cursor of this list", field="page") from error


def _period_record(start_at: datetime, end_at: datetime) -> dict[str, str]:
    return {"start_at": _instant(start_at), "end_at": _instant(end_at)}


def _instant(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


def _exact(number: Decimal) -> str:
    return exact_text(Fraction(number))
