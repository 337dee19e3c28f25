"""Bundles: the three that ship, and a discount split to the minor unit."""

from __future__ import annotations

import pytest

from billing.bundles import BundleMember, allocate_discount, bundle_discount, saving_percent
from billing.errors import CurrencyMismatch, InvalidTerms
from billing.money import Money


def usd(minor: int) -> Money:
    return Money(minor, "USD")


def members(**prices: int) -> list[BundleMember]:
    return [BundleMember(key, usd(minor), 1) for key, minor in prices.items()]


STARTER = members(autoflow=35_00, teamspace=25_00)
PROFESSIONAL = members(autoflow=75_00, buildeasy=50_00, teamspace=40_00)
ENTERPRISE = members(autoflow=149_00, buildeasy=99_00, teamspace=79_00)


@pytest.mark.parametrize(
    ("bundle", "price", "discount", "parts", "saving"),
    [
        (STARTER, 54_00, 6_00, [3_50, 2_50], 10),
        # 30.00 * 75/165 = 13.6363.., * 50/165 = 9.0909.., * 40/165 = 7.2727..: the last unit to .63
        (PROFESSIONAL, 135_00, 30_00, [13_64, 9_09, 7_27], 18),
        # 78.00 * 149/327 = 35.5412.., * 99/327 = 23.6146.., * 79/327 = 18.8440..
        (ENTERPRISE, 249_00, 78_00, [35_54, 23_62, 18_84], 24),
    ],
)
def test_the_bundles_that_ship(
    bundle: list[BundleMember], price: int, discount: int, parts: list[int], saving: int
) -> None:
    list_price = Money.total((member.listed_total for member in bundle), "USD")
    assert bundle_discount(usd(price), bundle) == usd(discount)
    allocated = allocate_discount(usd(discount), bundle)
    assert list(allocated) == [member.key for member in bundle]
    assert [part.minor for part in allocated.values()] == parts
    assert saving_percent(usd(price), list_price) == saving


def test_listed_quantities_weigh_in() -> None:
    # 35.00 + 5 * 25.00 = 160.00 for 150.00
    team = [BundleMember("autoflow", usd(35_00), 1), BundleMember("teamspace", usd(25_00), 5)]
    assert bundle_discount(usd(150_00), team) == usd(10_00)
    # 10.00 * 35/160 = 2.1875, * 125/160 = 7.8125
    assert allocate_discount(usd(10_00), team) == {"autoflow": usd(2_19), "teamspace": usd(7_81)}


def test_a_bundle_never_costs_more_than_its_parts_nor_discounts_more() -> None:
    assert bundle_discount(usd(60_00), STARTER) == usd(0)
    with pytest.raises(InvalidTerms, match="costs more"):
        bundle_discount(usd(60_01), STARTER)
    assert allocate_discount(usd(60_00), STARTER) == {"autoflow": usd(35_00), "teamspace": usd(25_00)}
    for discount in (-1, 60_01):
        with pytest.raises(InvalidTerms):
            allocate_discount(usd(discount), STARTER)


def test_members_are_named_once_in_one_currency_without_negatives() -> None:
    with pytest.raises(InvalidTerms, match="once"):
        allocate_discount(usd(1), [*STARTER, *STARTER])
    with pytest.raises(CurrencyMismatch):
        bundle_discount(Money(54_00, "ZAR"), STARTER)
    with pytest.raises(InvalidTerms):
        BundleMember("autoflow", usd(35_00), -1)
    with pytest.raises(InvalidTerms):
        BundleMember("autoflow", usd(-1), 1)


def test_the_saving_of_nothing_is_nothing() -> None:
    assert saving_percent(usd(0), usd(0)) == 0
    assert saving_percent(usd(99_50), usd(100_00)) == 1
    assert saving_percent(usd(0), usd(100_00)) == 100
