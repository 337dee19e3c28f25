"""Two raters, written apart, agree to the minor unit on 100,000 random histories.

Each history has a seed of its own, so a failure names the one number that brings it back.
DUNLIN_HISTORIES sets how many there are, DUNLIN_HISTORIES_SEED where they begin; both are printed.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from billing.groups import REST, GroupedTerms, read_match
from billing.metering import Aggregation, UsageFact
from billing.periods import Period
from billing.usage import Holding, MeteredEvent, MeterRules, count_groups, held_share, rate_groups
from tests.property.histories import AGGREGATIONS, MODELS, History, random_history
from tests.property.slow_rater import Line, slow_lines

HISTORIES = int(os.environ.get("DUNLIN_HISTORIES", "100000"))
FIRST_SEED = int(os.environ.get("DUNLIN_HISTORIES_SEED", "1"))
_CHUNKS = 20


def lines(history: History) -> list[Line]:
    """What the package makes of a history."""
    contract = history.contract
    period = Period(contract.start, contract.end)
    share = held_share(period, contract.held_from, contract.held_until)
    rules = MeterRules(Aggregation(history.aggregation), read_match(history.filters, field="filters"))
    monthly = GroupedTerms.from_record(history.price)
    price = Holding(contract.interval, share).price(monthly, rules.aggregation)
    events = [
        MeteredEvent(UsageFact(fact.quantity, fact.at, fact.key, fact.value), fact.properties)
        for fact in history.facts
    ]
    rated = rate_groups(price, count_groups(rules, price, events, period))
    assert all(sum(step.amount for step in each.rating.steps) == each.rating.exact for each in rated)
    return [
        Line(
            None if each.number == REST else each.number - 1,
            each.counted.quantity,
            each.counted.facts,
            each.counted.excluded,
            each.rating.amount.minor,
        )
        for each in rated
    ]


def compare(first: int) -> Counter[str]:
    """Rate a chunk of histories twice. Returns: what there was in them. AssertionError names the seed."""
    seen: Counter[str] = Counter()
    for seed in range(first, FIRST_SEED + HISTORIES, _CHUNKS):
        history = random_history(seed)
        fast = lines(history)
        assert fast == slow_lines(*history), f"seed {seed}: {history}"
        seen["histories"] += 1
        seen["charged"] += any(line.minor for line in fast)
        seen["grouped"] += len(fast) > 1
        seen["excluded"] += any(line.excluded for line in fast)
        seen["parts"] += history.contract.held_from > history.contract.start
    return seen


@pytest.fixture(scope="module")
def chunks() -> Iterator[list[Future[Counter[str]]]]:
    """All histories under comparison, on every core."""
    # Started anew, not forked: other tests' threads may be alive in this process.
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        yield [pool.submit(compare, FIRST_SEED + chunk) for chunk in range(_CHUNKS)]


@pytest.mark.parametrize("chunk", range(_CHUNKS))
def test_two_raters_agree_on_random_histories(chunk: int, chunks: list[Future[Counter[str]]]) -> None:
    seeds = range(FIRST_SEED + chunk, FIRST_SEED + HISTORIES, _CHUNKS)
    print(f"{len(seeds)} histories: seeds {seeds}")
    seen = chunks[chunk].result()
    assert seen["histories"] == len(seeds)
    # The histories must be worth comparing.
    assert seen["charged"] > len(seeds) * 2 // 3
    assert min(seen["grouped"], seen["excluded"], seen["parts"]) > len(seeds) // 5


def test_the_histories_reach_everything() -> None:
    histories = [random_history(seed) for seed in range(1, 501)]
    terms = [each for history in histories for each in (history.price, *history.price.get("groups", []))]
    bounded = [
        each for each in terms if each["minimum_minor"] is not None and each["maximum_minor"] is not None
    ]
    seen = {(each["model"], history.aggregation) for history in histories for each in (history.price,)}

    assert {each["model"] for each in terms} == set(MODELS)
    assert {history.aggregation for history in histories} == set(AGGREGATIONS) == set(Aggregation)
    assert {history.contract.interval for history in histories} == {"month", "quarter", "year"}
    assert len(seen) == len(MODELS) * len(AGGREGATIONS)
    assert len(bounded) > 20
    assert any(len(history.price.get("groups", [])) > 2 for history in histories)
