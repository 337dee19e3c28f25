"""Proration: to the second, credit and charge."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest

from billing.errors import CurrencyMismatch
from billing.money import Money
from billing.periods import Period
from billing.proration import prorate_change, unused_share

APRIL = Period(datetime(2026, 4, 1, tzinfo=UTC), datetime(2026, 5, 1, tzinfo=UTC))


def usd(minor: int) -> Money:
    return Money(minor, "USD")


def test_upgrade_on_the_eleventh_of_april() -> None:
    # 30 days, 20 left: -30.00 * 20/30 = -20.00; +90.00 * 20/30 = +60.00
    changed_at = datetime(2026, 4, 11, tzinfo=UTC)
    assert prorate_change(usd(30_00), usd(90_00), APRIL, changed_at) == (usd(-20_00), usd(60_00))


def test_a_downgrade_gives_back_more_than_it_takes() -> None:
    noon = datetime(2026, 4, 16, tzinfo=UTC)  # half of April
    assert prorate_change(usd(75_01), usd(35_01), APRIL, noon) == (usd(-37_51), usd(17_51))


@pytest.mark.parametrize(
    ("changed_at", "share"),
    [
        (APRIL.start - timedelta(days=3), 1),
        (APRIL.start, 1),
        (APRIL.start + timedelta(seconds=1), 1 - Fraction(1, 30 * 86_400)),
        (APRIL.end - timedelta(seconds=1), Fraction(1, 30 * 86_400)),
        (APRIL.end, 0),
        (APRIL.end + timedelta(days=3), 0),
    ],
)
def test_a_change_outside_the_period_counts_at_its_edge(changed_at: datetime, share: Fraction) -> None:
    assert unused_share(APRIL, changed_at) == share


def test_fractions_of_a_second_do_not_count() -> None:
    late = APRIL.start + timedelta(microseconds=999_999)
    assert unused_share(APRIL, late) == 1
    assert unused_share(Period(late, APRIL.end + timedelta(microseconds=1)), APRIL.end) == 0


def test_nothing_of_an_empty_period_is_left() -> None:
    assert unused_share(Period(APRIL.start, APRIL.start), APRIL.start) == 0
    assert prorate_change(usd(1), usd(2), Period(APRIL.start, APRIL.start), APRIL.start) == (usd(0), usd(0))


def test_two_currencies_and_naive_instants_are_refused() -> None:
    with pytest.raises(CurrencyMismatch):
        prorate_change(usd(1), Money(1, "ZAR"), APRIL, APRIL.start)
    with pytest.raises(ValueError, match="naive"):
        unused_share(APRIL, datetime(2026, 4, 11))  # noqa: DTZ001 - the point of the test
