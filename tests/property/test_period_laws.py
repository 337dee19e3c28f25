"""Laws of periods and proration."""

from __future__ import annotations

from datetime import datetime, timedelta
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from billing.money import Money
from billing.periods import Interval, Period, nth_boundary, period_at, period_index
from billing.proration import prorate_change, unused_share
from tests.property.strategies import charges, instants, periods

intervals = st.sampled_from(Interval)
FIVE_CENTURIES = 500


@given(instants, intervals, st.integers(-FIVE_CENTURIES, FIVE_CENTURIES))
def test_periods_tile_time(anchor: datetime, interval: Interval, n: int) -> None:
    start, end = nth_boundary(anchor, interval, n), nth_boundary(anchor, interval, n + 1)
    assert start < end
    assert period_at(anchor, interval, start) == Period(start, end)
    assert period_at(anchor, interval, end - timedelta(microseconds=1)) == Period(start, end)
    assert period_index(anchor, interval, start) == n


@given(instants, intervals, instants)
def test_every_instant_lies_in_its_period(anchor: datetime, interval: Interval, at: datetime) -> None:
    assert period_at(anchor, interval, at).contains(at)


@given(instants, intervals, st.integers(-100, 100))
def test_a_boundary_keeps_the_anchors_day_or_the_months_last(
    anchor: datetime, interval: Interval, n: int
) -> None:
    boundary = nth_boundary(anchor, interval, n)
    assert boundary.timetz() == anchor.timetz()
    assert boundary.day == anchor.day or (
        boundary.day < anchor.day and (boundary + timedelta(days=1)).month != boundary.month
    )


@given(charges, periods(), instants)
def test_the_same_price_nets_to_zero(price: Money, period: Period, changed_at: datetime) -> None:
    credit, charge = prorate_change(price, price, period, changed_at)
    assert credit + charge == Money.zero("USD")


@given(charges, charges, periods(), instants)
def test_credit_and_charge_stay_within_the_prices(
    old: Money, new: Money, period: Period, at: datetime
) -> None:
    credit, charge = prorate_change(old, new, period, at)
    assert -old <= credit <= Money.zero("USD") <= charge <= new


@given(periods(), instants, instants)
def test_less_is_left_later(period: Period, one: datetime, other: datetime) -> None:
    earlier, later = sorted((one, other))
    assert 1 >= unused_share(period, earlier) >= unused_share(period, later) >= 0


@given(charges, periods(), st.lists(instants, max_size=5))
def test_changing_and_changing_back_costs_a_unit_per_change_at_most(
    price: Money, period: Period, changes: list[datetime]
) -> None:
    # Leave for a free plan and come back, again and again: what is paid equals the time on the plan.
    paid, exact, on_plan = price.minor, Fraction(price.minor), True
    free = Money.zero("USD")
    for changed_at in sorted(changes):
        old, new = (price, free) if on_plan else (free, price)
        credit, charge = prorate_change(old, new, period, changed_at)
        paid += credit.minor + charge.minor
        exact += (-price.minor if on_plan else price.minor) * unused_share(period, changed_at)
        on_plan = not on_plan
    assert abs(paid - exact) <= Fraction(len(changes), 2)
