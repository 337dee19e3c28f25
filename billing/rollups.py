"""Rollups: what is kept of some facts so that any aggregation of them, and of more, can still be made."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction

from billing.metering import Aggregation, UsageFact
from billing.periods import Period, exact_seconds

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ZERO = Fraction(0)


@dataclass(frozen=True, slots=True)
class Rollup:
    """A sum of facts, each of which is in it once.

    `last` is (instant, key, quantity) of the latest, `moment` the sum of quantity x seconds since 1970,
    `values` what `unique` counts; `least`, `greatest` and `last` are None of no facts.
    """

    count: int = 0
    sum: Fraction = _ZERO
    least: Fraction | None = None
    greatest: Fraction | None = None
    last: tuple[datetime, str, Fraction] | None = None
    moment: Fraction = _ZERO
    values: frozenset[str] = frozenset()

    @classmethod
    def of(cls, fact: UsageFact) -> Rollup:
        """The rollup of one fact."""
        return cls(
            count=1,
            sum=fact.quantity,
            least=fact.quantity,
            greatest=fact.quantity,
            last=(fact.at, fact.key, fact.quantity),
            moment=fact.quantity * exact_seconds(fact.at - _EPOCH),
            values=frozenset() if fact.unique_value is None else frozenset((fact.unique_value,)),
        )

    def quantity(self, aggregation: Aggregation, period: Period) -> Fraction:
        """What `billing.metering.aggregate` makes of the same facts, all of them in the period."""
        area = self.sum * exact_seconds(period.end - _EPOCH) - self.moment
        answers = {
            Aggregation.count: Fraction(self.count),
            Aggregation.sum: self.sum,
            Aggregation.max: self.greatest or _ZERO,
            Aggregation.min: self.least or _ZERO,
            Aggregation.avg: Fraction(self.sum, self.count or 1),
            Aggregation.unique: Fraction(len(self.values)),
            Aggregation.last: self.last[2] if self.last else _ZERO,
            Aggregation.time_weighted_sum: Fraction(area, period.seconds or 1),
        }
        return answers[aggregation]


def merged(rollups: Iterable[Rollup]) -> Rollup:
    """One rollup of all, in any sequence; no two may hold the same fact."""
    parts = [rollup for rollup in rollups if rollup.count]
    if len(parts) <= 1:
        return parts[0] if parts else Rollup()
    return Rollup(
        count=sum(part.count for part in parts),
        sum=sum((part.sum for part in parts), _ZERO),
        least=min(part.least for part in parts if part.least is not None),
        greatest=max(part.greatest for part in parts if part.greatest is not None),
        last=max(part.last for part in parts if part.last is not None),
        moment=sum((part.moment for part in parts), _ZERO),
        values=frozenset().union(*(part.values for part in parts)),
    )
