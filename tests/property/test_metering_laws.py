"""Laws of metering: sequence, repetition, splitting."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from billing.metering import Aggregation, UsageFact, aggregate, check_usage_event, parse_quantity
from billing.periods import Period
from tests.property.strategies import periods, usage

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
WEEK = timedelta(days=7)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.decimals() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)
field_names = st.sampled_from(
    ("event_id", "organization", "product", "metric", "quantity", "timestamp", "properties", "other")
)


@given(st.sampled_from(Aggregation), usage(), periods(), st.data())
def test_sequence_and_repetition_change_nothing(
    aggregation: Aggregation, facts: list[UsageFact], period: Period, draw: st.DataObject
) -> None:
    repeated = facts + draw.draw(st.lists(st.sampled_from(facts), max_size=10) if facts else st.just([]))
    shuffled = draw.draw(st.permutations(repeated))
    assert aggregate(aggregation, shuffled, period) == aggregate(aggregation, facts, period)


def halves(period: Period, cut: Fraction) -> tuple[Period, Period]:
    at = period.start + timedelta(microseconds=int(period.seconds * 10**6 * cut))
    return Period(period.start, at), Period(at, period.end)


@given(usage(), periods(), st.fractions(0, 1))
def test_the_parts_of_a_split_period_make_the_whole(
    facts: list[UsageFact], period: Period, cut: Fraction
) -> None:
    left, right = halves(period, cut)
    for aggregation in (Aggregation.sum, Aggregation.count):
        parts = aggregate(aggregation, facts, left) + aggregate(aggregation, facts, right)
        assert parts == aggregate(aggregation, facts, period)


@given(usage(), periods(), st.fractions(0, 1))
def test_a_mean_level_is_the_weighted_mean_of_its_parts(
    facts: list[UsageFact], period: Period, cut: Fraction
) -> None:
    parts = [
        aggregate(Aggregation.time_weighted_sum, facts, part) * part.seconds for part in halves(period, cut)
    ]
    assert sum(parts) == aggregate(Aggregation.time_weighted_sum, facts, period) * period.seconds


@given(usage(), periods())
def test_mean_and_last_lie_between_least_and_greatest(facts: list[UsageFact], period: Period) -> None:
    least, greatest = (aggregate(name, facts, period) for name in (Aggregation.min, Aggregation.max))
    for between in (Aggregation.avg, Aggregation.last):
        assert least <= aggregate(between, facts, period) <= greatest


@given(st.dictionaries(field_names, json_values))
def test_whatever_is_posted_the_answer_is_an_event_or_named_errors(raw: dict[str, object]) -> None:
    answer = check_usage_event(raw, NOW)
    if isinstance(answer, list):
        assert answer and all(error.field and error.message for error in answer)
    else:
        assert answer.event_id == raw["event_id"]


@given(
    st.decimals(Decimal("-999999999999.999999999999"), Decimal("999999999999.999999999999"), places=12),
    st.integers(0, 12),
)
def test_a_quantity_keeps_its_value_in_one_form(number: Decimal, zeros: int) -> None:
    text = format(number, "f")
    parsed = parse_quantity(text + "0" * zeros)
    assert Fraction(parsed) == Fraction(number)
    assert format(parsed, "f") == format(parse_quantity(number), "f")
