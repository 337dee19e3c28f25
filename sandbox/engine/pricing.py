"""Quantity and price to an amount, exact in between and rounded once, half away from zero."""

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

from .. import Doc
from ..errors import invalid


@dataclass(frozen=True)
class Charge:
    """One line's worth of a price: an exact amount in minor units, and what to print."""

    exact: Fraction
    quantity: Decimal
    unit_amount: Decimal | None
    note: str = ""

    @property
    def amount(self) -> int:
        return rounded(self.exact)


# Three decimals, of which the card networks know two: an amount ends in 0.
_THREE_DECIMALS = frozenset(("bhd", "iqd", "jod", "kwd", "lyd", "omr", "tnd"))


def rounded(value: Fraction, currency: str = "") -> int:
    """To a whole minor unit, or to what `currency` can be charged in; half away from zero."""
    step = 10 if currency in _THREE_DECIMALS else 1
    whole = (abs(value) / step * 2 + 1) // 2 * step
    return int(whole) if value >= 0 else -int(whole)


def plain(value: Decimal | None) -> str | None:
    """A decimal as Stripe writes it: no exponent, no trailing zeros after the point."""
    if value is None:
        return None
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def figures(price: Doc, currency: str) -> dict[str, Any]:
    """The price's amounts in `currency`: its own, or one of its `currency_options`.

    Raises: ApiError 400 when the price does not have that currency.
    """
    if price["currency"] == currency:
        return {
            "unit_amount_decimal": price["unit_amount_decimal"],
            "tiers": price["_tiers"],
            "tax_behavior": price["tax_behavior"],
        }
    option = (price["_currency_options"] or {}).get(currency)
    if option is None:
        raise invalid(
            f"The price specified only supports `{price['currency']}`. This doesn't match the "
            f"expected currency: "
            f"`{currency}`.",
            param="items",
        )
    return {
        "unit_amount_decimal": option["unit_amount_decimal"],
        "tiers": option.get("tiers"),
        "tax_behavior": option["tax_behavior"],
    }


def charges(price: Doc, quantity: int, currency: str) -> list[Charge]:
    """The lines that `quantity` of `price` makes: one, or for graduated tiers one for each tier used."""
    figure = figures(price, currency)
    if price["billing_scheme"] == "tiered":
        tiers = figure["tiers"]
        return (
            _graduated(tiers, quantity) if price["tiers_mode"] == "graduated" else [_volume(tiers, quantity)]
        )
    unit = Decimal(figure["unit_amount_decimal"])
    return [Charge(Fraction(unit) * _units(price, quantity), Decimal(quantity), unit)]


def total(price: Doc, quantity: int, currency: str) -> Fraction:
    """The exact whole-period amount of `quantity` of `price`."""
    return sum((charge.exact for charge in charges(price, quantity, currency)), Fraction(0))


def _units(price: Doc, quantity: int) -> int:
    transform = price["transform_quantity"]
    if transform is None:
        return quantity
    divisor = transform["divide_by"]
    return int(-(-quantity // divisor) if transform["round"] == "up" else quantity // divisor)


def _amounts(tier: dict[str, Any]) -> tuple[Decimal, Decimal]:
    return Decimal(tier["unit_amount_decimal"] or 0), Decimal(tier["flat_amount_decimal"] or 0)


def _volume(tiers: list[dict[str, Any]], quantity: int) -> Charge:
    tier = next(tier for tier in tiers if tier["up_to"] is None or quantity <= tier["up_to"])
    unit, flat = _amounts(tier)
    return Charge(Fraction(unit) * quantity + Fraction(flat), Decimal(quantity), unit)


def _graduated(tiers: list[dict[str, Any]], quantity: int) -> list[Charge]:
    made, floor = [], 0
    for number, tier in enumerate(tiers, start=1):
        ceiling = quantity if tier["up_to"] is None else min(quantity, tier["up_to"])
        inside = max(0, ceiling - floor)
        if inside or number == 1:
            unit, flat = _amounts(tier)
            exact = Fraction(unit) * inside + (Fraction(flat) if inside or quantity == 0 else 0)
            made.append(Charge(exact, Decimal(inside), unit, f" (Tier {number})"))
        if tier["up_to"] is None or quantity <= tier["up_to"]:
            break
        floor = tier["up_to"]
    return made
