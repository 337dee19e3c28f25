"""Golden invoices: text that an accountant can check, renewed only by --update-golden."""

from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent.parent / "golden"


def invoice_text(invoice: dict[str, Any], slug: str) -> str:
    """An invoice as plain text; amounts in minor units, the organization's random slug left out."""
    number = (invoice["number"] or "without number").replace(slug.upper(), "ORG")
    lines = [
        f"{number}  {invoice['kind']}  {invoice['status']}  {invoice['currency']}",
        f"period {_day(invoice['period_start_at'])} to {_day(invoice['period_end_at'])}",
        "",
    ]
    for position, line in enumerate(invoice["lines"], start=1):
        price = f" x {line['unit_price']}" if line["unit_price"] is not None else ""
        lines.append(f"{position:>3}  {line['description']}")
        lines.append(f"     {_day(line['period_start_at'])} to {_day(line['period_end_at'])}")
        lines.append(
            f"     {line['quantity']}{price} = {line['amount_minor']}"
            f"   discount {line['discount_minor']}   tax {line['tax_minor']}"
        )
    figures = [
        (name, invoice[f"{name}_minor"])
        for name in ("subtotal", "discount", "tax", "credit", "total", "paid")
    ]
    lines += ["", *(f"{name:>10} {amount:>10}" for name, amount in figures)]
    return "\n".join(lines) + "\n"


def note_text(note: dict[str, Any], slug: str) -> str:
    """A credit note as plain text; amounts in minor units."""
    number, invoice = (
        str(each).replace(slug.upper(), "ORG") for each in (note["number"], note["invoice_number"])
    )
    lines = [f"{number}  of {invoice}  {note['state']}  {note['currency']}", f"reason: {note['reason']}", ""]
    for position, line in enumerate(note["lines"], start=1):
        lines.append(f"{position:>3}  {line['description']}")
        lines.append(
            f"     {line['amount_minor']}   discount {line['discount_minor']}   tax {line['tax_minor']}"
            f"   = {line['total_minor']}"
        )
    names = ("subtotal", "discount", "tax", "amount", "reduces_due", "refund", "credit", "out_of_band")
    lines += ["", *(f"{name:>12} {note[f'{name}_minor']:>10}" for name in names)]
    return "\n".join(lines) + "\n"


def _day(instant: str) -> str:
    return instant[:16].replace("T", " ")


def expect(text: str, name: str, *, update: bool) -> None:
    """Hold an invoice against its golden file, or write the file anew."""
    path = FOLDER / name
    if update:
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")
