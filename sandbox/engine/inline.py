"""Prices made inside another request (`price_data`): kept, but never active."""

from decimal import Decimal
from typing import Any

from .. import Doc
from ..errors import invalid
from ..ids import new_id
from ..world import World
from .pricing import plain


def inline_price(world: World, given: dict[str, Any], *, param: str) -> Doc:
    """The price that `price_data` describes; one-time unless it has `recurring`.

    Raises: ApiError 400 without an amount, or for an unknown product.
    """
    amount = given.get("unit_amount_decimal")
    if given.get("unit_amount") is not None:
        amount = Decimal(given["unit_amount"])
    if amount is None:
        raise invalid(
            f"Missing required param: {param}[unit_amount].",
            param=f"{param}[unit_amount]",
            code="parameter_missing",
        )
    product = _product(world, given, param)
    recurring = given.get("recurring")
    whole = int(amount) if amount == int(amount) else None
    price: Doc = {
        "id": new_id("price"),
        "object": "price",
        "active": bool(recurring),
        "billing_scheme": "per_unit",
        "created": world.wall(),
        "currency": given["currency"].lower(),
        "custom_unit_amount": None,
        "livemode": False,
        "lookup_key": None,
        "metadata": {},
        "nickname": None,
        "product": product,
        "recurring": None,
        "tax_behavior": given.get("tax_behavior") or "unspecified",
        "tiers_mode": None,
        "transform_quantity": None,
        "type": "recurring" if recurring else "one_time",
        "unit_amount": whole,
        "unit_amount_decimal": plain(amount),
        "_currency_options": {},
        "_parent": product,
        "_tiers": None,
    }
    if recurring:
        price["recurring"] = {
            "interval": recurring["interval"],
            "interval_count": recurring.get("interval_count", 1),
            "meter": None,
            "trial_period_days": None,
            "usage_type": "licensed",
        }
    return world.tx.add(price)


def _product(world: World, given: dict[str, Any], param: str) -> str:
    described = given.get("product_data")
    if not described:
        if not given.get("product"):
            raise invalid(
                f"Missing required param: {param}[product].",
                param=f"{param}[product]",
                code="parameter_missing",
            )
        return str(world.tx.get("product", given["product"], param=f"{param}[product]")["id"])
    now = world.wall()
    empty = (
        "default_price description package_dimensions shippable statement_descriptor tax_code unit_label url"
    )
    product: Doc = dict.fromkeys(empty.split()) | {
        "id": new_id("product"),
        "object": "product",
        "active": False,
        "created": now,
        "images": [],
        "livemode": False,
        "marketing_features": [],
        "metadata": described.get("metadata") or {},
        "name": described["name"],
        "type": "service",
        "unit_label": described.get("unit_label"),
        "updated": now,
    }
    return str(world.tx.add(product)["id"])
