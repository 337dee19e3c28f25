"""An invoice once more, from its lines as they are stored: its discounts, its tax, its sums."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from billing.discounts import Discount
from billing.exact import exact_number
from billing.invoicing import DraftLine, InvoiceDraft, TaxTerms, build_invoice
from billing.money import Money


@dataclass(frozen=True, slots=True)
class Stored:
    """What an invoice says of itself, in minor units; the amounts of tax and discount per line by its key."""

    subtotal: int
    discount: int
    tax: int
    payable: int
    line_discounts: Mapping[str, int]
    line_taxes: Mapping[str, int]


def recorded_discounts(records: Sequence[Sequence[Mapping[str, Any]]], currency: str) -> list[Discount]:
    """The discounts of an invoice in their sequence, from what each of its lines says that lowered it.

    An amount that was recorded without the whole is the sum of its parts.
    """
    first: dict[str, Mapping[str, Any]] = {}
    parts: dict[str, int] = {}
    for record in (each for line in records for each in line):
        code = str(record["code"])
        first.setdefault(code, record)
        parts[code] = parts.get(code, 0) + int(record["amount_minor"])
    sequence = sorted(first, key=lambda code: int(first[code].get("number", 0)))
    return [_discount(first[code], parts[code], currency) for code in sequence]


def _discount(record: Mapping[str, Any], parts: int, currency: str) -> Discount:
    listed = record.get("products")
    products = None if listed is None else frozenset(map(str, listed))
    code, percent = str(record["code"]), record.get("percent_off")
    if percent is not None:
        return Discount(code, percent=exact_number(percent), products=products)
    whole = record.get("amount_off_minor")
    return Discount(code, amount=Money(parts if whole is None else int(whole), currency), products=products)


def rebuilt(
    lines: Sequence[DraftLine],
    currency: str,
    records: Sequence[Sequence[Mapping[str, Any]]],
    tax: TaxTerms | None,
) -> InvoiceDraft:
    """The invoice before credit, made anew of lines without discount and tax. As `build_invoice`."""
    return build_invoice(lines, currency, recorded_discounts(records, currency), tax, Money.zero(currency))


def gaps(built: InvoiceDraft, stored: Stored) -> dict[str, int]:
    """Where an invoice differs from itself made anew: name of a figure -> by how many minor units more."""
    figures = {
        "subtotal": built.subtotal.minor - stored.subtotal,
        "discount": built.discount.minor - stored.discount,
        "tax": built.tax.minor - stored.tax,
        "payable": built.payable.minor - stored.payable,
    }
    for line in built.lines:
        discount, tax = (part.minor if part else 0 for part in (line.discount, line.tax))
        figures[f"discount of {line.key}"] = discount - stored.line_discounts[line.key]
        figures[f"tax of {line.key}"] = tax - stored.line_taxes[line.key]
    return {name: gap for name, gap in figures.items() if gap}
