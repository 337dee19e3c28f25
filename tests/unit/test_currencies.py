"""Currencies with no, two and three decimals, and what of them can be charged."""

from fractions import Fraction

import pytest

from billing.balance import is_carried
from billing.currencies import charge_step, is_currency, is_too_little
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


@pytest.mark.parametrize(
    ("minor", "currency", "carried"),
    [
        (49, "USD", True),  # below 0.50
        (75, "JPY", True),  # what 0.50 dollars are worth, for an account in dollars
        (1_50, "USD", False),
        (9_99, "USD", False),
        (174_99, "HUF", True),
        (525_00, "HUF", False),
        (150, "JPY", False),
        (9_00, "ZAR", True),  # no minimum is published
        (10_00, "ZAR", False),
        (0, "USD", False),
        (-20, "USD", False),
    ],
)
def test_only_what_may_be_too_little_for_a_card_is_carried_over(
    minor: int, currency: str, carried: bool
) -> None:
    assert is_carried(Money(minor, currency)) is carried


@pytest.mark.parametrize(
    ("minor", "currency", "too_little"),
    [(0, "USD", False), (49, "USD", True), (50, "USD", False), (29, "GBP", True), (1, "ZAR", False)],
)
def test_a_known_minimum_says_what_no_card_is_charged(minor: int, currency: str, too_little: bool) -> None:
    assert is_too_little(minor, currency) is too_little
