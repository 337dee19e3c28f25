"""What a period's usage will come to, if it goes on as it has so far."""

from __future__ import annotations

from datetime import datetime
from fractions import Fraction

from billing.metering import Aggregation
from billing.periods import Period
from billing.rollups import Rollup

_ADDING = frozenset((Aggregation.sum, Aggregation.count))


def so_far(rollup: Rollup, aggregation: Aggregation, period: Period, now: datetime) -> Fraction:
    """The quantity up to now.

    Of a mean of a level that is the part of the period that has passed: a level of 10 for the first
    tenth of a period is 1 so far. Args: a rollup of facts inside of the period.
    """
    if aggregation is not Aggregation.time_weighted_sum or rollup.last is None or not period.seconds:
        return rollup.quantity(aggregation, period)
    # A product's clock may be ahead of ours by a little.
    until = Period(period.start, min(max(now, rollup.last[0]), period.end))
    return Fraction(rollup.quantity(aggregation, until) * until.seconds, period.seconds)


def projected(
    rollup: Rollup, aggregation: Aggregation, period: Period, held: Period, now: datetime
) -> Fraction:
    """The quantity of the whole period, if it goes on so.

    What adds up (sum, count) goes on evenly: so far x time held / time passed of it. What shows a level
    stays at it, and so does the level of a mean. Args: `held`, the part of the period in which the plan
    counts its usage.
    """
    quantity = rollup.quantity(aggregation, period)
    passed = Period(held.start, min(max(now, held.start), held.end))
    if aggregation not in _ADDING or not passed.seconds:
        return quantity
    return Fraction(quantity * held.seconds, passed.seconds)
