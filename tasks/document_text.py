"""An invoice's document as text: every figure, date and word that is printed, nothing computed later.

The template only places these strings. Nothing in them is ever read as markup.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from itertools import groupby
from typing import Any

from billing.exact import exact_number
from billing.money import Money, format_money, minor_exponent
from models.catalog import Product
from models.credit_notes import CreditNote
from models.document_queries import DocumentLine, InvoiceDocument
from models.invoices import Invoice, Payment
from models.organizations import Organization

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_STATUS = {
    "draft": "Draft",
    "open": "Open",
    "paid": "Paid",
    "void": "Void",
    "uncollectible": "Uncollectible",
}
_PAYMENT = {
    "pending": "Under way",
    "succeeded": "Paid",
    "failed": "Declined",
    "unknown": "Being checked",
    "refunded": "Refunded",
}
# A color that is not one would stop the template.
_COLOR = re.compile(r"#[0-9A-Fa-f]{6}")
_NO_COLOR = "#5b6777"
# Decimal comma and spaced thousands, as format_money writes these currencies.
_COMMA_CURRENCIES = frozenset({"ZAR"})
_NO_BREAK = "\u00a0"
_MINUS = "\u2212"


def seller_text(name: str, address: str, tax_id: str) -> dict[str, Any]:
    """Who sells, as both documents print it."""
    lines = _written_lines(address)
    return {"name": name, "lines": [*lines, f"Tax number {tax_id}"] if tax_id else lines}


def customer_text(organization: Organization) -> dict[str, Any]:
    """Who is billed, as both documents print it."""
    return {
        "name": organization.name,
        "lines": [*_address_lines(organization.address), organization.email],
    }


def document_text(document: InvoiceDocument, seller: dict[str, Any]) -> dict[str, Any]:
    """All that the template prints, JSON-safe."""
    invoice, organization = document.invoice, document.organization
    return {
        "title": f"Invoice {invoice.number}" if invoice.number else "Draft invoice",
        "kind": "Tax invoice" if invoice.tax_minor else "Invoice",
        "status": invoice.status,
        "status_word": _STATUS[invoice.status],
        "headline": _headline(invoice),
        "pay_url": _pay_url(invoice),
        "seller": seller,
        "addressed": "Billed to",
        "customer": customer_text(organization),
        "facts": _facts(document),
        "groups": _groups(document.lines),
        "totals": _totals(document),
        "usage": [_usage(entry) for entry in document.lines if _is_usage(entry)],
        "credit_notes": [_credit_note(note) for note in document.credit_notes],
        "payments": [_payment(payment) for payment in document.payments],
    }


def date_text(at: datetime) -> str:
    """`1 Mar 2026`, in UTC, in no locale but ours."""
    day = at.astimezone(UTC)
    return _firm(f"{day.day} {_MONTHS[day.month - 1]} {day.year}")


def money_text(minor: int, currency: str) -> str:
    """An amount that stays on one line, with a true minus."""
    return _firm(format_money(Money(minor, currency))).replace("-", _MINUS)


def unit_price_text(minor: Decimal, currency: str) -> str:
    """A unit price with all the decimals that it has, at least the currency's: `$0.015`, `R 0,35`."""
    whole, _, part = _plain(minor).partition(".")
    text = money_text(int(whole), currency)
    if part:
        text += part if minor_exponent(currency) else f".{part}"
    return f"{_MINUS}{text}" if minor < 0 else text


def quantity_text(quantity: Decimal | Fraction, currency: str) -> str:
    """A quantity as the currency's readers write numbers: `42,415.5` beside USD, `42 415,5` beside ZAR."""
    thousands, point = (_NO_BREAK, ",") if currency in _COMMA_CURRENCIES else (",", ".")
    whole, _, part = _plain(quantity).partition(".")
    text = f"{int(whole):,}".replace(",", thousands) + (f"{point}{part}" if part else "")
    return f"{_MINUS}{text}" if quantity < 0 else text


def _facts(document: InvoiceDocument) -> list[list[str]]:
    invoice = document.invoice
    facts = [["Invoice number", invoice.number or "not yet numbered"], ["Issued", _issued(invoice)]]
    facts.append(["Period", span_text(invoice.period_start_at, invoice.period_end_at)])
    if document.bundle is not None:
        facts.append(["Bundle", document.bundle.name])
    facts.append(["Currency", invoice.currency])
    if invoice.paid_at is not None:
        facts.append(["Paid", date_text(invoice.paid_at)])
    return facts


