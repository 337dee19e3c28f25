"""Hypothesis strategies for the values of the billing rules."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from fractions import Fraction

from hypothesis import strategies as st

from billing.currencies import charge_step
from billing.metering import UsageFact
from billing.money import Money
from billing.periods import Period
from billing.terms import TIERED, ChargeModel, ChargeTerms, Tier

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)

currencies = st.sampled_from(("USD", "ZAR", "JPY", "KWD"))
minors = st.integers(-(10**12), 10**12)
amounts = st.builds(Money, minors, st.just("USD"))
charges = st.builds(Money, st.integers(0, 10**9), st.just("USD"))
weights = st.lists(
    st.one_of(st.integers(0, 10**6), st.fractions(0, 100, max_denominator=999)), min_size=1, max_size=12
)
quantities = st.fractions(0, 10**6, max_denominator=1000)
prices = st.fractions(0, 10**4, max_denominator=10**4)
instants = st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis wants naive bounds


@st.composite
def periods(draw: st.DrawFn) -> Period:
    """A period of one second to about a year, with whole or fractional seconds."""
    start = draw(instants)
    return Period(start, start + draw(st.timedeltas(timedelta(seconds=2), timedelta(days=366))))


@st.composite
def tiers(draw: st.DrawFn, *, stairstep: bool = False, ascending: bool = False) -> tuple[Tier, ...]:
    """One to five tiers, the last one open; ascending flat prices where the law wants them."""
    bounds = sorted(draw(st.sets(st.fractions(1, 10**5, max_denominator=10), max_size=4)))
    flats = draw(st.lists(prices, min_size=len(bounds) + 1, max_size=len(bounds) + 1))
    if ascending:
        flats.sort()
    return tuple(
        Tier(bound, Fraction(0) if stairstep else draw(prices), flat)
        for bound, flat in zip((*bounds, None), flats, strict=True)
    )


@st.composite
def charge_terms(draw: st.DrawFn, models: tuple[ChargeModel, ...] = tuple(ChargeModel)) -> ChargeTerms:
    """Valid terms of any of the models."""
    model = draw(st.sampled_from(models))
    stairstep = model is ChargeModel.stairstep
    unit_priced = model not in TIERED and model is not ChargeModel.percentage
    currency = draw(currencies)
    chargeable = st.integers(0, 10**6).map(lambda steps: steps * charge_step(currency))
    minimum = draw(st.none() | chargeable)
    return ChargeTerms(
        model,
        currency,
        unit_price=draw(prices) if unit_priced else Fraction(0),
        included=Fraction(0) if model is ChargeModel.flat else draw(st.just(Fraction(0)) | quantities),
        tiers=draw(tiers(stairstep=stairstep, ascending=stairstep)) if model in TIERED else (),
        package_size=draw(st.fractions(1, 1000, max_denominator=10))
        if model is ChargeModel.package
        else None,
        share=draw(st.fractions(0, 1, max_denominator=1000)) if model is ChargeModel.percentage else None,
        fixed=draw(st.just(Fraction(0)) | prices),
        minimum_minor=minimum,
        maximum_minor=draw(st.none() | chargeable.map(lambda more: (minimum or 0) + more)),
    )


@st.composite
def usage(draw: st.DrawFn) -> list[UsageFact]:
    """Facts of 2026 with distinct keys."""
    drawn = draw(st.lists(st.tuples(st.fractions(-100, 10**4, max_denominator=100), instants), max_size=15))
    return [
        UsageFact(quantity, at, f"event-{number}", draw(st.none() | st.sampled_from("abc")))
        for number, (quantity, at) in enumerate(drawn)
    ]
