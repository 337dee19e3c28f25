"""Periods: half-open, in UTC, counted from the original anchor."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction

import pytest

from billing.periods import Interval, Period, nth_boundary, period_at, period_index


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_the_thirty_first_comes_back_after_february() -> None:
    anchor = utc("2026-01-31T09:30:00")
    boundaries = [nth_boundary(anchor, Interval.month, n).date().isoformat() for n in range(5)]
    assert boundaries == ["2026-01-31", "2026-02-28", "2026-03-31", "2026-04-30", "2026-05-31"]
    assert nth_boundary(anchor, Interval.month, 1) == utc("2026-02-28T09:30:00")


@pytest.mark.parametrize(
    ("anchor", "interval", "n", "boundary"),
    [
        ("2024-02-29T00:00:00", Interval.year, 1, "2025-02-28T00:00:00"),
        ("2024-02-29T00:00:00", Interval.year, 4, "2028-02-29T00:00:00"),
        ("2025-11-30T12:00:00", Interval.quarter, 1, "2026-02-28T12:00:00"),
        ("2025-11-30T12:00:00", Interval.quarter, 2, "2026-05-30T12:00:00"),
        ("2026-01-31T00:00:00", Interval.month, -2, "2025-11-30T00:00:00"),
        ("2026-12-15T00:00:00", Interval.month, 1, "2027-01-15T00:00:00"),
    ],
)
def test_boundaries(anchor: str, interval: Interval, n: int, boundary: str) -> None:
    assert nth_boundary(utc(anchor), interval, n) == utc(boundary)


def test_the_end_belongs_to_the_next_period() -> None:
    anchor = utc("2026-01-31T09:30:00")
    first = period_at(anchor, Interval.month, anchor)
    assert first == Period(anchor, utc("2026-02-28T09:30:00"))
    assert first.contains(anchor) and not first.contains(first.end)
    assert first.contains(first.end - timedelta(microseconds=1))
    assert period_at(anchor, Interval.month, first.end).start == first.end
    assert period_index(anchor, Interval.month, first.end - timedelta(microseconds=1)) == 0


def test_an_instant_before_the_anchor_lies_in_a_negative_period() -> None:
    anchor = utc("2026-03-31T00:00:00")
    assert period_index(anchor, Interval.month, utc("2026-03-30T23:59:59")) == -1
    assert period_at(anchor, Interval.month, utc("2026-03-01T00:00:00")) == Period(
        utc("2026-02-28T00:00:00"), anchor
    )


def test_other_zones_are_turned_into_utc() -> None:
    johannesburg = timezone(timedelta(hours=2))
    # 01:00 on 1 March in Johannesburg is still February in UTC.
    anchor = datetime(2026, 3, 1, 1, 0, tzinfo=johannesburg)
    assert nth_boundary(anchor, Interval.month, 1) == utc("2026-03-28T23:00:00")
    assert Period(anchor, anchor).start.tzinfo is UTC


def test_naive_instants_and_backward_periods_are_refused() -> None:
    naive = datetime(2026, 1, 1)  # noqa: DTZ001 - the point of the test
    with pytest.raises(ValueError, match="naive"):
        nth_boundary(naive, Interval.month, 1)
    with pytest.raises(ValueError, match="naive"):
        Period(naive, utc("2026-02-01T00:00:00"))
    with pytest.raises(ValueError, match="before it starts"):
        Period(utc("2026-02-01T00:00:00"), utc("2026-01-01T00:00:00"))


def test_the_length_is_exact() -> None:
    start = utc("2026-01-01T00:00:00")
    assert Period(start, start + timedelta(days=31)).seconds == 31 * 86_400
    assert Period(start, start + timedelta(microseconds=1)).seconds == Fraction(1, 10**6)
    assert not Period(start, start).contains(start)
