"""How a period will end, if it goes on as it has so far."""

from __future__ import annotations

from datetime import UTC, datetime
from fractions import Fraction

import pytest

from billing.metering import Aggregation, UsageFact
from billing.periods import Period
from billing.projection import projected, so_far
from billing.rollups import Rollup, merged


def on(day: int, hour: int = 0) -> datetime:
    return datetime(2026, 4, day, hour, tzinfo=UTC)


APRIL = Period(on(1), datetime(2026, 5, 1, tzinfo=UTC))
USED = merged(
    Rollup.of(UsageFact(Fraction(quantity), on(day), f"e{day}", f"u{day % 2}"))
    for day, quantity in ((1, 10), (4, -4), (7, 6))
)


@pytest.mark.parametrize(
    ("aggregation", "now_used", "coming"),
    [
        ("sum", 12, 36),  # ten of thirty days have passed
        ("count", 3, 9),
        ("max", 10, 10),
        ("min", -4, -4),
        ("last", 6, 6),
        ("avg", 4, 4),
        ("unique", 2, 2),
        # 10 for 10 days, less 4 for 7, and 6 for 4, of 30; and on to the end at a level of 12
        ("time_weighted_sum", Fraction(100 - 28 + 24, 30), Fraction(300 - 108 + 144, 30)),
    ],
)
def test_what_adds_up_goes_on_evenly_and_a_level_stays(
    aggregation: str, now_used: Fraction, coming: Fraction
) -> None:
    kind = Aggregation(aggregation)
    assert so_far(USED, kind, APRIL, on(11)) == now_used
    assert projected(USED, kind, APRIL, APRIL, on(11)) == coming


def test_a_plan_that_is_held_for_a_part_projects_over_that_part() -> None:
    until = Period(on(1), on(16))
    assert projected(USED, Aggregation.sum, APRIL, until, on(11)) == 18  # ten of its fifteen days
    assert projected(USED, Aggregation.sum, APRIL, until, on(20)) == 12  # it is over
    later = Period(on(6), APRIL.end)
    assert projected(USED, Aggregation.sum, APRIL, later, on(11)) == 60  # five of its twenty-five days


def test_at_the_start_and_after_the_end_nothing_is_made_up() -> None:
    assert projected(USED, Aggregation.sum, APRIL, APRIL, on(1)) == 12
    assert projected(Rollup(), Aggregation.sum, APRIL, APRIL, on(11)) == 0
    after = datetime(2026, 6, 1, tzinfo=UTC)
    assert projected(USED, Aggregation.sum, APRIL, APRIL, after) == 12
    level = Aggregation.time_weighted_sum
    assert so_far(USED, level, APRIL, after) == USED.quantity(level, APRIL)
    assert so_far(Rollup(), level, APRIL, on(11)) == 0
    # An event a little ahead of our clock counts nothing before its time.
    assert so_far(USED, level, APRIL, on(6)) == so_far(USED, level, APRIL, on(7))
