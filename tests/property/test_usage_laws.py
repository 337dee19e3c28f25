"""Laws from events to lines: splitting a period, sequence and repetition, more events, one group each."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from fractions import Fraction
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from billing.currencies import charge_step
from billing.groups import Group, GroupedTerms
from billing.metering import Aggregation, UsageFact, aggregate, matches
from billing.periods import Period
from billing.terms import ChargeModel, ChargeTerms
from billing.usage import Holding, MeteredEvent, MeterRules, count_groups, held_share, rate_groups
from tests.property.strategies import charge_terms, currencies, periods

LINEAR = (ChargeModel.per_unit, ChargeModel.percentage, ChargeModel.flat)
ADDING = (Aggregation.sum, Aggregation.count, Aggregation.time_weighted_sum)
PLACES = ("eu", "uk", "us")

places = st.fixed_dictionaries({}, optional={"place": st.sampled_from(PLACES), "ok": st.booleans()})
rules = st.builds(
    MeterRules,
    st.sampled_from(Aggregation),
    st.sampled_from(({}, {"ok": (True,)}, {"place": ("eu", "us")})),
)


@st.composite
def events(draw: st.DrawFn, period: Period, *, most: int = 12) -> list[MeteredEvent]:
    """Events of the period that add something, each with a key of its own."""
    length = int(period.seconds * 1_000_000)
    drawn = draw(
        st.lists(
            st.tuples(st.fractions(0, 10**4, max_denominator=100), st.integers(0, length - 1), places),
            max_size=most,
        )
    )
    return [
        MeteredEvent(
            UsageFact(quantity, period.start + timedelta(microseconds=after), f"e{n}", f"u{n % 3}"), told
        )
        for n, (quantity, after, told) in enumerate(drawn)
    ]


@st.composite
def prices(draw: st.DrawFn, models: tuple[ChargeModel, ...] = tuple(ChargeModel)) -> GroupedTerms:
    """A price with up to two groups, all in one currency and without bounds of the charge."""
    currency = draw(currencies)

    def plain(terms: ChargeTerms) -> ChargeTerms:
        return replace(terms, currency=currency, minimum_minor=None, maximum_minor=None)

    chosen = draw(st.lists(st.sampled_from(PLACES), max_size=2, unique=True))
    own = [Group({"place": (place,)}, plain(draw(charge_terms(models)))) for place in chosen]
    return GroupedTerms(plain(draw(charge_terms(models))), tuple(own))


def charges(
    rules: MeterRules, price: GroupedTerms, told: list[MeteredEvent], period: Period
) -> dict[int, int]:
    rated = rate_groups(price, count_groups(rules, price, told, period))
    return {each.number: each.rating.amount.minor for each in rated}


@given(prices(LINEAR), st.sampled_from(ADDING), periods(), st.sampled_from(("month", "year")), st.data())
def test_a_period_split_anywhere_costs_the_whole_within_a_unit_per_split(
    price: GroupedTerms, aggregation: Aggregation, period: Period, interval: str, data: st.DataObject
) -> None:
    """One price held throughout, or by several stretches between plan changes: the customer pays the same."""
    linear = price.each(lambda terms: replace(terms, included=Fraction(0)))
    counted = MeterRules(aggregation, {})
    told = data.draw(events(period))
    length = int(period.seconds * 1_000_000)
    cuts = data.draw(st.lists(st.integers(1, length - 1), max_size=4, unique=True))
    bounds = [period.start + timedelta(microseconds=cut) for cut in (0, *sorted(cuts), length)]

    whole = charges(counted, Holding(interval, Fraction(1)).price(linear, aggregation), told, period)
    parts: dict[int, int] = {}
    for start, end in pairwise(bounds):
        mine = [event for event in told if start <= event.fact.at < end]
        share = held_share(period, start, end)
        held = Holding(interval, share).price(linear, aggregation)
        for number, minor in charges(counted, held, mine, period).items():
            parts[number] = parts.get(number, 0) + minor

    step = charge_step(price.rest.currency)
    for number in price.numbers:
        assert abs(parts.get(number, 0) - whole.get(number, 0)) <= len(cuts) * step


@given(prices(), rules, periods(), st.data())
def test_sequence_and_repetition_of_events_change_no_line(
    price: GroupedTerms, rules: MeterRules, period: Period, data: st.DataObject
) -> None:
    told = data.draw(events(period))
    again = told + data.draw(st.lists(st.sampled_from(told), max_size=8) if told else st.just([]))
    shuffled = data.draw(st.permutations(again))

    assert rate_groups(price, count_groups(rules, price, shuffled, period)) == rate_groups(
        price, count_groups(rules, price, told, period)
    )


@given(prices(), rules, periods(), st.data())
def test_each_event_is_in_one_group_counted_or_excluded(
    price: GroupedTerms, rules: MeterRules, period: Period, data: st.DataObject
) -> None:
    told = data.draw(events(period))
    counted = count_groups(rules, price, told, period)

    assert sum(each.facts for each in counted.values()) == sum(
        matches(event.properties, rules.filters) for event in told
    )
    assert sum(each.facts + each.excluded for each in counted.values()) == len(told)
    if rules.aggregation in ADDING:
        passing = [event.fact for event in told if matches(event.properties, rules.filters)]
        together = aggregate(rules.aggregation, passing, period)
        assert sum(each.quantity for each in counted.values()) == together


@given(
    prices(tuple(model for model in ChargeModel if model is not ChargeModel.volume)),
    st.sampled_from((Aggregation.sum, Aggregation.count, Aggregation.max, Aggregation.unique)),
    periods(),
    st.data(),
)
def test_more_events_never_cost_less(
    price: GroupedTerms, aggregation: Aggregation, period: Period, data: st.DataObject
) -> None:
    """Volume is left out: all units take the price of the tier reached, so more can cost less."""
    told = data.draw(events(period))
    less = charges(MeterRules(aggregation, {}), price, told[: len(told) // 2], period)
    more = charges(MeterRules(aggregation, {}), price, told, period)

    assert all(minor <= more[number] for number, minor in less.items())
