"""Backtests: what past charges come to under other terms, and how that adds up.

A charge of a closed billing period is known three times: as it was invoiced, again by the terms of
its time, and by the draft. The second must equal the first; the third less the second is what the draft
changes. All amounts are before discounts and tax.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from billing.groups import GroupedTerms, Value
from billing.metering import Aggregation
from billing.money import Money
from billing.proration import ProratedPart, Side
from billing.usage import Counted, Holding, rate_groups

PER_SEAT = "per_seat"


@dataclass(frozen=True, slots=True)
class Pricing:
    """What a plan charges in one currency and interval: its price, and monthly terms by meter code."""

    base_charge: str
    price: Money
    charges: Mapping[str, GroupedTerms]

    def recurring(self, seats: int, *, in_trial: bool = False) -> Money:
        """A whole period in advance, as `recurring` and `seats` lines charge it."""
        if in_trial:
            return Money.zero(self.price.currency)
        return self.price.scaled(seats if self.base_charge == PER_SEAT else 1)

    def usage(
        self, meter: str, aggregation: Aggregation, holding: Holding, counted: Mapping[int, Counted]
    ) -> Money:
        """What each group counted, in arrears, as `usage` lines and their adjustments charge it together.

        Nothing for a meter that the plan does not charge.
        """
        currency = self.price.currency
        monthly = self.charges.get(meter)
        if monthly is None:
            return Money.zero(currency)
        rated = rate_groups(holding.price(monthly, aggregation), counted)
        return Money.total((group.rating.amount for group in rated), currency)

    def matches(self, meter: str) -> list[dict[str, list[Value]]]:
        """How the plan splits a meter's events into groups."""
        monthly = self.charges.get(meter)
        return [] if monthly is None else monthly.matches


def prorated_again(part: ProratedPart, listed: Money, base: Money | None = None) -> Money:
    """A change's credit or charge, had the item's list price been another.

    Args: `listed`, the other price; `base`, what would then have been charged for the period that a
    credit gives back, None where it follows from the price. A discount keeps its proportion.
    """
    if base is None:
        factor = Fraction(listed.minor, part.listed.minor) if part.listed.minor else None
        exact = Fraction(listed.minor) if factor is None else part.base.minor * factor
    else:
        exact = Fraction(base.minor)
    sign = -1 if part.side is Side.unused else 1
    return Money.rounded(sign * exact * part.share, listed.currency)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One charge three times, and whose and which it is.

    `part` is `recurring`, `changes` (prorations) or a meter's code; `place` names it for a person.
    """

    organization: str
    plan: str
    part: str
    place: str
    invoiced: Money
    again: Money
    draft: Money


@dataclass(slots=True)
class Total:
    """What some charges come to, in minor units of one currency."""

    invoiced: int = 0
    before: int = 0
    after: int = 0

    @property
    def difference(self) -> int:
        """What the draft adds (or, below zero, takes away)."""
        return self.after - self.before

    @property
    def percent(self) -> Fraction | None:
        """The difference in per cent of what it was; None of nothing."""
        return Fraction(self.difference * 100, self.before) if self.before else None

    def add(self, compared: Comparison) -> None:
        self.invoiced += compared.invoiced.minor
        self.before += compared.again.minor
        self.after += compared.draft.minor


@dataclass(slots=True)
class CurrencyTally:
    """The charges of one currency, by organization and by plan and part."""

    total: Total = field(default_factory=Total)
    organizations: dict[str, Total] = field(default_factory=dict)
    parts: dict[tuple[str, str], Total] = field(default_factory=dict)

    def add(self, compared: Comparison) -> None:
        self.total.add(compared)
        self.organizations.setdefault(compared.organization, Total()).add(compared)
        self.parts.setdefault((compared.plan, compared.part), Total()).add(compared)

    def ranked(self) -> list[tuple[str, Total]]:
        """Organizations, who pays most more first."""
        return sorted(self.organizations.items(), key=lambda each: (-each[1].difference, each[0]))

    def counted(self) -> tuple[int, int, int]:
        """How many organizations pay more, less, the same."""
        signs = [total.difference for total in self.organizations.values()]
        more, less = sum(sign > 0 for sign in signs), sum(sign < 0 for sign in signs)
        return more, less, len(signs) - more - less


@dataclass(slots=True)
class Tally:
    """Every comparison of a backtest, added up; the charges that do not come to their amount are kept."""

    most_kept: int = 100
    compared: int = 0
    disagreeing: int = 0
    deviations: list[Comparison] = field(default_factory=list)
    currencies: dict[str, CurrencyTally] = field(default_factory=dict)

    def add(self, comparisons: Iterable[Comparison]) -> None:
        for each in comparisons:
            self.compared += 1
            if each.again != each.invoiced:
                self.disagreeing += 1
                if len(self.deviations) < self.most_kept:
                    self.deviations.append(each)
            self.currencies.setdefault(each.draft.currency, CurrencyTally()).add(each)
