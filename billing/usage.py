"""From the facts of a period to the charges of its lines: filter, split into groups, count, price.

Invoices, what a period has cost so far, and a plan tried on past usage all come through here. Where the
counting is left to Postgres, `rate_groups` takes up what it counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction

from billing.allowances import terms_over
from billing.groups import GroupedTerms, Match
from billing.metering import Aggregation, UsageFact, aggregate, matches
from billing.periods import Period
from billing.rating import Rating, rate
from billing.terms import ChargeModel, ChargeTerms


@dataclass(frozen=True, slots=True)
class MeterRules:
    """What of a meter decides a quantity. Events that fail `filters` are kept, and do not count."""

    aggregation: Aggregation
    filters: Match


@dataclass(frozen=True, slots=True)
class MeteredEvent:
    """A fact with the properties that decide whether it counts, and where."""

    fact: UsageFact
    properties: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Counted:
    """What the events of one group come to: `facts` of them count, `excluded` fail the meter's filters.

    `voided` are those that a correction says never happened.
    """

    quantity: Fraction = Fraction(0)
    facts: int = 0
    excluded: int = 0
    voided: int = 0

    @property
    def events(self) -> int:
        """All of them, whether they count or not."""
        return self.facts + self.excluded + self.voided


@dataclass(frozen=True, slots=True)
class RatedGroup:
    """One line to be: a group (by its number, see `GroupedTerms`), its count, terms and charge."""

    number: int
    counted: Counted
    terms: ChargeTerms
    rating: Rating


@dataclass(frozen=True, slots=True)
class Holding:
    """How a plan is held in a period: billed per which interval, for which part of it, and if in a trial."""

    interval: str
    share: Fraction
    in_trial: bool = False

    def price(self, monthly: GroupedTerms, aggregation: Aggregation) -> GroupedTerms:
        """The terms of the period, made of the plan's terms of a month; those of a trial are free.

        Args: `share` above zero.
        """
        if self.in_trial:
            free = ChargeTerms(ChargeModel.per_unit, monthly.rest.currency)
            return monthly.each(lambda _: free)
        return monthly.each(lambda terms: terms_over(terms, self.interval, aggregation, self.share))


def held_share(period: Period, held_from: datetime, held_until: datetime | None) -> Fraction:
    """The part of the period in which a plan was held: a change in mid-period splits the allowance.

    0 when it was not held at all. A period of no length is held whole.
    """
    start, end = max(held_from, period.start), min(held_until or period.end, period.end)
    if not period.seconds:
        return Fraction(1)
    return Fraction(Period(start, end).seconds, period.seconds) if start < end else Fraction(0)


def count_groups(
    rules: MeterRules, price: GroupedTerms, events: Iterable[MeteredEvent], period: Period
) -> dict[int, Counted]:
    """The quantity of each group that has events in the period.

    A repeated event (same key, same content) counts once. The mean of a level carries in what was there
    before the period: its group is in the answer even without an event in the period.
    Raises: InvalidUsage when one key comes with two different contents.
    """
    counting: dict[int, list[UsageFact]] = {}
    excluded: dict[int, list[UsageFact]] = {}
    for event in events:
        into = counting if matches(event.properties, rules.filters) else excluded
        into.setdefault(price.number_of(event.properties), []).append(event.fact)
    return {
        number: Counted(
            aggregate(rules.aggregation, counting.get(number, ()), period),
            int(aggregate(Aggregation.count, counting.get(number, ()), period)),
            int(aggregate(Aggregation.count, excluded.get(number, ()), period)),
        )
        for number in sorted(counting.keys() | excluded.keys())
    }


def rate_groups(price: GroupedTerms, counted: Mapping[int, Counted]) -> list[RatedGroup]:
    """The charge of each group, in the sequence of their lines.

    A group without events has one as well when it costs something all the same: a fixed part, a minimum.
    """
    rated = []
    for number in price.numbers:
        group = counted.get(number, Counted())
        terms = price.terms_of(number)
        rating = rate(group.quantity, terms)
        if group.events or rating.amount.minor:
            rated.append(RatedGroup(number, group, terms, rating))
    return rated
