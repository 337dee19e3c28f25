"""Bundles: one price for several products, and the discount that each member carries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from billing.errors import InvalidTerms
from billing.money import Money, round_half_away


@dataclass(frozen=True, slots=True)
class BundleMember:
    """A product in a bundle: its own price for one unit, and how many units the bundle's price covers."""

    key: str
    list_price: Money
    listed_quantity: int

    def __post_init__(self) -> None:
        if self.listed_quantity < 0 or self.list_price.minor < 0:
            raise InvalidTerms("a bundle member has no negative price or quantity", field=self.key)

    @property
    def listed_total(self) -> Money:
        """What the covered units cost outside the bundle."""
        return self.list_price.scaled(self.listed_quantity)


def bundle_discount(price: Money, members: Sequence[BundleMember]) -> Money:
    """The exact difference between the members' list prices and the bundle's price, >= 0.

    Raises: InvalidTerms for a bundle that costs more than its parts, CurrencyMismatch.
    """
    discount = Money.total((member.listed_total for member in members), price.currency) - price
    if discount.minor < 0:
        raise InvalidTerms("the bundle costs more than its parts", field="price")
    return discount


def allocate_discount(discount: Money, members: Sequence[BundleMember]) -> dict[str, Money]:
    """Split a bundle's discount over its members by list price, to the minor unit.

    No member's part exceeds its listed total. Raises: InvalidTerms for a repeated key or a discount
    outside zero and the members' total, CurrencyMismatch.
    """
    totals = [member.listed_total for member in members]
    if len({member.key for member in members}) != len(members):
        raise InvalidTerms("a bundle names each member once", field="members")
    if not Money.zero(discount.currency) <= discount <= Money.total(totals, discount.currency):
        raise InvalidTerms("must lie between zero and the members' list price", field="discount")
    parts = discount.allocated([total.minor for total in totals])
    return {member.key: part for member, part in zip(members, parts, strict=True)}


def saving_percent(price: Money, list_price: Money) -> int:
    """The saving as it is shown, in whole per cent: 54.00 instead of 60.00 is 10."""
    saved = list_price - price
    if not list_price.minor:
        return 0
    return round_half_away(Fraction(saved.minor * 100, list_price.minor))
