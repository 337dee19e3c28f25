"""Currencies with no, two and three decimals, and what of them can be charged."""

from fractions import Fraction

import pytest

from billing.currencies import charge_step, is_currency
from billing.money import Money, format_money


@pytest.mark.parametrize("code", ["USD", "ZAR", "JPY", "KWD", "EUR", "XOF", "ZWG"])
def test_currencies_of_iso_4217_are_known(code: str) -> None:
    assert is_currency(code)


@pytest.mark.parametrize("code", ["usd", "US", "XAU", "XTS", "ABC", "BTC", ""])
def test_metals_tests_and_inventions_are_not(code: str) -> None:
    assert not is_currency(code)


@pytest.mark.parametrize(
    ("exact", "currency", "minor"),
    [
        (Fraction(1, 2), "USD", 1),
        (Fraction(1, 2), "JPY", 1),
        (Fraction(14), "KWD", 10),
        (Fraction(15), "KWD", 20),
        (Fraction(-15), "KWD", -20),
        (Fraction(149), "ISK", 100),
        (Fraction(150), "UGX", 200),
    ],
)
def test_amounts_are_rounded_to_what_can_be_charged(exact: Fraction, currency: str, minor: int) -> None:
    amount = Money.rounded(exact, currency)

    assert amount.minor == minor
    assert minor % charge_step(currency) == 0


def test_each_is_written_with_its_decimals() -> None:
    assert [format_money(Money(12_340, code)) for code in ("JPY", "USD", "KWD")] == [
        "JPY 12,340",
        "$123.40",
        "KWD 12.340",
    ]
