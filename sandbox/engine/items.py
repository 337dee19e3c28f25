"""Subscription items: their documents, their periods, and the lines that a period of them makes."""

from decimal import Decimal
from fractions import Fraction
from typing import Any

from .. import Doc
from ..errors import invalid
from ..ids import new_id
from ..times import period_at
from ..world import World, clock_of
from . import discounts
from .inline import inline_price
from .lines import LineTerms, describe, item_parent, new_line
from .pricing import charges, figures, rounded
from .totals import net, recompute

MAX_ITEMS = 20


def items_of(world: World, subscription: Doc) -> list[Doc]:
    return world.tx.select("subscription_item", subscription=subscription["id"])


def price_of(world: World, item: Doc) -> Doc:
    return world.tx.get("price", item["_price"])


def new_item(world: World, subscription: Doc, customer: Doc, params: dict[str, Any], index: int) -> Doc:
    """A new item of a subscription, its period still to be set.

    Raises: ApiError 400 for a price that is unknown, archived, one-time, or of another currency.
    """
    price = recurring_price(world, params, index)
    figures(price, subscription["currency"])
    item: Doc = {
        "id": new_id("subscription_item"),
        "object": "subscription_item",
        "billed_until": None,
        "billing_thresholds": None,
        "created": world.now_of(customer),
        "current_period_end": 0,
        "current_period_start": 0,
        "current_trial": None,
        "discounts": [],
        "metadata": params.get("metadata") or {},
        "quantity": _quantity(params, 1, index),
        "subscription": subscription["id"],
        "_billed": None,
        "_clock": clock_of(customer),
        "_price": price["id"],
        "_tax_rates": rates_named(world, params.get("tax_rates"), f"items[{index}][tax_rates]"),
    }
    item["discounts"] = discounts.put_on(world, params.get("discounts"), item, customer)
    return world.tx.add(item)


def _quantity(params: dict[str, Any], default: int, index: int) -> int:
    quantity = params.get("quantity", default)
    if not isinstance(quantity, int) or quantity < 0:
        raise invalid("This value must be greater than or equal to 0.", param=f"items[{index}][quantity]")
    return quantity


def recurring_price(world: World, params: dict[str, Any], index: int) -> Doc:
    """The recurring, active price that an item names or describes (`price_data`)."""
    if params.get("price_data"):
        price = inline_price(world, params.pop("price_data"), param=f"items[{index}][price_data]")
        params["price"] = price["id"]
    name = params.get("price") or params.get("plan")
    if not name:
        raise invalid(
            f"Missing required param: items[{index}][price].",
            param=f"items[{index}][price]",
            code="parameter_missing",
        )
    price = world.tx.get("price", name, param=f"items[{index}][price]")
    if price["type"] != "recurring":
        raise invalid(
            "The price specified is set to `type=one_time` but this field only accepts "
            "prices with `type=recurring`.",
            param=f"items[{index}][price]",
        )
    if not price["active"]:
        raise invalid(
            "The price specified is inactive. This field only accepts active prices.",
            param=f"items[{index}][price]",
        )
    return price


def change_item(world: World, item: Doc, customer: Doc, params: dict[str, Any], index: int) -> None:
    """Apply an item's update; a new price without a quantity puts the quantity back to 1, as Stripe does."""
    if params.keys() & {"price", "plan", "price_data"}:
        price = recurring_price(world, params, index)
        if price["id"] != item["_price"]:
            item["_price"] = price["id"]
            item["quantity"] = 1
    item["quantity"] = _quantity(params, item["quantity"], index)
    if "metadata" in params:
        item["metadata"] = merged_metadata(item["metadata"], params["metadata"])
    if "tax_rates" in params:
        item["_tax_rates"] = rates_named(world, params["tax_rates"], f"items[{index}][tax_rates]")
    item["discounts"] = discounts.replaced(world, params, item, customer)


def merged_metadata(current: dict[str, str], change: Any) -> dict[str, str]:
    """Metadata after an update: keys merge, an empty value unsets its key, an empty string unsets all."""
    if change == "":
        return {}
    return {key: value for key, value in {**current, **(change or {})}.items() if value != ""}


