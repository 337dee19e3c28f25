"""Prorations: a credit for unused time on the old terms, a charge for the rest on the new, to the second.

The credit is a share of what was really debited for the item (after discounts), as flexible billing does; the
charge is the same share of the new terms after the subscription's discounts. Neither is discounted again.
"""

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

from .. import Doc
from ..ids import new_id
from ..times import day_text
from ..world import World, clock_of
from .items import full_net, period_of, price_of
from .lines import pricing_of
from .pricing import plain, rounded


@dataclass(frozen=True)
class OldTerms:
    """What an item was before a change."""

    price: Doc
    quantity: int
    period: tuple[int, int]
    billed: dict[str, Any] | None


def old_terms(world: World, item: Doc) -> OldTerms:
    return OldTerms(price_of(world, item), item["quantity"], period_of(item), item["_billed"])


def share_left(period: tuple[int, int], moment: int) -> Fraction:
    """The part of [start, end) that lies at or after `moment`; 0..1."""
    start, end = period
    return Fraction(end - min(max(moment, start), end), end - start)


def credit_unused(world: World, subscription: Doc, item: Doc, old: OldTerms, moment: int) -> Doc | None:
    """A pending item that gives back the time after `moment`; None when nothing was debited for it."""
    if old.billed is None or old.billed["net"] == 0:
        return None
    left = share_left((old.billed["start"], old.billed["end"]), moment)
    amount = -rounded(old.billed["net"] * left, subscription["currency"])
    product = world.tx.get("product", old.price["product"])
    entry = _pending(
        world,
        subscription,
        item,
        price=old.price,
        amount=amount,
        quantity=old.quantity,
        period=(moment, old.billed["end"]),
    )
    entry["description"] = (
        f"Unused time on {_counted(old.quantity)}{product['name']} after {day_text(moment)}"
    )
    details = {"invoice": old.billed["invoice"], "invoice_line_items": old.billed["lines"]}
    if old.billed["invoice"]:
        entry["proration_details"]["credited_items"] = {
            "invoice_item": None,
            "invoice_line_item_details": details,
            "type": "invoice_line_items",
        }
    return world.tx.add(entry)


def charge_remaining(world: World, subscription: Doc, item: Doc, moment: int) -> Doc:
    """A pending item for the rest of the item's period on its present terms; later credits share it."""
    period = period_of(item)
    left = share_left(period, moment)
    amount = rounded(full_net(world, subscription, item) * left, subscription["currency"])
    price = price_of(world, item)
    product = world.tx.get("product", price["product"])
    entry = _pending(
        world,
        subscription,
        item,
        price=price,
        amount=amount,
        quantity=item["quantity"],
        period=(moment, period[1]),
    )
    entry["description"] = (
        f"Remaining time on {_counted(item['quantity'])}{product['name']} after {day_text(moment)}"
    )
    item["_billed"] = {"net": amount, "start": moment, "end": period[1], "invoice": None, "lines": []}
    return world.tx.add(entry)


def _counted(quantity: int) -> str:
    return "" if quantity == 1 else f"{quantity} × "


def _pending(
    world: World,
    subscription: Doc,
    item: Doc,
    *,
    price: Doc,
    amount: int,
    quantity: int,
    period: tuple[int, int],
) -> Doc:
    unit = None if quantity == 0 else Decimal(amount) / quantity
    entry = pending_item(
        world,
        customer_id=subscription["customer"],
        clock=clock_of(subscription),
        amount=amount,
        currency=subscription["currency"],
    )
    return entry | {
        "discountable": False,
        "net_amount": amount,
        "parent": {
            "type": "subscription_details",
            "subscription_details": {"subscription": subscription["id"], "subscription_item": item["id"]},
        },
        "period": {"start": period[0], "end": period[1]},
        "pricing": pricing_of(price, None if unit is None else round(unit, 12)),
        "proration": True,
        "proration_details": {"credited_items": None, "discount_amounts": []},
        "quantity": quantity,
        "quantity_decimal": str(quantity),
        "_subscription": subscription["id"],
        "_tax_rates": list(item["_tax_rates"]),
    }


def pending_item(world: World, *, customer_id: str, clock: str | None, amount: int, currency: str) -> Doc:
    """An invoice item's document with neutral values; the caller fills in its own and adds it."""
    now = world.now(clock)
    return {
        "id": new_id("invoiceitem"),
        "object": "invoiceitem",
        "amount": amount,
        "currency": currency,
        "customer": customer_id,
        "customer_account": None,
        "date": now,
        "description": None,
        "discountable": True,
        "discounts": [],
        "invoice": None,
        "livemode": False,
        "metadata": {},
        "net_amount": None,
        "parent": None,
        "period": {"start": now, "end": now},
        "pricing": None,
        "proration": False,
        "proration_details": None,
        "quantity": 1,
        "quantity_decimal": plain(Decimal(1)),
        "test_clock": clock,
        "_subscription": None,
        "_tax_amounts": None,
        "_tax_behavior": None,
        "_tax_rates": [],
    }
