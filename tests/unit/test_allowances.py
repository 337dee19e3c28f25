"""A plan's usage terms are per month; a quarter and a year get as many of them as they have months."""

from fractions import Fraction

import pytest

from billing.allowances import terms_over
from billing.rating import rate
from billing.terms import ChargeTerms

HALF = Fraction(1, 2)

GRADUATED = {
    "model": "graduated",
    "included": "10000",
    "tiers": [{"up_to": "100000", "unit_price": "1.5"}, {"unit_price": "1"}],
}


def charged(interval: str, aggregation: str, quantity: int, **terms: object) -> int:
    return held(Fraction(1), interval, aggregation, quantity, **terms)


def held(part: Fraction, interval: str, aggregation: str, quantity: int, /, **terms: object) -> int:
    monthly = ChargeTerms.from_record({"currency": "USD", **terms})
    return rate(Fraction(quantity), terms_over(monthly, interval, aggregation, part)).amount.minor


@pytest.mark.parametrize(("interval", "months"), [("month", 1), ("quarter", 3), ("year", 12)])
def test_even_use_costs_in_any_interval_what_its_months_cost(interval: str, months: int) -> None:
    for monthly in (9_000, 10_000, 60_000, 150_000):
        one = charged("month", "sum", monthly, **GRADUATED)
        assert charged(interval, "sum", monthly * months, **GRADUATED) == one * months


def test_a_busy_month_may_use_the_allowance_of_a_quiet_one() -> None:
    assert charged("quarter", "sum", 30_000, **GRADUATED) == 0
    assert charged("quarter", "sum", 30_002, **GRADUATED) == 3


@pytest.mark.parametrize("aggregation", ["max", "min", "avg", "last", "unique", "time_weighted_sum"])
def test_a_level_is_charged_for_each_month(aggregation: str) -> None:
    terms = {"model": "per_unit", "included": "10", "unit_price": "5", "minimum_minor": 100}

    assert charged("month", aggregation, 50, **terms) == 200
    assert charged("quarter", aggregation, 50, **terms) == 600
    assert charged("quarter", aggregation, 11, **terms) == 300  # three times the minimum


def test_a_price_for_the_month_as_a_whole_is_due_for_each() -> None:
    stairs = {"model": "stairstep", "tiers": [{"up_to": "100", "flat": "500"}, {"flat": "900"}]}

    assert charged("quarter", "sum", 300, **stairs) == 1500
    assert charged("quarter", "sum", 301, **stairs) == 2700
    assert charged("year", "count", 7, model="flat", unit_price="250") == 3000
    assert charged("quarter", "sum", 1, model="per_unit", unit_price="2", fixed="100") == 302
    assert charged("quarter", "max", 7, model="flat", unit_price="250") == 750


@pytest.mark.parametrize("aggregation", ["sum", "count", "max", "min", "avg", "last", "unique"])
@pytest.mark.parametrize("interval", ["month", "quarter", "year"])
def test_a_change_between_equal_plans_in_the_middle_costs_what_no_change_costs(
    aggregation: str, interval: str
) -> None:
    """Each plan sees half of what adds up, and all of a level."""
    seen = 500 if aggregation in ("sum", "count") else 1000
    for terms in (
        {"model": "per_unit", "included": "60", "unit_price": "8", "minimum_minor": 200},
        {
            "model": "graduated",
            "tiers": [{"up_to": "100", "unit_price": "6", "flat": "10"}, {"unit_price": "4"}],
        },
        {"model": "stairstep", "tiers": [{"up_to": "100", "flat": "500"}, {"flat": "900"}]},
        {"model": "flat", "unit_price": "250"},
        {"model": "percentage", "share": "0.5", "fixed": "30", "maximum_minor": 400},
    ):
        unchanged = charged(interval, aggregation, 1000, **terms)
        assert 2 * held(HALF, interval, aggregation, seen, **terms) == unchanged, terms


def test_two_plans_split_the_allowance_of_a_mean() -> None:
    terms = {"model": "per_unit", "included": "10", "unit_price": "6"}

    # A level of 40 over the whole quarter: 30 beyond the allowance, three months. The first plan saw 25
    # of it, the second 15.
    assert charged("quarter", "time_weighted_sum", 40, **terms) == 540
    assert held(HALF, "quarter", "time_weighted_sum", 25, **terms) == 360
    assert held(HALF, "quarter", "time_weighted_sum", 15, **terms) == 180


def test_a_part_is_above_zero() -> None:
    with pytest.raises(ValueError, match="above zero"):
        held(Fraction(0), "month", "sum", 1, model="per_unit", unit_price="1")