def _issued(invoice: Invoice) -> str:
    return date_text(invoice.finalized_at) if invoice.finalized_at else "not yet issued"


def _headline(invoice: Invoice) -> str:
    """What the reader must know first."""
    due = money_text(invoice.due_minor, invoice.currency)
    if invoice.status == "draft":
        return f"{money_text(invoice.total_minor, invoice.currency)} so far, nothing to pay yet"
    if invoice.status == "void":
        return "Void: nothing to pay"
    if invoice.status == "uncollectible":
        return f"{due} was not paid"
    if invoice.total_minor == 0:
        return "Nothing to pay"
    if invoice.status == "paid":
        paid = money_text(invoice.paid_minor, invoice.currency)
        return f"{paid} paid, thank you" if invoice.paid_minor else "Credited in full: nothing to pay"
    return f"{due} due"


def _pay_url(invoice: Invoice) -> str | None:
    url = invoice.hosted_invoice_url or ""
    return url if invoice.status == "open" and url.startswith(("https://", "http://")) else None


def _groups(lines: Sequence[DocumentLine]) -> list[dict[str, Any]]:
    """The lines product by product, products in the sequence of their first line."""
    places = {entry.product.id: place for place, entry in reversed(list(enumerate(lines)))}
    by_product = sorted(lines, key=lambda entry: places[entry.product.id])
    groups = []
    for _, each in groupby(by_product, key=lambda entry: entry.product.id):
        members = list(each)
        product, currency = members[0].product, members[0].line.currency
        net = sum(entry.line.amount_minor - entry.line.discount_minor for entry in members)
        groups.append(
            {
                "name": product.name,
                "color": color_of(product),
                "amount": money_text(net, currency),
                "lines": [_line(entry) for entry in members],
            }
        )
    return groups


def color_of(product: Product) -> str:
    """The product's color, or a gray where it has none that is one."""
    return product.color if _COLOR.fullmatch(product.color) else _NO_COLOR


def _line(entry: DocumentLine) -> dict[str, Any]:
    line = entry.line
    return {
        "description": line.description,
        "note": _note(entry),
        "quantity": quantity_text(line.quantity, line.currency),
        "unit_price": _unit_price(entry),
        "amount": money_text(line.amount_minor, line.currency),
        "discount": money_text(-line.discount_minor, line.currency) if line.discount_minor else "",
    }


def _note(entry: DocumentLine) -> str:
    """When, and for a correction what it corrects."""
    line = entry.line
    span = span_text(line.period_start_at, line.period_end_at)
    adjusts = line.explanation.get("adjusts")
    if not adjusts:
        return span
    billed = money_text(adjusts["billed_minor"], line.currency)
    return f"{span}, of which {billed} was invoiced before"


def _unit_price(entry: DocumentLine) -> str:
    """The price where quantity x price is the amount; usage with an allowance or tiers is shown below."""
    line = entry.line
    if line.unit_price is not None and line.quantity * line.unit_price == line.amount_minor:
        return unit_price_text(line.unit_price, line.currency)
    return "see usage" if _is_usage(entry) else ""


def _totals(document: InvoiceDocument) -> list[dict[str, Any]]:
    """The sums from the subtotal to what is due; sums of nothing are left out."""
    invoice = document.invoice
    currency = invoice.currency
    rows = [("Subtotal", invoice.subtotal_minor, "plain")]
    if invoice.discount_minor:
        name = f"{document.bundle.name} discount" if document.bundle else "Discount"
        rows.append((name, -invoice.discount_minor, "plain"))
    if invoice.tax_percentage is not None and not invoice.tax_inclusive:
        net = money_text(_taxed(document), currency)
        rows.append((f"{tax_name(invoice)} on {net}", invoice.tax_minor, "plain"))
    if invoice.credit_minor:
        name = "Credit used" if invoice.credit_minor > 0 else "Added to your credit"
        rows.append((name, -invoice.credit_minor, "plain"))
    rows.append(("Total", invoice.total_minor, "strong"))
    if invoice.tax_percentage is not None and invoice.tax_inclusive:
        contained = sum(entry.line.tax_minor for entry in document.lines)
        rows.append((f"of which {tax_name(invoice)}", contained, "faint"))
    if invoice.reduced_minor:
        rows.append(("Credit notes", -invoice.reduced_minor, "plain"))
    if invoice.paid_minor:
        rows.append(("Paid", -invoice.paid_minor, "plain"))
    if invoice.status in ("open", "paid", "uncollectible"):
        rows.append(("Amount due", invoice.due_minor, "due"))
    return [
        {"name": name, "amount": money_text(minor, currency), "weight": weight}
        for name, minor, weight in rows
    ]


