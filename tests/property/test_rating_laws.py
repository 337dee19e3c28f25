"""Laws of rating: records, steps, monotony, splitting, corrections."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from billing.currencies import charge_step
from billing.money import Money
from billing.rating import adjustment, rate
from billing.terms import ChargeModel, ChargeTerms
from tests.property.strategies import charge_terms, quantities

# Volume is left out: all units take the price of the tier reached, so more can cost less.
MONOTONE = tuple(model for model in ChargeModel if model is not ChargeModel.volume)


@given(charge_terms(), quantities)
def test_stored_terms_come_back_and_rate_the_same(terms: ChargeTerms, quantity: Fraction) -> None:
    stored = json.loads(json.dumps(terms.to_record()))
    assert ChargeTerms.from_record(stored) == terms
    assert rate(quantity, ChargeTerms.from_record(stored)).to_record() == rate(quantity, terms).to_record()


@given(charge_terms(), st.fractions(-100, 10**6, max_denominator=1000))
def test_steps_sum_to_the_charge_and_one_rounding_ends_it(terms: ChargeTerms, quantity: Fraction) -> None:
    rating = rate(quantity, terms)
    assert sum(step.amount for step in rating.steps) == rating.exact
    assert all(step.amount == step.quantity * step.unit_price for step in rating.steps)
    assert abs(rating.amount.minor - rating.exact) <= Fraction(charge_step(terms.currency), 2)
    assert rating.amount.minor >= (terms.minimum_minor or 0)
    assert terms.maximum_minor is None or rating.amount.minor <= terms.maximum_minor


@given(charge_terms(MONOTONE), quantities, quantities)
def test_more_never_costs_less(terms: ChargeTerms, one: Fraction, other: Fraction) -> None:
    less, more = sorted((one, other))
    assert rate(less, terms).amount <= rate(more, terms).amount


@given(
    charge_terms((ChargeModel.per_unit, ChargeModel.per_seat, ChargeModel.percentage)),
    st.lists(quantities, min_size=1, max_size=6),
)
def test_a_split_quantity_costs_the_whole_within_a_unit_per_split(
    terms: ChargeTerms, parts: list[Fraction]
) -> None:
    linear = replace(terms, included=Fraction(0), fixed=Fraction(0), minimum_minor=None, maximum_minor=None)
    apart = sum(rate(part, linear).amount.minor for part in parts)
    together = rate(sum(parts, Fraction(0)), linear).amount.minor
    assert abs(apart - together) <= (len(parts) - 1) * charge_step(terms.currency)


@given(charge_terms(), st.lists(st.fractions(-1000, 10**5, max_denominator=100), min_size=1, max_size=8))
def test_corrections_always_come_to_the_charge_of_the_final_quantity(
    terms: ChargeTerms, changes: list[Fraction]
) -> None:
    billed, quantity = Money.zero(terms.currency), Fraction(0)
    for change in changes:
        quantity += change
        billed += adjustment(quantity, billed, terms)
    assert billed == rate(quantity, terms).amount


@given(charge_terms(), quantities)
def test_the_allowance_is_free(terms: ChargeTerms, quantity: Fraction) -> None:
    within = min(quantity, terms.included)
    if terms.model is not ChargeModel.flat:
        assert rate(within, terms).exact == rate(Fraction(0), terms).exact


@given(charge_terms((ChargeModel.graduated,)), st.fractions(1, 10**5, max_denominator=10))
def test_a_bound_between_equal_prices_changes_nothing(terms: ChargeTerms, bound: Fraction) -> None:
    plain = replace(terms, tiers=tuple(replace(tier, flat=Fraction(0)) for tier in terms.tiers))
    if any(tier.up_to == bound for tier in plain.tiers):
        return
    place = next(n for n, tier in enumerate(plain.tiers) if tier.up_to is None or bound < tier.up_to)
    split = (*plain.tiers[:place], replace(plain.tiers[place], up_to=bound), *plain.tiers[place:])
    for quantity in (bound - 1, bound, bound + 1, 2 * bound):
        assert rate(quantity, plain).exact == rate(quantity, replace(plain, tiers=split)).exact
