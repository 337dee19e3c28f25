"""Rating: a quantity and price terms become a charge, with every step on the way and one rounding.

Formulas and worked tables: README.md of this package; the tests read their figures from there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

from billing.exact import exact_text
from billing.money import Money
from billing.terms import ChargeModel, ChargeTerms, Tier

__all__ = ["ChargeModel", "ChargeTerms", "Rating", "RatingStep", "Tier", "adjustment", "rate"]

_ZERO = Fraction(0)
_ONE = Fraction(1)


@dataclass(frozen=True, slots=True)
class RatingStep:
    """One term of the sum, exact, in minor units: `amount == quantity * unit_price`."""

    label: str
    quantity: Fraction
    unit_price: Fraction
    amount: Fraction


@dataclass(frozen=True, slots=True)
class Rating:
    """A charge and how it came about.

    `exact` is the sum of the steps in minor units; `amount` is `exact`, rounded half away from zero
    to what the currency can charge.
    `quantity` is what was used, `billable` what is left of it beyond the allowance.
    """

    amount: Money
    quantity: Fraction
    billable: Fraction
    steps: tuple[RatingStep, ...]
    exact: Fraction

    def to_record(self) -> dict[str, object]:
        """A JSON-safe account of the charge, numbers as exact text."""
        return {
            "amount_minor": self.amount.minor,
            "currency": self.amount.currency,
            "quantity": exact_text(self.quantity),
            "billable": exact_text(self.billable),
            "steps": [
                {
                    "label": step.label,
                    "quantity": exact_text(step.quantity),
                    "unit_price": exact_text(step.unit_price),
                    "amount": exact_text(step.amount),
                }
                for step in self.steps
            ],
            "exact": exact_text(self.exact),
        }


class _Label(StrEnum):
    """Labels that readers of an explanation meet."""

    included = "included"
    fixed = "fixed"
    minimum = "raised to minimum"
    maximum = "cut to maximum"


def rate(quantity: Fraction, terms: ChargeTerms) -> Rating:
    """Price a quantity under `terms`. A negative quantity is priced as zero: usage never pays out.

    The allowance is the first `included` units. Tier bounds are absolute positions that count the
    allowance too: with 10,000 included and a tier up to 100,000, that tier charges 90,000 units.
    """
    used = max(quantity, _ZERO)
    billable = max(used - terms.included, _ZERO)
    steps: list[RatingStep] = []
    if terms.fixed:
        steps.append(_step(_Label.fixed, _ONE, terms.fixed))
    if terms.included:
        steps.append(_step(_Label.included, min(used, terms.included), _ZERO))
    if billable or terms.model is ChargeModel.flat:
        steps += _STEPS[terms.model](used, terms)
    steps += _commitment(_total(steps), terms)
    exact = _total(steps)
    return Rating(Money.rounded(exact, terms.currency), quantity, billable, tuple(steps), exact)


def adjustment(total_quantity: Fraction, already_billed: Money, terms: ChargeTerms) -> Money:
    """What is still to charge (or, negative, to credit) when a billed quantity turns out otherwise.

    Args: the corrected quantity of the whole period; what its lines came to; the terms of that period.
    """
    return rate(total_quantity, terms).amount - already_billed


def _step(label: str, quantity: Fraction, unit_price: Fraction) -> RatingStep:
    return RatingStep(str(label), Fraction(quantity), Fraction(unit_price), Fraction(quantity * unit_price))


def _total(steps: list[RatingStep]) -> Fraction:
    return sum((step.amount for step in steps), _ZERO)


def _flat(_used: Fraction, terms: ChargeTerms) -> list[RatingStep]:
    return [_step("flat", _ONE, terms.unit_price)]


def _per_unit(used: Fraction, terms: ChargeTerms) -> list[RatingStep]:
    label = "per seat" if terms.model is ChargeModel.per_seat else "per unit"
    return [_step(label, used - terms.included, terms.unit_price)]


def _package(used: Fraction, terms: ChargeTerms) -> list[RatingStep]:
    assert terms.package_size is not None  # the terms were checked when they were made
    packages = -((used - terms.included) // -terms.package_size)
    return [_step(f"packages of {_amount_text(terms.package_size)}", Fraction(packages), terms.unit_price)]


def _percentage(used: Fraction, terms: ChargeTerms) -> list[RatingStep]:
    assert terms.share is not None  # the terms were checked when they were made
    return [_step(f"{exact_text(terms.share * 100)} %", used - terms.included, terms.share)]


def _graduated(used: Fraction, terms: ChargeTerms) -> list[RatingStep]:
    steps: list[RatingStep] = []
    floor = _ZERO
    for tier in terms.tiers:
        top = used if tier.up_to is None else min(used, tier.up_to)
        bottom = max(floor, terms.included)
        if top > bottom:
            steps += _tier_steps(tier, bottom, top - bottom)
        if tier.up_to is None or used <= tier.up_to:
            break
        floor = tier.up_to
    return steps


def _volume(used: Fraction, terms: ChargeTerms) -> list[RatingStep]:
    tier, floor = _tier_of(used, terms)
    return _tier_steps(tier, floor, used - terms.included)


def _stairstep(used: Fraction, terms: ChargeTerms) -> list[RatingStep]:
    tier, floor = _tier_of(used, terms)
    return [_step(_tier_label(tier, floor), _ONE, tier.flat)]


def _tier_of(used: Fraction, terms: ChargeTerms) -> tuple[Tier, Fraction]:
    floor = _ZERO
    for tier in terms.tiers:
        if tier.up_to is None or used <= tier.up_to:
            return tier, floor
        floor = tier.up_to
    raise AssertionError("the last tier is open: the terms were checked when they were made")


def _tier_steps(tier: Tier, floor: Fraction, units: Fraction) -> list[RatingStep]:
    label = _tier_label(tier, floor)
    steps = [_step(label, units, tier.unit_price)]
    if tier.flat:
        steps.append(_step(f"{label}, flat", _ONE, tier.flat))
    return steps


def _tier_label(tier: Tier, floor: Fraction) -> str:
    if tier.up_to is None:
        return f"above {_amount_text(floor)}" if floor else "all units"
    above = f"above {_amount_text(floor)} to" if floor else "up to"
    return f"{above} {_amount_text(tier.up_to)}"


def _amount_text(number: Fraction) -> str:
    return f"{number.numerator:,}" if number.denominator == 1 else exact_text(number)


def _commitment(exact: Fraction, terms: ChargeTerms) -> list[RatingStep]:
    if terms.minimum_minor is not None and exact < terms.minimum_minor:
        return [_step(_Label.minimum, _ONE, terms.minimum_minor - exact)]
    if terms.maximum_minor is not None and exact > terms.maximum_minor:
        return [_step(_Label.maximum, _ONE, terms.maximum_minor - exact)]
    return []


_STEPS: Mapping[ChargeModel, Callable[[Fraction, ChargeTerms], list[RatingStep]]] = {
    ChargeModel.flat: _flat,
    ChargeModel.per_unit: _per_unit,
    ChargeModel.per_seat: _per_unit,
    ChargeModel.package: _package,
    ChargeModel.graduated: _graduated,
    ChargeModel.volume: _volume,
    ChargeModel.stairstep: _stairstep,
    ChargeModel.percentage: _percentage,
}