def _taxed(document: InvoiceDocument) -> int:
    return sum(entry.line.amount_minor - entry.line.discount_minor for entry in document.lines)


def tax_name(invoice: Invoice) -> str:
    assert invoice.tax_percentage is not None
    rate = quantity_text(invoice.tax_percentage, invoice.currency)
    return f"{invoice.tax_name or 'Tax'} {rate}{_NO_BREAK}%"


def _is_usage(entry: DocumentLine) -> bool:
    return entry.meter is not None and bool(entry.line.explanation.get("rating"))


def _usage(entry: DocumentLine) -> dict[str, Any]:
    """How a metered quantity became its amount: the allowance, tier by tier, and the sum."""
    line, meter = entry.line, entry.meter
    assert meter is not None
    rating = line.explanation["rating"]
    currency = line.currency
    quantity = quantity_text(exact_number(rating["quantity"]), currency)
    events = line.explanation.get("facts")
    counted = f" from {_counted(events, 'event', currency)}" if events is not None else ""
    group = line.explanation.get("group_name")
    return {
        "title": f"{entry.product.name}: {meter.name.lower()}{f', {group}' if group else ''}",
        "note": f"{span_text(line.period_start_at, line.period_end_at)}, {quantity}{counted}",
        "steps": [_step(step, currency) for step in rating["steps"]],
        "amount": money_text(rating["amount_minor"], currency),
    }


def _counted(count: int, noun: str, currency: str) -> str:
    return f"{quantity_text(Fraction(count), currency)} {noun}{'' if count == 1 else 's'}"


def _step(step: dict[str, Any], currency: str) -> dict[str, str]:
    price = _decimal(exact_number(step["unit_price"]))
    amount = exact_number(step["amount"])
    return {
        "label": _sentence(str(step["label"])),
        "quantity": quantity_text(exact_number(step["quantity"]), currency),
        "unit_price": unit_price_text(price, currency),
        "amount": unit_price_text(_decimal(amount), currency),
    }


def settlements(note: CreditNote) -> list[tuple[str, int]]:
    """Where a note's amount went, way by way."""
    ways = (
        ("Taken off what was due", note.reduces_due_minor),
        ("Refunded to the card", note.refund_minor),
        ("Added to your credit", note.credit_minor),
        ("Settled without a card", note.out_of_band_minor),
    )
    return [(way, minor) for way, minor in ways if minor]


def _credit_note(note: CreditNote) -> dict[str, str]:
    ways = ", ".join(way for way, _ in settlements(note)).capitalize()
    return {
        "number": note.number or "",
        "at": date_text(note.issued_at or note.created_at),
        "reason": note.reason,
        "settled": "Void" if note.state == "void" else ways,
        "amount": money_text(-note.amount_minor, note.currency),
    }


def _payment(payment: Payment) -> dict[str, str]:
    return {
        "attempt": str(payment.attempt),
        "at": date_text(payment.attempted_at),
        "amount": money_text(payment.amount_minor, payment.currency),
        "status": payment.status,
        "status_word": _PAYMENT[payment.status],
        "reason": (payment.decline_message or "") if payment.status == "failed" else "",
    }


def span_text(start: datetime, end: datetime) -> str:
    return date_text(start) if start == end else f"{date_text(start)} \u2013 {date_text(end)}"


def _address_lines(address: dict[str, Any] | None) -> list[str]:
    """An address as Stripe keeps it, in the lines of an envelope."""
    parts = address or {}
    town = " ".join(str(parts[name]) for name in ("postal_code", "city") if parts.get(name))
    lines = [parts.get("line1"), parts.get("line2"), town, parts.get("state"), parts.get("country")]
    return [str(line) for line in lines if line]


def _written_lines(text: str) -> list[str]:
    """A setting of several lines; `\\n` may be written out, as an environment file does."""
    return [line.strip() for line in text.replace("\\n", "\n").splitlines() if line.strip()]


def _plain(number: Decimal | Fraction) -> str:
    """The magnitude, without exponent or trailing zeros."""
    text = format(_decimal(number), "f").removeprefix("-")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _decimal(number: Decimal | Fraction) -> Decimal:
    """For print: at most 12 decimals, which is all that prices and quantities have."""
    if isinstance(number, Decimal):
        return number
    return Decimal(round(number * 10**12)).scaleb(-12)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _firm(text: str) -> str:
    return text.replace(" ", _NO_BREAK)
