"""Random histories: price terms as stored records, and the facts of a month with its neighbours."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

from tests.property.slow_rater import Fact

START = datetime(2026, 11, 1, tzinfo=UTC)
END = datetime(2026, 12, 1, tzinfo=UTC)
MODELS = ("per_unit", "per_seat", "flat", "package", "graduated", "volume", "stairstep", "percentage")
AGGREGATIONS = ("count", "sum", "max", "min", "avg", "unique", "last", "time_weighted_sum")

_TIERED = ("graduated", "volume", "stairstep")
_HALVES = ("0.5", "1.5", "2.5", "0.25", "0.125")


def random_terms(rng: random.Random) -> dict[str, Any]:
    """A record of valid terms; bounds are integers, prices have up to 6 decimals and many halves."""
    model = rng.choice(MODELS)
    minimum = rng.choice((None, None, rng.randint(0, 300)))
    maximum = rng.choice((None, None, (minimum or 0) + rng.randint(0, 3000)))
    return {
        "shape": 1,
        "model": model,
        "currency": rng.choice(("USD", "ZAR", "JPY")),
        "unit_price": "0" if model in (*_TIERED, "percentage") else _price(rng),
        "included": "0" if model == "flat" else str(rng.choice((0, 0, rng.randint(1, 30)))),
        "tiers": _random_tiers(rng, model) if model in _TIERED else [],
        "package_size": rng.choice(("1", "7", "10", "2.5")) if model == "package" else None,
        "share": rng.choice(("0", "0.029", "0.012", "0.5", "1")) if model == "percentage" else None,
        "fixed": rng.choice(("0", "0", _price(rng))),
        "minimum_minor": minimum,
        "maximum_minor": maximum,
    }


def random_facts(rng: random.Random) -> list[Fact]:
    """Up to 25 facts, some before or after the month, some at its very edges, some repeated."""
    facts = [_random_fact(rng, number) for number in range(rng.randint(0, 20))]
    facts += rng.choices(facts, k=rng.randint(0, 5)) if facts else []
    rng.shuffle(facts)
    return facts


def _price(rng: random.Random) -> str:
    return rng.choice(
        (*_HALVES, str(rng.randint(0, 200)), f"{rng.randint(0, 9)}.{rng.randint(0, 999_999):06d}")
    )


def _random_tiers(rng: random.Random, model: str) -> list[dict[str, Any]]:
    bounds = sorted(rng.sample(range(1, 80), rng.randint(0, 4)))
    return [
        {
            "up_to": None if bound is None else str(bound),
            "unit_price": "0" if model == "stairstep" else _price(rng),
            "flat": rng.choice(("0", _price(rng))),
        }
        for bound in (*bounds, None)
    ]


def _random_fact(rng: random.Random, number: int) -> Fact:
    at = rng.choice(
        (
            START + timedelta(seconds=rng.randint(0, 30 * 86_400 - 1), microseconds=rng.randint(0, 999_999)),
            START + timedelta(days=rng.randint(-3, 33)),
            START,
            END,
            END - timedelta(microseconds=1),
        )
    )
    quantity = rng.choice((Fraction(rng.randint(-3, 12)), Fraction(rng.randint(-8, 60), 4), Fraction(1, 3)))
    return Fact(quantity, at, f"event-{number}", rng.choice("abcde"))
