"""Laws of money and exact numbers."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from billing.bundles import BundleMember, allocate_discount, bundle_discount
from billing.exact import exact_number, exact_text
from billing.money import Money, format_money, minor_exponent, round_half_away
from tests.property.strategies import amounts, currencies, minors, weights


@given(amounts, weights)
def test_allocation_neither_gains_nor_loses(amount: Money, weights: list[Fraction | int]) -> None:
    assert sum(part.minor for part in amount.allocated(weights)) == amount.minor


@given(amounts, weights)
def test_no_part_is_a_minor_unit_or_more_from_its_share(amount: Money, weights: list[Fraction | int]) -> None:
    total = sum(map(Fraction, weights), Fraction(0))
    for part, weight in zip(amount.allocated(weights), weights, strict=True):
        if total:
            assert abs(part.minor - amount.minor * Fraction(weight, total)) < 1


@given(amounts, weights)
def test_a_credit_is_split_like_the_charge_it_gives_back(
    amount: Money, weights: list[Fraction | int]
) -> None:
    assert (-amount).allocated(weights) == [-part for part in amount.allocated(weights)]


@given(st.fractions())
def test_rounding_moves_by_half_a_unit_at_most_and_never_across_zero(number: Fraction) -> None:
    rounded = round_half_away(number)
    assert abs(rounded - number) <= Fraction(1, 2)
    assert rounded * number >= 0
    assert round_half_away(-number) == -rounded
    if abs(rounded - number) == Fraction(1, 2):
        assert abs(rounded) > abs(number)


@given(st.fractions())
def test_an_exact_number_comes_back_from_its_text(number: Fraction) -> None:
    if max(abs(number.numerator), number.denominator) < 10**40:
        assert exact_number(exact_text(number)) == number


@given(minors, currencies)
def test_a_written_amount_shows_every_digit(minor: int, currency: str) -> None:
    text = format_money(Money(minor, currency))
    digits = "".join(character for character in text if character.isdigit())
    assert int(digits) == abs(minor)
    assert text.startswith("-") == (minor < 0)
    assert len(digits) > minor_exponent(currency)


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 20)), min_size=1, max_size=6), st.data())
def test_a_bundle_costs_its_price_to_the_minor_unit(
    members: list[tuple[int, int]], draw: st.DataObject
) -> None:
    bundle = [
        BundleMember(str(key), Money(price, "USD"), seats) for key, (price, seats) in enumerate(members)
    ]
    listed = Money.total((member.listed_total for member in bundle), "USD")
    price = Money(draw.draw(st.integers(0, listed.minor)), "USD")
    parts = allocate_discount(bundle_discount(price, bundle), bundle)
    assert Money.total((member.listed_total - parts[member.key] for member in bundle), "USD") == price
    assert all(Money.zero("USD") <= parts[member.key] <= member.listed_total for member in bundle)
