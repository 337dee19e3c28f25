"""Random histories: a meter, a price as a stored record, how it is held, and the events of a period."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any, NamedTuple

from tests.property.slow_rater import Contract, Fact

START = datetime(2026, 11, 1, tzinfo=UTC)
END = datetime(2026, 12, 1, tzinfo=UTC)
MODELS = ("per_unit", "per_seat", "flat", "package", "graduated", "volume", "stairstep", "percentage")
AGGREGATIONS = ("count", "sum", "max", "min", "avg", "unique", "last", "time_weighted_sum")

# Values that are equal in Python and are not to whoever sent them.
_PROPERTIES: dict[str, tuple[Any, ...]] = {"region": ("eu", "uk", "us"), "size": (1, "1", True, 0, False)}
_TOLD = 0.8
_FILTERED = 0.4
_TIERED = ("graduated", "volume", "stairstep")
_HALVES = ("0.5", "1.5", "2.5", "0.25", "0.125")


class History(NamedTuple):
    """All that decides what the lines of one meter and period are."""

    aggregation: str
    filters: dict[str, list[Any]]
    price: dict[str, Any]
    facts: list[Fact]
    contract: Contract


def random_history(seed: int) -> History:
    """The history of a seed, for ever the same."""
    rng = random.Random(seed)
    facts = random_facts(rng)
    filters = _random_match(rng) if rng.random() < _FILTERED else {}
    return History(rng.choice(AGGREGATIONS), filters, random_price(rng), facts, _random_contract(rng))


def random_price(rng: random.Random) -> dict[str, Any]:
    """Terms with up to three groups, none of which an earlier one covers."""
    currency = rng.choice(("USD", "ZAR", "JPY", "KWD", "ISK"))
    price = random_terms(rng, currency)
    groups: list[dict[str, Any]] = []
    for _ in range(rng.choice((0, 0, 0, 1, 2, 3))):
        match = _random_match(rng)
        if not any(_covers(group["match"], match) for group in groups):
            groups.append({"match": match, **random_terms(rng, currency)})
    return {**price, "groups": groups} if groups else price


def random_terms(rng: random.Random, currency: str) -> dict[str, Any]:
    """A record of valid terms; bounds are integers, prices have up to 6 decimals and many halves."""
    model = rng.choice(MODELS)
    step = {"KWD": 10, "ISK": 100}.get(currency, 1)
    minimum = rng.choice((None, None, rng.randint(0, 300) * step))
    maximum = rng.choice((None, None, (minimum or 0) + rng.randint(0, 3000) * step))
    return {
        "shape": 1,
        "model": model,
        "currency": currency,
        "unit_price": "0" if model in (*_TIERED, "percentage") else _price(rng),
        "included": "0" if model == "flat" else str(rng.choice((0, 0, rng.randint(1, 30)))),
        "tiers": _random_tiers(rng, model) if model in _TIERED else [],
        "package_size": rng.choice(("1", "7", "10", "2.5")) if model == "package" else None,
        "share": rng.choice(("0", "0.029", "0.012", "0.5", "1")) if model == "percentage" else None,
        "fixed": rng.choice(("0", "0", _price(rng))),
        "minimum_minor": minimum,
        "maximum_minor": maximum,
    }


def _random_match(rng: random.Random) -> dict[str, list[Any]]:
    names = rng.sample(sorted(_PROPERTIES), rng.choice((1, 1, 2)))
    return {name: rng.sample(_PROPERTIES[name], rng.randint(1, len(_PROPERTIES[name]) - 1)) for name in names}


def _covers(earlier: dict[str, list[Any]], later: dict[str, list[Any]]) -> bool:
    return all(
        name in later and {repr(value) for value in later[name]} <= {repr(value) for value in values}
        for name, values in earlier.items()
    )


def _random_contract(rng: random.Random) -> Contract:
    """Often the whole of a period, else from or until some instant in it."""
    interval = rng.choice(("month", "month", "quarter", "year"))
    cut = START + timedelta(seconds=rng.randint(1, 30 * 86_400 - 1))
    held_from = rng.choice((START - timedelta(days=40), START, cut))
    later = cut + timedelta(seconds=rng.randint(1, 40 * 86_400))
    held_until = rng.choice((END, END + timedelta(days=9), cut if held_from < cut else later))
    return Contract(interval, START, END, held_from, held_until)


def random_facts(rng: random.Random) -> list[Fact]:
    """Up to 11 facts, some before or after the month, some at its very edges, some repeated."""
    facts = [_random_fact(rng, number) for number in range(rng.randint(0, 8))]
    facts += rng.choices(facts, k=rng.randint(0, 3)) if facts else []
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
    properties = {name: rng.choice(values) for name, values in _PROPERTIES.items() if rng.random() < _TOLD}
    return Fact(quantity, at, f"event-{number}", rng.choice("abcde"), properties)
