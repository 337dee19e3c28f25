"""Two raters, written apart, agree to the minor unit on random histories.

DUNLIN_HISTORIES sets how many; DUNLIN_HISTORIES_SEED where the sequence begins. Each history has a
seed of its own, so a failure names the one number that brings it back.
"""

from __future__ import annotations

import os
import random

from billing.metering import Aggregation, UsageFact, aggregate
from billing.periods import Period
from billing.rating import ChargeTerms, rate
from tests.property.histories import AGGREGATIONS, END, MODELS, START, random_facts, random_terms
from tests.property.slow_rater import slow_charge, slow_quantity

HISTORIES = int(os.environ.get("DUNLIN_HISTORIES", "4000"))
FIRST_SEED = int(os.environ.get("DUNLIN_HISTORIES_SEED", "1"))
NOVEMBER = Period(START, END)


def test_two_raters_agree_on_random_histories() -> None:
    charged = 0
    for seed in range(FIRST_SEED, FIRST_SEED + HISTORIES):
        rng = random.Random(seed)
        record, facts, aggregation = random_terms(rng), random_facts(rng), rng.choice(AGGREGATIONS)
        quantity = aggregate(
            Aggregation(aggregation),
            (UsageFact(fact.quantity, fact.at, fact.key, fact.value) for fact in facts),
            NOVEMBER,
        )
        assert quantity == slow_quantity(aggregation, facts, START, END), (
            f"seed {seed}: {aggregation} of {facts}"
        )
        rating = rate(quantity, ChargeTerms.from_record(record))
        assert rating.amount.minor == slow_charge(quantity, record), f"seed {seed}: {quantity} under {record}"
        assert sum(step.amount for step in rating.steps) == rating.exact, f"seed {seed}"
        charged += rating.amount.minor > 0
    # The histories must be worth comparing: most of them cost something, all kinds occur.
    assert charged > HISTORIES // 2


def test_the_histories_reach_every_model_and_aggregation() -> None:
    seen_models, seen_aggregations, bounded = set(), set(), 0
    for seed in range(1, 301):
        rng = random.Random(seed)
        record = random_terms(rng)
        random_facts(rng)
        seen_models.add(record["model"])
        seen_aggregations.add(rng.choice(AGGREGATIONS))
        bounded += record["minimum_minor"] is not None and record["maximum_minor"] is not None
    assert seen_models == set(MODELS)
    assert seen_aggregations == set(AGGREGATIONS) == set(Aggregation)
    assert bounded > 10
