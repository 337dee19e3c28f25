"""Exact numbers as text: what leaves for a JSON record comes back as the same Fraction."""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction

from billing.errors import InvalidTerms

_NUMBER = re.compile(r"-?[0-9]{1,40}(?:\.[0-9]{1,40}|/[0-9]{1,40})?")
_DECIMAL_BASE = 10
_MOST_DIGITS = 40
_NOT_A_NUMBER = "must be a decimal number, written as text or as an integer"


def exact_text(number: Fraction | int) -> str:
    """Write a number as a plain decimal where a readable one exists, else as `numerator/denominator`."""
    numerator, denominator = number.numerator, number.denominator
    places = _decimal_places(denominator)
    if places is None or places > _MOST_DIGITS:
        return f"{numerator}/{denominator}"
    digits = str(abs(numerator) * _DECIMAL_BASE**places // denominator).rjust(places + 1, "0")
    sign = "-" if numerator < 0 else ""
    return f"{sign}{digits[:-places]}.{digits[-places:]}" if places else f"{sign}{digits}"


def exact_number(value: object, *, field: str | None = None) -> Fraction:
    """Read a number that `exact_text` wrote, a decimal string, an int, a Decimal or a Fraction.

    Raises: InvalidTerms for anything else. Floats are refused: 0.1 is not a tenth.
    """
    if isinstance(value, bool):
        raise InvalidTerms("a number cannot be true or false", field=field)
    if isinstance(value, str):
        return _read(value, field)
    if isinstance(value, int | Fraction):
        return Fraction(value)
    if isinstance(value, Decimal):
        return _read(format(value, "f"), field)
    raise InvalidTerms(_NOT_A_NUMBER, field=field)


def _read(text: str, field: str | None) -> Fraction:
    if _NUMBER.fullmatch(text):
        try:
            # Most are whole, and an int is read several times as fast.
            return Fraction(int(text)) if text.isdigit() else Fraction(text)
        except ZeroDivisionError:
            pass
    raise InvalidTerms(_NOT_A_NUMBER, field=field)


def _decimal_places(denominator: int) -> int | None:
    """Count the decimals that a fraction with this denominator needs; None when it never ends."""
    twos = fives = 0
    while denominator % 2 == 0:
        denominator //= 2
        twos += 1
    while denominator % 5 == 0:
        denominator //= 5
        fives += 1
    return max(twos, fives) if denominator == 1 else None
