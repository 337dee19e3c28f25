"""An invoice line once more: its amount from its source, its discount and tax with its invoice."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any
from uuid import UUID

from billing.exact import exact_number, exact_text
from billing.invoicing import DraftLine, InvoiceDraft, LineKind, TaxTerms
from billing.metering import Aggregation, UsageFact, aggregate
from billing.money import Money, format_money
from billing.periods import Period
from billing.proration import ProratedPart
from billing.rating import ChargeTerms, Rating, rate
from billing.rebuilding import Stored, rebuilt
from models import explaining
from models.database import Session
from models.explaining import LineRows
from models.invoices import Invoice, InvoiceLine
from tasks.explain_events import adjusts

_METERED = (LineKind.usage, LineKind.adjustment)
# How the parts that Postgres reduced each day to become the whole: a line may cite millions of events.
_BY_PARTS = {
    Aggregation.sum: Aggregation.sum,
    Aggregation.count: Aggregation.sum,
    Aggregation.max: Aggregation.max,
    Aggregation.min: Aggregation.min,
}


def recomputed(session: Session, rows: LineRows) -> dict[str, Any]:
    """Amount, discount and tax once more, whether all agree, and how they differ in a sentence.

    None of it for the line of a change that a person made at Stripe: its amount is Stripe's.
    """
    line, currency = rows.line, rows.line.currency
    rated = _rated_again(session, rows) if line.kind in _METERED else None
    again = _again(rows, rated)
    if again is None:
        return {
            "recomputed_minor": None,
            "discount_minor": None,
            "tax_minor": None,
            "agrees": False,
            "difference": f"a {line.kind} line that is Stripe's cannot be computed again",
        }
    built = next(each for each in built_again(rows, {line.key: again}).lines if each.key == line.key)
    figures = [
        ("the line is", again.minor, line.amount_minor),
        ("its discount is", _minor(built.discount), line.discount_minor),
        ("its tax is", _minor(built.tax), line.tax_minor),
    ]
    wrong = [f"{name} {_gap(found - stored, currency)}" for name, found, stored in figures if found != stored]
    wrong += _against_the_price_list(rows)
    wrong += [] if rated is None else _against_its_quantity(line, rated)
    return {
        "recomputed_minor": again.minor,
        "discount_minor": _minor(built.discount),
        "tax_minor": _minor(built.tax),
        "agrees": not wrong,
        "difference": f"computed again, {', '.join(wrong)}" if wrong else None,
    }


def built_again(rows: LineRows, amounts: Mapping[str, Money] | None = None) -> InvoiceDraft:
    """The line's whole invoice, before credit; `amounts` replaces those that lines have, by their keys."""
    invoice = rows.invoice
    lines = [_as_draft(each, (amounts or {}).get(each.key)) for each in rows.siblings]
    records = [each.explanation.get("discounts") or [] for each in rows.siblings]
    return rebuilt(lines, invoice.currency, records, _tax_terms(invoice))


def stored(invoice: Invoice, lines: Sequence[InvoiceLine]) -> Stored:
    """What the invoice's rows say."""
    return Stored(
        subtotal=invoice.subtotal_minor,
        discount=invoice.discount_minor,
        tax=invoice.tax_minor,
        payable=invoice.total_minor + invoice.credit_minor,
        line_discounts={line.key: line.discount_minor for line in lines},
        line_taxes={line.key: line.tax_minor for line in lines},
    )


def prorated(rows: LineRows) -> ProratedPart | None:
    """What the line of a change is computed from; None for any other, and for one of before it was stored."""
    return ProratedPart.from_record(rows.line.explanation.get("proration") or {})


def _as_draft(line: InvoiceLine, amount: Money | None) -> DraftLine:
    return DraftLine(
        key=line.key,
        kind=LineKind(line.kind),
        description=line.description,
        amount=amount or Money(line.amount_minor, line.currency),
        quantity=Fraction(line.quantity),
        unit_price=None,
        period=_period(line),
        product=str(line.product_id),
        discountable=line.discountable,
    )


def _tax_terms(invoice: Invoice) -> TaxTerms | None:
    if invoice.tax_percentage is None:
        return None
    return TaxTerms(exact_number(invoice.tax_percentage), invoice.tax_inclusive, invoice.tax_name or "")


def _against_the_price_list(rows: LineRows) -> list[str]:
    """A line in advance, and that of a change, start from the price of the plan version of their item."""
    line, price, item = rows.line, rows.price, rows.item
    if price is None or item is None or line.explanation.get("trial"):
        return []
    listed = Money(price.amount_minor, price.currency)
    part = prorated(rows)
    found = Fraction(listed.minor) if line.unit_price is None else Fraction(line.unit_price)
    if part is not None:
        listed, found = listed.scaled(item.quantity), Fraction(part.listed.minor)
    elif line.kind in _METERED:
        return []
    return [] if listed.minor == found else [f"the price list says {format_money(listed)}"]


def _against_its_quantity(line: InvoiceLine, rated: Rating) -> list[str]:
    """Within an allowance or below a minimum another quantity costs the same, and is as wrong."""
    told = line.explanation.get("rating")
    if not told or exact_number(told["quantity"]) == rated.quantity:
        return []
    return [f"its quantity is {exact_text(rated.quantity)} instead of {told['quantity']}"]


def _again(rows: LineRows, rated: Rating | None) -> Money | None:
    line = rows.line
    if rated is not None:
        # An adjustment is the whole period less what its earlier lines charged.
        return rated.amount - Money(int(adjusts(rows).get("billed_minor", 0)), line.currency)
    if line.unit_price is not None:
        exact = Fraction(line.unit_price) * Fraction(line.quantity)
        return Money.rounded(exact, line.currency)
    part = prorated(rows)
    return None if part is None else part.amount


def _rated_again(session: Session, rows: LineRows) -> Rating:
    """Rate the line's events again, those of the lines that it adjusts among them."""
    line = rows.line
    line_ids = [line.id, *(UUID(each) for each in adjusts(rows).get("line_ids", ()))]
    quantity = _quantity_again(session, rows, line_ids)
    return rate(quantity, ChargeTerms.from_record(line.explanation["terms"]))


def _quantity_again(session: Session, rows: LineRows, line_ids: Sequence[UUID]) -> Fraction:
    line, meter = rows.line, rows.meter
    assert meter is not None, "a usage line has a meter"
    aggregation = Aggregation(line.explanation["aggregation"])
    period = _period(line)
    if aggregation in _BY_PARTS:
        days = explaining.daily_facts(session, line, line_ids, aggregation.value)
        return aggregate(_BY_PARTS[aggregation], (UsageFact(Fraction(part), at) for part, at in days), period)
    cited = explaining.rated_facts(session, line, line_ids, meter.unique_property)
    facts = (UsageFact(Fraction(quantity), at, event_id, value) for quantity, at, event_id, value in cited)
    return aggregate(aggregation, facts, period)


def _period(line: InvoiceLine) -> Period:
    return Period(line.period_start_at, line.period_end_at)


def _minor(amount: Money | None) -> int:
    return amount.minor if amount else 0


def _gap(minor: int, currency: str) -> str:
    return f"{format_money(Money(minor, currency))} more"
