"""Exact numbers as text."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest

from billing.errors import InvalidTerms
from billing.exact import exact_number, exact_text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (Fraction(3, 2), "1.5"),
        (Fraction(-3, 2), "-1.5"),
        (Fraction(1, 1000), "0.001"),
        (Fraction(-1, 8), "-0.125"),
        (Fraction(10, 3), "10/3"),
        (Fraction(-1, 3), "-1/3"),
        (Fraction(0), "0"),
        (1000, "1000"),
    ],
)
def test_a_number_and_its_text(number: Fraction, text: str) -> None:
    assert exact_text(number) == text
    assert exact_number(text) == number


def test_integers_decimals_and_fractions_are_read_exactly() -> None:
    assert exact_number(3) == 3
    assert exact_number(Decimal("1E-7")) == Fraction(1, 10**7)
    assert exact_number(Fraction(1, 3)) == Fraction(1, 3)


@pytest.mark.parametrize(
    "value", [0.1, True, None, "", " 1", "1.", ".5", "1e3", "1_000", "1/0", "NaN", "１", Decimal("NaN"), [1]]
)
def test_anything_else_is_refused_and_the_field_is_named(value: object) -> None:
    with pytest.raises(InvalidTerms) as refusal:
        exact_number(value, field="unit_price")
    assert refusal.value.field == "unit_price"


def test_a_decimal_too_long_to_read_is_written_as_a_fraction() -> None:
    tiny = Fraction(1, 2**41)
    assert exact_text(tiny) == f"1/{2**41}"
    assert exact_number(exact_text(tiny)) == tiny
