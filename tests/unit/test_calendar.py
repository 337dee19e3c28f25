"""Stretches of the calendar, as people write them."""

from datetime import UTC, datetime

import pytest

from billing.calendar import calendar_period
from billing.errors import InvalidTerms
from billing.periods import Period


def period(start: tuple[int, int, int], end: tuple[int, int, int]) -> Period:
    return Period(datetime(*start, tzinfo=UTC), datetime(*end, tzinfo=UTC))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026", period((2026, 1, 1), (2027, 1, 1))),
        ("2026-Q3", period((2026, 7, 1), (2026, 10, 1))),
        ("2026-07", period((2026, 7, 1), (2026, 8, 1))),
        ("2026-12", period((2026, 12, 1), (2027, 1, 1))),
        ("2028-02-29", period((2028, 2, 29), (2028, 3, 1))),
        ("2026-07..2026-09", period((2026, 7, 1), (2026, 10, 1))),
        (" 2026-07-15 .. 2026-Q3 ", period((2026, 7, 15), (2026, 10, 1))),
        ("2026-07..2026-07-10", period((2026, 7, 1), (2026, 8, 1))),
    ],
)
def test_both_ends_are_wholly_included(text: str, expected: Period) -> None:
    assert calendar_period(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "July", "2026-13", "2026-00", "2026-Q5", "2026-02-30", "0000", "2026-07..", "..2026-07", "9999"],
)
def test_what_is_not_in_the_calendar_is_refused(text: str) -> None:
    with pytest.raises(InvalidTerms) as refusal:
        calendar_period(text)
    assert refusal.value.field == "period"


def test_a_stretch_does_not_end_before_it_begins() -> None:
    with pytest.raises(InvalidTerms, match="ends before it begins"):
        calendar_period("2026-07..2026-05")
