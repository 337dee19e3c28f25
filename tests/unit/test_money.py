"""Money: one currency at a time, one rounding rule, splits that sum to the whole."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from billing.errors import CurrencyMismatch
from billing.money import Money, format_money, minor_exponent, round_half_away


@pytest.mark.parametrize(
    ("number", "rounded"),
    [
        ("0.5", 1),
        ("-0.5", -1),
        ("0.499999999999", 0),
        ("1.5", 2),
        ("2.5", 3),
        ("-2.5", -3),
        ("7", 7),
        ("1/3", 0),
    ],
)
def test_a_half_goes_away_from_zero(number: str, rounded: int) -> None:
    assert round_half_away(Fraction(number)) == rounded


def test_amounts_of_one_currency_add_and_compare() -> None:
    five, three = Money(5_00, "USD"), Money(3_00, "USD")
    assert five + three == Money(8_00, "USD")
    assert three - five == Money(-2_00, "USD")
    assert -five == Money(-5_00, "USD")
    assert three < five and three <= five and five > three and five >= three
    same = Money(5_00, "USD")
    assert same == five and not same < five and not same > five
    assert max(three, five) is five
    assert Money.total([five, three, three], "USD") == Money(11_00, "USD")
    assert Money.total([], "ZAR") == Money.zero("ZAR")


def test_two_currencies_are_never_equal_and_never_meet() -> None:
    dollars, rand = Money(5_00, "USD"), Money(5_00, "ZAR")
    assert dollars != rand
    with pytest.raises(CurrencyMismatch):
        dollars + rand
    with pytest.raises(CurrencyMismatch):
        dollars - rand
    with pytest.raises(CurrencyMismatch):
        assert dollars < rand
    with pytest.raises(CurrencyMismatch):
        Money.total([dollars, rand], "USD")


@pytest.mark.parametrize("minor", [5.0, "5", Fraction(5), True, None])
def test_minor_units_are_a_plain_int(minor: Any) -> None:
    with pytest.raises(TypeError, match="minor units"):
        Money(minor, "USD")


@pytest.mark.parametrize("currency", ["usd", "US", "USDT", "U$D", "", "ÜSD"])
def test_a_currency_is_three_upper_case_letters(currency: str) -> None:
    with pytest.raises(ValueError, match="currency"):
        Money(1, currency)


def test_money_does_not_add_to_a_bare_number() -> None:
    bare: Any = 5
    with pytest.raises(TypeError):
        Money(1, "USD") + bare


def test_scaling_rounds_once() -> None:
    # Rounding a third of 1.00 first and then tripling would give 0.99.
    assert Money(1_00, "USD").scaled(Fraction(1, 3) * 3) == Money(1_00, "USD")
    assert Money(1_01, "USD").scaled(Fraction(1, 2)) == Money(51, "USD")
    assert Money(-1_01, "USD").scaled(Fraction(1, 2)) == Money(-51, "USD")


@pytest.mark.parametrize(
    ("minor", "weights", "parts"),
    [
        (100, [1, 1, 1], [34, 33, 33]),
        (-100, [1, 1, 1], [-34, -33, -33]),
        (600, [3500, 2500], [350, 250]),
        (10, [1, 0, 2], [3, 0, 7]),
        (5, [0, 0], [5, 0]),
        (0, [], []),
        (1, [Fraction(1, 3), Fraction(2, 3)], [0, 1]),
    ],
)
def test_allocation_goes_by_largest_remainder(
    minor: int, weights: list[Fraction | int], parts: list[int]
) -> None:
    assert [part.minor for part in Money(minor, "USD").allocated(weights)] == parts


def test_allocation_refuses_negative_weights_and_money_without_parts() -> None:
    with pytest.raises(ValueError, match="negative"):
        Money(10, "USD").allocated([1, -1])
    with pytest.raises(ValueError, match="nothing to allocate"):
        Money(10, "USD").allocated([])


@pytest.mark.parametrize(
    ("minor", "currency", "text"),
    [
        (123450, "USD", "$1,234.50"),
        (-300, "USD", "-$3.00"),
        (7, "USD", "$0.07"),
        (123450, "ZAR", "R 1 234,50"),
        (-123456789, "ZAR", "-R 1 234 567,89"),
        (500, "JPY", "JPY 500"),
        (1234567, "JPY", "JPY 1,234,567"),
        (1234567, "KWD", "KWD 1,234.567"),
        (123450, "CHF", "CHF 1,234.50"),
        (123450, "EUR", "€1,234.50"),
    ],
)
def test_amounts_are_written_for_people(minor: int, currency: str, text: str) -> None:
    assert format_money(Money(minor, currency)) == text


def test_minor_exponents_are_those_of_the_payment_processor() -> None:
    assert [minor_exponent(code) for code in ("JPY", "USD", "ZAR", "KWD", "XYZ")] == [0, 2, 2, 3, 2]
    # Where ISO 4217 says 0, 0 and 2.
    assert [minor_exponent(code) for code in ("ISK", "UGX", "MGA")] == [2, 2, 0]
