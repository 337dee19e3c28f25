"""A credit note's document as text: every figure, date and word that is printed."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from models.catalog import Product
from models.credit_notes import CreditNote, CreditNoteLine
from models.document_queries import NoteDocument
from models.invoices import Invoice, InvoiceLine
from tasks.document_text import (
    color_of,
    customer_text,
    date_text,
    money_text,
    quantity_text,
    settlements,
    span_text,
    tax_name,
)

_STATES = {"pending": "Pending", "issued": "Issued", "void": "Void", "refused": "Refused"}

_Row = tuple[CreditNoteLine, InvoiceLine, Product]


def note_text(document: NoteDocument, seller: dict[str, Any]) -> dict[str, Any]:
    """All that the template prints, JSON-safe."""
    note, invoice = document.found.note, document.invoice
    amount = money_text(note.amount_minor, note.currency)
    return {
        "title": f"Credit note {note.number}" if note.number else "Pending credit note",
        "kind": "Credit note",
        "status": "void" if note.state in ("void", "refused") else note.state,
        "status_word": _STATES[note.state],
        "headline": "Void: nothing is credited" if note.state == "void" else f"{amount} credited",
        "pay_url": None,
        "seller": seller,
        "addressed": "Credited to",
        "customer": customer_text(document.organization),
        "facts": _facts(note, invoice),
        "reason": note.reason,
        "groups": _groups(document.found.lines, note.currency),
        "totals": _totals(note, invoice),
        "settled": [[way, money_text(minor, note.currency)] for way, minor in settlements(note)],
    }


def _facts(note: CreditNote, invoice: Invoice) -> list[list[str]]:
    facts = [
        ["Credit note number", note.number or "not yet numbered"],
        ["Issued", date_text(note.issued_at) if note.issued_at else "not yet issued"],
        ["For invoice", invoice.number or ""],
    ]
    if invoice.finalized_at is not None:
        facts.append(["Invoice issued", date_text(invoice.finalized_at)])
    return [*facts, ["Currency", note.currency]]


def _groups(rows: Sequence[_Row], currency: str) -> list[dict[str, Any]]:
    places = {product.id: place for place, (_, _, product) in reversed(list(enumerate(rows)))}
    by_product = sorted(rows, key=lambda row: places[row[2].id])
    groups = []
    for _, each in groupby(by_product, key=lambda row: row[2].id):
        members = list(each)
        product = members[0][2]
        groups.append(
            {
                "name": product.name,
                "color": color_of(product),
                "amount": money_text(sum(line.total_minor for line, _, _ in members), currency),
                "lines": [_line(line, source) for line, source, _ in members],
            }
        )
    return groups


def _line(line: CreditNoteLine, source: InvoiceLine) -> dict[str, str]:
    span = span_text(source.period_start_at, source.period_end_at)
    whole = quantity_text(source.quantity, line.currency)
    part = f", {quantity_text(line.quantity, line.currency)} of {whole}" if line.quantity else ""
    return {
        "description": source.description,
        "note": f"{span}{part}",
        "amount": money_text(line.amount_minor, line.currency),
        "discount": money_text(-line.discount_minor, line.currency) if line.discount_minor else "",
        "tax": money_text(line.tax_minor, line.currency) if line.tax_minor else "",
        "total": money_text(line.total_minor, line.currency),
    }


def _totals(note: CreditNote, invoice: Invoice) -> list[dict[str, str]]:
    rows = [("Subtotal", note.subtotal_minor, "plain")]
    if note.discount_minor:
        rows.append(("Discount", -note.discount_minor, "plain"))
    taxed = invoice.tax_percentage is not None
    if taxed and not invoice.tax_inclusive:
        net = money_text(note.subtotal_minor - note.discount_minor, note.currency)
        rows.append((f"{tax_name(invoice)} on {net}", note.tax_minor, "plain"))
    rows.append(("Total credited", note.amount_minor, "due"))
    if taxed and invoice.tax_inclusive:
        rows.append((f"of which {tax_name(invoice)}", note.tax_minor, "faint"))
    return [
        {"name": name, "amount": money_text(minor, note.currency), "weight": weight}
        for name, minor, weight in rows
    ]
