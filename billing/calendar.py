"""Stretches of the calendar as people write them: `2026-07`, `2026-Q3`, `2026-07..2026-09`."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from billing.errors import InvalidTerms
from billing.periods import Interval, Period, nth_boundary

_STRETCH = re.compile(
    r"(?P<year>[0-9]{4})(?:-(?:Q(?P<quarter>[1-4])|(?P<month>[0-9]{2})(?:-(?P<day>[0-9]{2}))?))?"
)
_DAY = timedelta(days=1)


def calendar_period(text: str) -> Period:
    """A year, quarter, month or day in UTC, or `FIRST..LAST` of them, both wholly included.

    Raises: InvalidTerms, saying what can be written.
    """
    first, dots, last = text.strip().partition("..")
    begin = _stretch(first.strip())
    end = _stretch(last.strip()) if dots else begin
    if end.end <= begin.start:
        raise InvalidTerms("ends before it begins", field="period")
    return Period(begin.start, max(begin.end, end.end))


def _stretch(text: str) -> Period:
    found = _STRETCH.fullmatch(text)
    if found is None:
        raise InvalidTerms(_SHAPES, field="period")
    quarter, month, day = found["quarter"], found["month"], found["day"]
    begins = (int(quarter) - 1) * 3 + 1 if quarter else int(month or 1)
    try:
        start = datetime(int(found["year"]), begins, int(day or 1), tzinfo=UTC)
        if day:
            return Period(start, start + _DAY)
        interval = Interval.month if month else Interval.quarter if quarter else Interval.year
        return Period(start, nth_boundary(start, interval, 1))
    except (ValueError, OverflowError):
        raise InvalidTerms(f"{text} is not in the calendar", field="period") from None


_SHAPES = "must be a year, quarter, month or day, or two of them: 2026, 2026-Q3, 2026-07, 2026-07..2026-09"
