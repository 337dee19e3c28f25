"""Billing periods: half-open stretches of UTC time, counted from one original anchor."""

from __future__ import annotations

import calendar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from fractions import Fraction

_MONTHS_PER_YEAR = 12
_MICROSECOND = timedelta(microseconds=1)


class Interval(StrEnum):
    """How often a price recurs."""

    month = "month"
    quarter = "quarter"
    year = "year"


_MONTHS = {Interval.month: 1, Interval.quarter: 3, Interval.year: 12}


def months_in(interval: Interval) -> int:
    """How many months an interval has."""
    return _MONTHS[interval]


@dataclass(frozen=True, slots=True)
class Period:
    """A stretch of time `[start, end)` in UTC; an empty one contains nothing.

    Raises: ValueError for naive instants or an end before the start.
    """

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        object.__setattr__(self, "start", _utc(self.start))
        object.__setattr__(self, "end", _utc(self.end))
        if self.end < self.start:
            raise ValueError(f"period ends at {self.end} before it starts at {self.start}")

    def contains(self, at: datetime) -> bool:
        """Whether the instant lies in the period; the end belongs to the next one."""
        return self.start <= at < self.end

    @property
    def seconds(self) -> Fraction:
        """The exact length in seconds."""
        return exact_seconds(self.end - self.start)


def exact_seconds(span: timedelta) -> Fraction:
    """A span as an exact number of seconds; `timedelta.total_seconds` would be a float."""
    return Fraction(span // _MICROSECOND, 1_000_000)


def nth_boundary(anchor: datetime, interval: Interval, n: int) -> datetime:
    """The start of the n-th period (0 is the anchor itself, negative goes back).

    Counted from the original anchor, not from the previous boundary, so the 31st comes back after
    February: 31 Jan, 28 Feb, 31 Mar. A day that a month lacks becomes its last day.
    """
    anchor = _utc(anchor)
    months = anchor.year * _MONTHS_PER_YEAR + (anchor.month - 1) + n * _MONTHS[interval]
    year, month0 = divmod(months, _MONTHS_PER_YEAR)
    last_day = calendar.monthrange(year, month0 + 1)[1]
    return anchor.replace(year=year, month=month0 + 1, day=min(anchor.day, last_day))


def period_index(anchor: datetime, interval: Interval, at: datetime) -> int:
    """The number n of the period that contains `at`; 0 begins at the anchor."""
    anchor, at = _utc(anchor), _utc(at)
    months = (at.year - anchor.year) * _MONTHS_PER_YEAR + at.month - anchor.month
    n = months // _MONTHS[interval]
    return n if nth_boundary(anchor, interval, n) <= at else n - 1


def period_at(anchor: datetime, interval: Interval, at: datetime) -> Period:
    """The period that contains `at`. Periods of one anchor tile time without gap or overlap."""
    n = period_index(anchor, interval, at)
    return Period(nth_boundary(anchor, interval, n), nth_boundary(anchor, interval, n + 1))


def _utc(at: datetime) -> datetime:
    if at.tzinfo is None:
        raise ValueError(f"naive instant: {at}")
    return at.astimezone(UTC)
