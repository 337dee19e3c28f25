"""Invoice lines: from subscription items, from invoice items, and from bare requests."""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from .. import Doc
from ..ids import new_id
from .pricing import Charge, plain


@dataclass(frozen=True, kw_only=True)
class LineTerms:
    """What any line is made of. `amount` is before discounts and exclusive taxes, in minor units."""

    amount: int
    currency: str
    description: str | None
    period: tuple[int, int]
    parent: Doc | None
    quantity: Decimal | None = None
    price: Doc | None = None
    unit_amount: Decimal | None = None
    discountable: bool = True
    discounts: list[str] = field(default_factory=list)
    metadata: dict[str, str] = field(default_factory=dict)
    tax_rates: list[str] = field(default_factory=list)
    tax_behavior: str | None = None
    tax_amounts: list[dict[str, Any]] | None = None


def new_line(terms: LineTerms, invoice_id: str | None) -> Doc:
    """A line of an invoice; its discount amounts and taxes come from the totals."""
    subscription = None
    if terms.parent:
        details = terms.parent["subscription_item_details"] or terms.parent["invoice_item_details"]
        subscription = details["subscription"]
    return {
        "id": new_id("line_item"),
        "object": "line_item",
        "amount": terms.amount,
        "currency": terms.currency,
        "description": terms.description,
        "discount_amounts": [],
        "discountable": terms.discountable,
        "discounts": list(terms.discounts),
        "invoice": invoice_id,
        "livemode": False,
        "metadata": dict(terms.metadata),
        "parent": terms.parent,
        "period": {"start": terms.period[0], "end": terms.period[1]},
        "pretax_credit_amounts": [],
        "pricing": pricing_of(terms.price, terms.unit_amount),
        "quantity": None if terms.quantity is None else int(terms.quantity),
        "quantity_decimal": plain(terms.quantity),
        "subscription": subscription,
        "subtotal": terms.amount,
        "taxes": [],
        "_tax_rates": list(terms.tax_rates),
        "_tax_behavior": terms.tax_behavior,
        "_tax_amounts": terms.tax_amounts,
    }


def pricing_of(price: Doc | None, unit_amount: Decimal | None) -> Doc | None:
    """The `pricing` hash of a line or an invoice item."""
    if price is None:
        return None
    return {
        "type": "price_details",
        "price_details": {"price": price["id"], "product": price["product"]},
        "unit_amount_decimal": plain(unit_amount),
    }


def item_parent(item: Doc, *, invoice_item: str | None = None, proration: bool = False) -> Doc:
    """The `parent` of a line that a subscription item made."""
    return {
        "type": "subscription_item_details",
        "invoice_item_details": None,
        "subscription_item_details": {
            "invoice_item": invoice_item,
            "proration": proration,
            "proration_details": {"credited_items": None},
            "subscription": item["subscription"],
            "subscription_item": item["id"],
        },
    }


def invoice_item_parent(entry: Doc) -> Doc:
    """The `parent` of a line that an invoice item made."""
    details = (entry["parent"] or {}).get("subscription_details")
    credited = (entry["proration_details"] or {}).get("credited_items")
    return {
        "type": "invoice_item_details",
        "subscription_item_details": None,
        "invoice_item_details": {
            "invoice_item": entry["id"],
            "proration": entry["proration"],
            "proration_details": {"credited_items": _credited(credited)},
            "subscription": details["subscription"] if details else None,
        },
    }


def _credited(credited: Doc | None) -> Doc | None:
    found = (credited or {}).get("invoice_line_item_details")
    return dict(found) if found else None


def line_of_invoice_item(entry: Doc, invoice_id: str) -> Doc:
    """The line that an invoice item becomes."""
    line = new_line(
        LineTerms(
            amount=entry["amount"],
            currency=entry["currency"],
            description=entry["description"],
            period=(entry["period"]["start"], entry["period"]["end"]),
            parent=invoice_item_parent(entry),
            quantity=Decimal(entry["quantity_decimal"]),
            discountable=entry["discountable"],
            discounts=entry["discounts"],
            metadata=entry["metadata"],
            tax_rates=entry["_tax_rates"],
            tax_behavior=entry["_tax_behavior"],
            tax_amounts=entry["_tax_amounts"],
        ),
        invoice_id,
    )
    line["pricing"] = entry["pricing"]
    return line


def describe(charge: Charge, product: Doc, price: Doc, currency: str) -> str:
    """`3 × Team (at $30.00 / month)`, as Stripe words a licensed line."""
    recurring = price["recurring"]
    every = recurring["interval"]
    if recurring["interval_count"] > 1:
        every = f"every {recurring['interval_count']} {every}s"
    symbol = {"usd": "$", "eur": "€", "gbp": "£", "zar": "R"}.get(currency, currency.upper() + " ")
    unit = Decimal(charge.unit_amount or 0) / 100
    shown = f"{unit:.2f}" if unit == round(unit, 2) else plain(unit)
    joiner = " " if every.startswith("every") else " / "
    return f"{plain(charge.quantity)} × {product['name']}{charge.note} (at {symbol}{shown}{joiner}{every})"