def rates_named(world: World, requested: Any, param: str) -> list[str]:
    """Tax rate ids, checked."""
    return [str(world.tx.get("tax_rate", rate, param=param)["id"]) for rate in requested or []]


def check_items(world: World, items: list[Doc]) -> None:
    """The limits of one subscription: 1 to 20 items, no price twice."""
    if not items:
        raise invalid("A subscription must have at least one active item.", param="items")
    if len(items) > MAX_ITEMS:
        raise invalid(f"A subscription can have at most {MAX_ITEMS} items.", param="items")
    names = [item["_price"] for item in items]
    if len(set(names)) < len(names):
        raise invalid("You cannot have two subscription items with the same price.", param="items")


def set_period(world: World, subscription: Doc, item: Doc, moment: int) -> None:
    """Give the item the period of its price, counted from the subscription's anchor, that holds `moment`."""
    recurring = price_of(world, item)["recurring"]
    start, end = period_at(
        subscription["billing_cycle_anchor"], recurring["interval"], recurring["interval_count"], moment
    )
    item |= {"current_period_start": start, "current_period_end": end}


def period_of(item: Doc) -> tuple[int, int]:
    return item["current_period_start"], item["current_period_end"]


def period_lines(
    world: World, subscription: Doc, item: Doc, invoice_id: str | None, *, share: Fraction = Fraction(1)
) -> list[Doc]:
    """The lines for the item's current period, or for a `share` of it (a first stub period)."""
    price = price_of(world, item)
    product = world.tx.get("product", price["product"])
    currency = subscription["currency"]
    behavior = figures(price, currency)["tax_behavior"]
    made = []
    for charge in charges(price, item["quantity"], currency):
        terms = LineTerms(
            amount=rounded(charge.exact * share, currency),
            currency=currency,
            description=describe(charge, product, price, currency),
            period=period_of(item),
            parent=item_parent(item),
            quantity=charge.quantity,
            price=price,
            unit_amount=charge.unit_amount,
            discounts=item["discounts"],
            metadata=item["metadata"],
            tax_rates=item["_tax_rates"],
            tax_behavior=behavior,
        )
        made.append(new_line(terms, invoice_id))
    return made


def trial_line(world: World, subscription: Doc, item: Doc, invoice_id: str | None) -> Doc:
    """The free line of a trial period."""
    price = price_of(world, item)
    product = world.tx.get("product", price["product"])
    terms = LineTerms(
        amount=0,
        currency=subscription["currency"],
        description=f"Trial period for {product['name']}",
        period=period_of(item),
        parent=item_parent(item),
        quantity=Decimal(item["quantity"]),
        price=price,
        unit_amount=Decimal(0),
        metadata=item["metadata"],
        tax_rates=item["_tax_rates"],
    )
    return new_line(terms, invoice_id)


def note_billed(invoice: Doc, items: list[Doc]) -> None:
    """Remember what each item was really debited for its period: later credits are shares of that."""
    for item in items:
        lines = [line for line in invoice["_lines"] if _made_by(line, item)]
        item["_billed"] = {
            "net": sum(net(line) for line in lines),
            "start": item["current_period_start"],
            "end": item["current_period_end"],
            "invoice": invoice["id"],
            "lines": [line["id"] for line in lines],
        }


def _made_by(line: Doc, item: Doc) -> bool:
    details = (line["parent"] or {}).get("subscription_item_details")
    return bool(details and details["subscription_item"] == item["id"] and not details["proration"])


def full_net(world: World, subscription: Doc, item: Doc) -> int:
    """A whole period of the item after the discounts that it would get on an invoice of all items."""
    lines: list[Doc] = []
    own: list[Doc] = []
    for other in items_of(world, subscription):
        made = period_lines(world, subscription, other, None)
        lines += made
        own += made if other["id"] == item["id"] else []
    now = world.now_of(subscription)
    pretend: Doc = {
        "_lines": lines,
        "_default_tax_rates": [],
        "discounts": discounts.live(world, subscription["discounts"], now),
        "customer_tax_exempt": None,
    }
    recompute(world.tx, pretend)
    return sum(net(line) for line in own)
