"""Invoice items from requests: `amount`, or a price (named or described) and a quantity."""

from decimal import Decimal
from fractions import Fraction
from typing import Any

from .. import Doc
from ..errors import invalid
from ..ids import new_id
from ..world import World, clock_of
from .discounts import put_on
from .inline import inline_price
from .items import rates_named
from .lines import pricing_of
from .pricing import figures, plain, rounded
from .proration import pending_item


def new_entry(world: World, customer: Doc, params: dict[str, Any], *, currency: str | None) -> Doc:
    """Store an invoice item that is on no invoice yet.

    Raises: ApiError 400 without an amount, or when its currency is not the invoice's (`currency`).
    """
    price = _price(world, params)
    asked = (params.get("currency") or (price or {}).get("currency") or customer["currency"] or "").lower()
    if not asked:
        raise invalid("Missing required param: currency.", param="currency", code="parameter_missing")
    if currency and asked != currency:
        raise invalid(
            f"The currency of the invoice item ({asked}) must match that of the invoice ({currency}).",
            param="currency",
        )
    entry = pending_item(
        world, customer_id=customer["id"], clock=clock_of(customer), amount=0, currency=asked
    )
    set_amount(entry, params, price)
    describe(world, entry, params, customer)
    customer["currency"] = customer["currency"] or asked
    return world.tx.add(entry)


def _price(world: World, params: dict[str, Any]) -> Doc | None:
    if params.get("price_data"):
        return inline_price(world, params["price_data"], param="price_data")
    named = (params.get("pricing") or {}).get("price")
    return world.tx.get("price", named, param="pricing[price]") if named else None


def set_amount(entry: Doc, params: dict[str, Any], price: Doc | None) -> None:
    """Work out amount, quantity and pricing.

    Raises: ApiError 400 when there is nothing to work them out from, or amount and price are both given.
    """
    given = params.get("quantity_decimal")
    quantity = Decimal(params.get("quantity", 1)) if given is None else given
    unit = params.get("unit_amount_decimal")
    if price is not None:
        if params.get("amount") is not None:
            raise invalid("You may only specify one of these parameters: amount, price.", param="amount")
        unit = Decimal(figures(price, entry["currency"])["unit_amount_decimal"])
        entry["_tax_behavior"] = price["tax_behavior"]
    if unit is not None:
        amount = rounded(Fraction(unit) * Fraction(quantity))
    elif params.get("amount") is not None:
        amount, quantity = params["amount"], Decimal(1)
    else:
        raise invalid("Missing required param: amount.", param="amount", code="parameter_missing")
    entry |= {
        "amount": amount,
        "discountable": amount >= 0,
        "pricing": pricing_of(price, unit),
        "quantity": int(quantity),
        "quantity_decimal": plain(quantity),
    }
    if price is None and unit is not None:
        entry["pricing"] = {
            "type": "price_details",
            "price_details": None,
            "unit_amount_decimal": plain(unit),
        }


def describe(world: World, entry: Doc, params: dict[str, Any], customer: Doc) -> None:
    """Set what the request says beyond the amount."""
    if params.get("description") is not None:
        entry["description"] = params["description"] or None
    elif entry["description"] is None:
        product = ((entry["pricing"] or {}).get("price_details") or {}).get("product")
        entry["description"] = world.tx.get("product", product)["name"] if product else None
    if isinstance(params.get("discountable"), bool):
        entry["discountable"] = params["discountable"]
    if params.get("period"):
        period = params["period"]
        if period["end"] < period["start"]:
            raise invalid("period[end] must be greater than or equal to period[start].", param="period[end]")
        entry["period"] = {"start": period["start"], "end": period["end"]}
    if "tax_rates" in params:
        entry["_tax_rates"] = rates_named(world, params["tax_rates"], "tax_rates")
    if "discounts" in params:
        entry["discounts"] = put_on(world, params["discounts"], entry, customer)
    entry["metadata"] = entry["metadata"] | (params.get("metadata") or {})
    if not entry["discountable"]:
        entry["net_amount"] = entry["amount"]


def set_tax_amounts(world: World, entry: Doc, given: list[dict[str, Any]]) -> None:
    """Take the caller's own tax figures instead of rates; each makes (or reuses) an archived rate."""
    entry["_tax_amounts"] = [
        {
            "amount": tax["amount"],
            "tax_behavior": "inclusive" if tax["tax_rate_data"]["inclusive"] else "exclusive",
            "tax_rate_details": {"tax_rate": _rate_for(world, tax["tax_rate_data"])},
            "taxability_reason": tax.get("taxability_reason") or "not_available",
            "taxable_amount": tax["taxable_amount"],
            "type": "tax_rate_details",
        }
        for tax in given
    ]


def _rate_for(world: World, described: dict[str, Any]) -> str:
    percentage = float(described["percentage"])
    wanted = (described["display_name"], percentage, described["inclusive"])
    for rate in world.tx.select("tax_rate"):
        if not rate["active"] and (rate["display_name"], rate["percentage"], rate["inclusive"]) == wanted:
            return str(rate["id"])
    rate = dict.fromkeys(("description", "flat_amount", "jurisdiction", "jurisdiction_level", "state")) | {
        "id": new_id("tax_rate"),
        "object": "tax_rate",
        "active": False,
        "country": described.get("country"),
        "created": world.wall(),
        "display_name": described["display_name"],
        "effective_percentage": percentage,
        "inclusive": described["inclusive"],
        "livemode": False,
        "metadata": {},
        "percentage": percentage,
        "rate_type": "percentage",
        "tax_type": described.get("tax_type"),
    }
    return str(world.tx.add(rate)["id"])


def reprice(world: World, entry: Doc, params: dict[str, Any]) -> None:
    """Change the amount of an entry: what the request leaves out stays as it was."""
    price = _price(world, params)
    pricing = entry["pricing"] or {}
    if price is None and pricing.get("price_details") and params.get("amount") is None:
        price = world.tx.get("price", pricing["price_details"]["price"])
    filled = dict(params)
    if not params.keys() & {"quantity", "quantity_decimal", "amount"}:
        filled["quantity_decimal"] = Decimal(entry["quantity_decimal"])
    if price is None and params.get("amount") is None and "unit_amount_decimal" not in params:
        unit = pricing.get("unit_amount_decimal")
        filled["unit_amount_decimal"] = Decimal(unit if unit is not None else entry["amount"])
    discountable = entry["discountable"]
    set_amount(entry, filled, price)
    entry["discountable"] = discountable and entry["amount"] >= 0
