"""What a backtest compares: closed billing periods of some organizations, each with its lines."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from uuid import UUID

from billing.periods import Period
from models import backtesting
from models.backtesting import BilledStretch, ClosedPeriod, PastLine
from models.database import Session

RECURRING = ("recurring", "seats")
PeriodKey = tuple[UUID, datetime]


@dataclass(frozen=True, slots=True)
class Asked:
    """Which charges are compared: of items of these plans, in one currency or all."""

    plans: frozenset[str]
    currency: str | None

    def covers(self, stretch: BilledStretch) -> bool:
        return stretch.plan.code in self.plans and self.currency in (None, stretch.price.currency)


@dataclass(slots=True)
class Counts:
    """What was compared, and what was left out, of which the report must tell."""

    periods: int = 0
    events: int = 0
    still_open: int = 0
    void: int = 0
    unpriced: int = 0
    untaken: int = 0
    unexplained: int = 0

    def add(self, other: "Counts") -> None:
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))


@dataclass(frozen=True, slots=True)
class Rows:
    """Closed periods without those that a voided line belongs to; each line with its period."""

    stretches: Mapping[UUID, BilledStretch]
    closed: Mapping[PeriodKey, ClosedPeriod]
    lines: Sequence[tuple[PastLine, ClosedPeriod]]


def load(
    session: Session, organization_ids: Sequence[UUID], period: Period, asked: Asked, counts: Counts
) -> Rows:
    """Read the rows of some organizations; `counts` learns what is left out.

    A billing period belongs to `period` when it begins in it.
    """
    stretches = {each.item.id: each for each in backtesting.stretches(session, organization_ids)}
    wanted = {each.subscription.id for each in stretches.values() if asked.covers(each)}
    found = backtesting.closed_periods(session, organization_ids, period.start, period.end)
    closed = {(each.subscription_id, each.start_at): each for each in found if each.subscription_id in wanted}
    until = max([period.end, *(each.end_at for each in found)])
    lines = backtesting.lines(session, organization_ids, period.start, until)
    lines = [line for line in lines if line.subscription_id in wanted]
    counts.still_open += _close_ended(closed, lines, stretches, period)
    placed = _placed(closed, lines)
    void = {(each.subscription_id, each.start_at) for line, each in placed if line.status == "void"}
    counts.void += len(void)
    counts.periods += len(closed) - len(void)
    items = [each.item.id for each in stretches.values() if asked.covers(each)]
    if closed:
        counts.untaken += backtesting.untaken(session, organization_ids, items, Period(period.start, until))
    kept = {key: each for key, each in closed.items() if key not in void}
    return Rows(stretches, kept, [pair for pair in placed if _key(pair[1]) in kept])


def _close_ended(
    closed: dict[PeriodKey, ClosedPeriod],
    lines: Iterable[PastLine],
    stretches: Mapping[UUID, BilledStretch],
    period: Period,
) -> int:
    """A last period without usage to bill has no closing invoice: it ends with its subscription.

    Returns how many billing periods that began in `period` still run, or wait for their invoice.
    """
    still_open = set()
    for line in lines:
        key = (line.subscription_id, line.period_start_at)
        stretch = stretches.get(line.item_id) if line.item_id is not None else None
        if stretch is None or line.kind not in RECURRING or key in closed:
            continue
        ended_at = stretch.subscription.ended_at
        if ended_at is not None and line.period_start_at < ended_at <= line.period_end_at:
            closed[key] = ClosedPeriod(stretch.item.organization_id, *key, ended_at)
        elif period.contains(line.period_start_at):
            still_open.add(key)
    return len(still_open)


def _placed(
    closed: Mapping[PeriodKey, ClosedPeriod], lines: Iterable[PastLine]
) -> list[tuple[PastLine, ClosedPeriod]]:
    """Each line with its closed period; those of a change begin somewhere inside theirs."""
    by_subscription: dict[UUID, list[ClosedPeriod]] = defaultdict(list)
    for each in closed.values():
        by_subscription[each.subscription_id].append(each)
    placed = []
    for line in lines:
        for each in by_subscription[line.subscription_id]:
            at = line.period_start_at
            inside = each.start_at <= at < each.end_at if line.kind == "proration" else each.start_at == at
            if inside:
                placed.append((line, each))
    return placed


def _key(closed: ClosedPeriod) -> PeriodKey:
    return closed.subscription_id, closed.start_at
