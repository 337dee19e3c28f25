"""Explanations: why an invoice and its lines cost what they cost, down to the events, and again."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple
from uuid import UUID

from billing.errors import Conflict, NotFound
from billing.exact import exact_number, exact_text
from billing.money import Money, format_money
from billing.proration import Side
from billing.rebuilding import gaps
from models import explaining
from models.database import Session
from models.explaining import LineRows
from models.invoices import Invoice
from tasks import recomputing
from tasks.context import Context
from tasks.explain_events import page_of
from tasks.explanation_text import explain_text

__all__ = [
    "LineReference",
    "differs",
    "explain_invoice",
    "explain_line",
    "explain_text",
    "find_invoice",
    "find_line",
]


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


def find_invoice(context: Context, number: str) -> tuple[UUID, UUID]:
    """(organization, invoice) of an invoice number. Raises: NotFound; Conflict when two have it."""
    with context.auditor.system() as session:
        found = explaining.invoices_numbered(session, number.strip())
    if len(found) > 1:
        raise Conflict(f"two organizations have an invoice {number}")
    if not found:
        raise NotFound(f"there is no invoice {number}")
    return found[0]


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
    `recomputed` is amount, discount and tax computed again, from all events under the line's own terms
    (on the first page only: `page` None).
    Raises: NotFound, also for a line of another organization or invoice; InvalidTerms for a bad cursor.
    """
    with context.tenant(organization_id) as unit:
        rows = explaining.line_rows(unit.session, organization_id, invoice_id, line_id)
        if rows is None:
            raise NotFound("no such invoice line")
        return _explained(unit.session, rows, page, page_size)


def explain_invoice(
    context: Context, organization_id: UUID, invoice_id: UUID, *, page_size: int = 5
) -> dict[str, Any]:
    """Every line explained, then the sums: how the lines make the total, computed again. JSON-safe.

    `agrees` only if every line that is ours and every sum does. Raises: NotFound.
    """
    with context.tenant(organization_id) as unit:
        invoice = unit.session.get(Invoice, (organization_id, invoice_id))
        if invoice is None:
            raise NotFound("no such invoice")
        found = explaining.invoice_lines(unit.session, organization_id, invoice_id)
        lines = [_explained(unit.session, rows, None, page_size) for rows in found]
        sums = _sums(unit.session, invoice, found)
    agrees = sums["agrees"] and not any(differs(line["recomputed"]) for line in lines)
    return {"invoice": _invoice_record(invoice), "lines": lines, "sums": sums, "agrees": agrees}


def differs(recomputed: Mapping[str, Any]) -> bool:
    """Whether a line that can be computed again came to something else."""
    return recomputed["recomputed_minor"] is not None and not recomputed["agrees"]


def _explained(session: Session, rows: LineRows, page: str | None, page_size: int) -> dict[str, Any]:
    return {
        **_account(rows),
        "proration": _proration(session, rows),
        "events": page_of(session, rows, page, page_size),
        "recomputed": recomputing.recomputed(session, rows) if page is None else None,
    }


def _sums(session: Session, invoice: Invoice, found: Sequence[LineRows]) -> dict[str, Any]:
    """The invoice's figures, made anew of its lines, and what it used of the credit balance."""
    used = explaining.credit_used(session, invoice)
    wrong = []
    if found:
        lines = [rows.line for rows in found]
        built = recomputing.built_again(found[0])
        wrong = [
            f"{name} is {format_money(Money(gap, invoice.currency))} more"
            for name, gap in gaps(built, recomputing.stored(invoice, lines)).items()
        ]
    spent = -sum(entry.amount_minor for entry in used)
    if invoice.finalized_at is not None and spent != invoice.credit_minor:
        gap = format_money(Money(spent - invoice.credit_minor, invoice.currency))
        wrong.append(f"the credit that the ledger says was used is {gap} more")
    return {
        "lines": len(found),
        "subtotal_minor": invoice.subtotal_minor,
        "discount_minor": invoice.discount_minor,
        "tax_minor": invoice.tax_minor,
        "tax_inclusive": invoice.tax_inclusive,
        "contained_tax_minor": sum(rows.line.tax_minor for rows in found) if invoice.tax_inclusive else 0,
        "credit_minor": invoice.credit_minor,
        "credit": [{"amount_minor": entry.amount_minor, "reason": entry.reason} for entry in used],
        "total_minor": invoice.total_minor,
        "agrees": not wrong,
        "difference": f"computed again, {', '.join(wrong)}" if wrong else None,
    }


def _invoice_record(invoice: Invoice) -> dict[str, Any]:
    return {
        "id": str(invoice.id),
        "organization": str(invoice.organization_id),
        "number": invoice.number,
        "kind": invoice.kind,
        "status": invoice.status,
        "currency": invoice.currency,
        "total_minor": invoice.total_minor,
        "period": _period_record(invoice.period_start_at, invoice.period_end_at),
    }


def _account(rows: LineRows) -> dict[str, Any]:
    """What the line says of itself: everything but the events."""
    line, invoice, told = rows.line, rows.invoice, rows.line.explanation
    rating: Mapping[str, Any] = told.get("rating") or {}
    return {
        "invoice": _invoice_record(invoice),
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
        "price": _price(rows),
        "quantity": _quantity(rows, rating),
        "trial": bool(told.get("trial")),
        "steps": rating.get("steps") or [],
        "rounding": _rounding(rows, rating),
        "discount": _discount(rows),
        "tax": _tax(rows),
        "cause": told.get("adjusts"),
    }


def _price(rows: LineRows) -> dict[str, Any]:
    """The plan version that priced the line, since when it was sold, and since when it was held."""
    told, plan, item = rows.line.explanation, rows.plan, rows.item
    return {
        **(told.get("plan") or {}),
        "terms": told.get("terms"),
        "interval": told.get("interval"),
        "sold_since": None if plan is None else _instant(plan.created_at),
        "held_since": None if item is None else _instant(item.started_at),
        "share": told.get("share"),
    }


def _proration(session: Session, rows: LineRows) -> Mapping[str, Any] | None:
    """What a change's line is computed from; a credit also names the line that charged it."""
    record: Mapping[str, Any] | None = rows.line.explanation.get("proration")
    part = recomputing.prorated(rows)
    if record is None or part is None or part.side is not Side.unused:
        return record
    debit = explaining.debit(session, rows.line, part.period, part.base.minor)
    charged_by = None
    if debit is not None:
        charged_by = {
            "invoice": debit.invoice_number,
            "invoice_id": str(debit.invoice_id),
            "position": debit.position,
        }
    return {**record, "charged_by": charged_by}


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
    elif exact is None and (part := recomputing.prorated(rows)) is not None:
        exact = exact_text(part.exact)
    rounded = None if exact is None else Money.rounded(exact_number(exact), rows.line.currency).minor
    return {"rule": "half away from zero, once per line", "exact": exact, "rounded_minor": rounded}


def _discount(rows: LineRows) -> dict[str, Any]:
    return {
        "amount_minor": rows.line.discount_minor,
        "of_invoice_minor": rows.invoice.discount_minor,
        "split_over_minor": sum(line.amount_minor for line in rows.siblings if line.discountable),
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


def _period_record(start_at: datetime, end_at: datetime) -> dict[str, str]:
    return {"start_at": _instant(start_at), "end_at": _instant(end_at)}


def _instant(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


def _exact(number: Decimal) -> str:
    return exact_text(Fraction(number))
