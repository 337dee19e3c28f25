"""Laws of rollups: however facts are split into them, every aggregation comes out the same."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from billing.metering import Aggregation, UsageFact, aggregate
from billing.periods import Period
from billing.rollups import Rollup, merged
from tests.property.strategies import periods, usage


@given(usage(), periods(), st.data())
def test_rollups_in_any_parts_and_sequence_make_what_their_facts_make(
    facts: list[UsageFact], period: Period, data: st.DataObject
) -> None:
    inside = [fact for fact in facts if period.contains(fact.at)]
    shuffled = data.draw(st.permutations(inside))
    heaps: list[list[Rollup]] = [[] for _ in range(4)]
    for fact in shuffled:
        heaps[data.draw(st.integers(0, 3))].append(Rollup.of(fact))

    rollup = merged(merged(heap) for heap in heaps)

    for aggregation in Aggregation:
        assert rollup.quantity(aggregation, period) == aggregate(aggregation, inside, period), aggregation


def test_nothing_comes_to_nothing() -> None:
    assert merged([]) == merged([Rollup(), Rollup()]) == Rollup()
