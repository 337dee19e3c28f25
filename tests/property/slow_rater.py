"""A second opinion on metering and rating, written from the formulas alone.

It shares no code and no method with the package: it walks the axis of quantities step by step and the
axis of time boundary by boundary, and rounds by comparing remainders. Slow, and hard to get wrong.
Terms come as the plain record that the catalog and invoice lines store.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from fractions import Fraction
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

_TICK = timedelta(microseconds=1)
# What a currency can be charged in, where that is not one minor unit.
_STEPS = {"KWD": 10, "ISK": 100}


class Fact(NamedTuple):
    """A quantity at an instant, with the identity of its event, a value to count distinctly, properties."""

    quantity: Fraction
    at: datetime
    key: str
    value: str
    properties: dict[str, Any] = {}


class Contract(NamedTuple):
    """How a plan is held: its billing period, and from when to when of it."""

    interval: str
    start: datetime
    end: datetime
    held_from: datetime
    held_until: datetime


class Line(NamedTuple):
    """What is charged for one group: its place in the price (None: the rest), and how it came about."""

    group: int | None
    quantity: Fraction
    facts: int
    excluded: int
    minor: int


def slow_lines(
    aggregation: str,
    filters: dict[str, Any],
    price: dict[str, Any],
    facts: Sequence[Fact],
    contract: Contract,
) -> list[Line]:
    """Every line of the period, the listed groups first; only those with events or an amount."""
    groups: list[dict[str, Any]] = price.get("groups", [])
    lines = []
    for place in (*range(len(groups)), None):
        mine = [fact for fact in facts if _place(fact.properties, groups) == place]
        good = [fact for fact in mine if _fits(fact.properties, filters)]
        bad = [fact for fact in mine if not _fits(fact.properties, filters)]
        quantity = slow_quantity(aggregation, good, contract.start, contract.end)
        terms = slow_terms(price if place is None else groups[place], aggregation, contract)
        counts = [slow_quantity("count", some, contract.start, contract.end) for some in (good, bad)]
        line = Line(place, quantity, int(counts[0]), int(counts[1]), slow_charge(quantity, terms))
        if line.facts or line.excluded or line.minor:
            lines.append(line)
    return lines


def slow_terms(monthly: dict[str, Any], aggregation: str, contract: Contract) -> dict[str, Any]:
    """A month's terms as those of the stretch in which the plan was held.

    What is counted up (sum, count) has its bounds stretched by the months held; what stands at a level
    pays its prices for the months held; the mean of a level pays for each month of the whole period, at
    bounds shrunk to the part of it that was held. What is due once is due for the months held.
    """
    months = {"month": 1, "quarter": 3, "year": 12}[contract.interval]
    held = min(contract.held_until, contract.end) - max(contract.held_from, contract.start)
    part = Fraction(held // _TICK, (contract.end - contract.start) // _TICK)
    bounds, prices = {
        "sum": (months * part, Fraction(1)),
        "count": (months * part, Fraction(1)),
        "time_weighted_sum": (part, Fraction(months)),
    }.get(aggregation, (Fraction(1), months * part))
    once = months * part
    unit = once if monthly["model"] == "flat" else prices
    step = _STEPS.get(monthly["currency"], 1)
    return {
        **monthly,
        "unit_price": _times(monthly["unit_price"], unit),
        "share": None if monthly["share"] is None else _times(monthly["share"], prices),
        "included": _times(monthly["included"], bounds),
        "fixed": _times(monthly["fixed"], once),
        "tiers": [
            {
                "up_to": None if tier["up_to"] is None else _times(tier["up_to"], bounds),
                "unit_price": _times(tier["unit_price"], prices),
                "flat": _times(tier["flat"], once),
            }
            for tier in monthly["tiers"]
        ],
        **{
            name: None if monthly[name] is None else _nearest(monthly[name] * once, step)
            for name in ("minimum_minor", "maximum_minor")
        },
    }


def _place(properties: dict[str, Any], groups: list[dict[str, Any]]) -> int | None:
    for place, group in enumerate(groups):
        if _fits(properties, group["match"]):
            return place
    return None


def _fits(properties: dict[str, Any], wanted: dict[str, Any]) -> bool:
    # Written out as text with their type, so that 1, true and "1" are three values.
    return all(
        name in properties and repr(properties[name]) in [repr(value) for value in values]
        for name, values in wanted.items()
    )


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
    return _nearest(exact, _STEPS.get(terms["currency"], 1))


def _area(facts: Sequence[Fact], start: datetime, end: datetime) -> Fraction:
    """The area under the level, boundary by boundary, over the length."""
    instants = sorted({start, end} | {fact.at for fact in facts if start < fact.at < end})
    area = Fraction(0)
    for left, right in pairwise(instants):
        level = Fraction(0)
        for fact in facts:
            if fact.at <= left:
                level += fact.quantity
        area += level * Fraction((right - left) // _TICK)
    return area * Fraction(1, (end - start) // _TICK)


def _slices(used: Fraction, terms: dict[str, Any]) -> list[tuple[Fraction, Fraction]]:
    """The billable units as (length, position of the upper end): one unit, or less up to a bound."""
    slices: list[tuple[Fraction, Fraction]] = []
    bounds = [_number(tier["up_to"]) for tier in terms["tiers"] if tier["up_to"] is not None]
    # Wide steps for wide terms: a year has hundreds of units.
    stride = max(Fraction(1), used / 10)
    position = _number(terms["included"])
    while position < used:
        upper = min([position + stride, used, *(bound for bound in bounds if bound > position)])
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


@cache
def _read(text: str) -> Fraction:
    return Fraction(text)


def _number(text: str | Fraction) -> Fraction:
    return _read(text) if isinstance(text, str) else text


def _times(text: str, factor: Fraction) -> Fraction:
    number = _number(text)
    # Most terms are those of a month, and most of their numbers are zero.
    return number * factor if number and factor != 1 else number


def _nearest(exact: Fraction, step: int) -> int:
    """The nearest multiple of the step at or above zero; the upper one when two are equally near."""
    assert exact >= 0, "a charge is never negative"
    below = exact.numerator // (exact.denominator * step) * step
    return below if exact - below < below + step - exact else below + step


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
