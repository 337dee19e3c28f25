"""A second opinion on metering and rating, written from the formulas alone.

It shares no code and no method with the package: it walks the axis of quantities unit by unit and the
axis of time step by step, and rounds by comparing remainders. Slow, and hard to get wrong.
Terms come as the plain record that an invoice line stores. Bounds and the allowance must be integers.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from typing import Any, NamedTuple


class Fact(NamedTuple):
    """A quantity at an instant, with the identity of its event and a value to count distinctly."""

    quantity: Fraction
    at: datetime
    key: str
    value: str


def slow_quantity(aggregation: str, facts: Sequence[Fact], start: datetime, end: datetime) -> Fraction:
    """Reduce facts to a quantity, one pass per question."""
    once: list[Fact] = []
    for fact in sorted(facts, key=lambda fact: (fact.at, fact.key, fact.quantity)):
        if fact not in once:
            once.append(fact)
    if aggregation == "time_weighted_sum":
        return _area(once, start, end)
    seen = [fact for fact in once if start <= fact.at and fact.at < end]
    if not seen:
        return Fraction(0)
    total = Fraction(0)
    for fact in seen:
        total += fact.quantity
    ascending = sorted(fact.quantity for fact in seen)
    answers = {
        "count": Fraction(len(seen)),
        "sum": total,
        "max": ascending[-1],
        "min": ascending[0],
        "avg": total * Fraction(1, len(seen)),
        "unique": Fraction(len({fact.value for fact in seen})),
        "last": seen[-1].quantity,
    }
    return answers[aggregation]


def slow_charge(quantity: Fraction, terms: dict[str, Any]) -> int:
    """The charge in minor units under a stored record of terms."""
    used = quantity if quantity > 0 else Fraction(0)
    exact = _number(terms["fixed"]) + _MODELS[terms["model"]](used, terms)
    low, high = terms["minimum_minor"], terms["maximum_minor"]
    if low is not None and exact < low:
        exact = Fraction(low)
    if high is not None and exact > high:
        exact = Fraction(high)
    return _nearest(exact)


def _area(facts: Sequence[Fact], start: datetime, end: datetime) -> Fraction:
    """The area under the level, boundary by boundary, over the length."""
    instants = sorted({start, end} | {fact.at for fact in facts if start < fact.at < end})
    area = Fraction(0)
    for left, right in pairwise(instants):
        level = Fraction(0)
        for fact in facts:
            if fact.at <= left:
                level += fact.quantity
        area += level * Fraction((right - left) // timedelta(microseconds=1))
    return area * Fraction(1, (end - start) // timedelta(microseconds=1))


def _slices(used: Fraction, terms: dict[str, Any]) -> list[tuple[Fraction, Fraction]]:
    """The billable units as (length, position of the upper end), none longer than one unit."""
    slices: list[tuple[Fraction, Fraction]] = []
    position = _number(terms["included"])
    while position < used:
        upper = min(position + 1, used)
        slices.append((upper - position, upper))
        position = upper
    return slices


def _tier_at(position: Fraction, terms: dict[str, Any]) -> dict[str, Any]:
    tiers: list[dict[str, Any]] = terms["tiers"]
    for tier in tiers:
        if tier["up_to"] is None or position <= _number(tier["up_to"]):
            return tier
    raise AssertionError("no open tier")


def _flat(_used: Fraction, terms: dict[str, Any]) -> Fraction:
    return _number(terms["unit_price"])


def _per_unit(used: Fraction, terms: dict[str, Any]) -> Fraction:
    return sum((length * _number(terms["unit_price"]) for length, _ in _slices(used, terms)), Fraction(0))


def _package(used: Fraction, terms: dict[str, Any]) -> Fraction:
    packages, covered = 0, _number(terms["included"])
    while covered < used:
        packages += 1
        covered += _number(terms["package_size"])
    return packages * _number(terms["unit_price"])


def _graduated(used: Fraction, terms: dict[str, Any]) -> Fraction:
    total, entered = Fraction(0), []
    for length, position in _slices(used, terms):
        tier = _tier_at(position, terms)
        total += length * _number(tier["unit_price"])
        if tier not in entered:
            entered.append(tier)
            total += _number(tier["flat"])
    return total


def _volume(used: Fraction, terms: dict[str, Any]) -> Fraction:
    slices = _slices(used, terms)
    if not slices:
        return Fraction(0)
    tier = _tier_at(used, terms)
    return _number(tier["flat"]) + sum(
        (length * _number(tier["unit_price"]) for length, _ in slices), Fraction(0)
    )


def _stairstep(used: Fraction, terms: dict[str, Any]) -> Fraction:
    return _number(_tier_at(used, terms)["flat"]) if _slices(used, terms) else Fraction(0)


def _percentage(used: Fraction, terms: dict[str, Any]) -> Fraction:
    return sum((length * _number(terms["share"]) for length, _ in _slices(used, terms)), Fraction(0))


def _number(text: str) -> Fraction:
    return Fraction(text)


def _nearest(exact: Fraction) -> int:
    """The nearest integer at or above zero; the upper one when two are equally near."""
    assert exact >= 0, "a charge is never negative"
    below = exact.numerator // exact.denominator
    return below if exact - below < below + 1 - exact else below + 1


_MODELS = {
    "flat": _flat,
    "per_unit": _per_unit,
    "per_seat": _per_unit,
    "package": _package,
    "graduated": _graduated,
    "volume": _volume,
    "stairstep": _stairstep,
    "percentage": _percentage,
}
