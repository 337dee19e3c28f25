"""Usage accounts: the proof that no acknowledged event is lost, by batch, by product and by day.

To count a day means to look at each of its events. So days are counted by a tick, the newest most often,
and kept; metrics, pages and the API read what is kept.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, timedelta
from uuid import UUID

from billing.errors import InvalidTerms, NotFound
from models import accounts
from models.accounts import COUNTS, BatchAccounts, BrokenBatch, KeptDay, ProductDayAccounts
from tasks.context import Context
from tasks.queue import tick

log = logging.getLogger("dunlin.accounts")

MOST_DAYS = 92
_MOST_BROKEN = 20
_DAY = timedelta(days=1)
# How long a count is good: of the days on which events come in, of days whose events still move (their
# invoice is to come), and of days on which all is said and done.
_FRESH, _MOVING, _SETTLED = timedelta(minutes=1), timedelta(minutes=15), timedelta(days=1)
# Counting takes at most this part of the time, however many events a day has.
_REST_PER_WORK = 20
_TICK_BUDGET = timedelta(seconds=20)


def batch_accounts(context: Context, product_id: UUID, batch_id: UUID) -> BatchAccounts:
    """Where the events of one batch of the product are.

    Raises: NotFound, for the batch of another product too.
    """
    with context.auditor.system() as session:
        found = accounts.batch_accounts(session, product_id, batch_id)
    if found is None:
        raise NotFound("no such batch")
    return found


def usage_accounts(
    context: Context, first: date | None = None, last: date | None = None
) -> list[ProductDayAccounts]:
    """Where the events accepted on these days (UTC) are, by day and product, counted now.

    Without a first or last day: from or to where there is any.
    """
    if first is None or last is None:
        with context.auditor.system() as session:
            span = accounts.accepted_span(session)
        if span is None:
            return []
        first, last = first or span[0], last or span[1]
    return [counted for day in _days(first, last) for counted in _counted(context, day)]


def kept_accounts(
    context: Context, first: date | None = None, last: date | None = None, product_id: UUID | None = None
) -> list[ProductDayAccounts]:
    """The accounts of at most 92 days as they were counted last, the newest day first.

    Without days: of a week up to today. Raises: InvalidTerms.
    """
    with context.auditor.system() as session:
        last = last or accounts.today(session)
        first = first or last - 6 * _DAY
        if not 0 <= (last - first).days < MOST_DAYS:
            raise InvalidTerms(f"must be at most {MOST_DAYS} days, the first one first", field="from")
        return accounts.kept_accounts(session, first, last, product_id)


def product_totals(days: Iterable[ProductDayAccounts]) -> list[ProductDayAccounts]:
    """The days of each product summed up; in the sums `day` is None."""
    names = (*COUNTS, "unbalanced")
    totals: dict[str, dict[str, int]] = {}
    for each in days:
        total = totals.setdefault(each.product_code, dict.fromkeys(names, 0))
        for name in names:
            total[name] += getattr(each, name)
    return [_accounts(code, None, counts) for code, counts in sorted(totals.items())]


def _accounts(code: str, day: date | None, counts: Mapping[str, int]) -> ProductDayAccounts:
    accepted, rated, waiting, quarantined, duplicate, unbalanced = (
        counts.get(name, 0) for name in (*COUNTS, "unbalanced")
    )
    return ProductDayAccounts(code, day, accepted, rated, waiting, quarantined, duplicate, unbalanced)


def broken_batches(context: Context, days: Iterable[date]) -> list[BrokenBatch]:
    """The batches of these days that do not add up, counted now; at most 20 of each day."""
    with context.auditor.system() as session:
        return [batch for day in days for batch in accounts.broken_batches(session, day, _MOST_BROKEN)]


@tick("accounts.count", queue="ops")
def count(context: Context) -> None:
    """Count the days whose count is too old, the oldest count first, for some seconds at most."""
    began_at = context.wall()
    for day in _due(context, began_at):
        started_at = context.wall()
        if started_at - began_at > _TICK_BUDGET:
            return
        found = {counted.product_code: counted for counted in _counted(context, day)}
        took_ms = (context.wall() - started_at) // timedelta(milliseconds=1)
        _keep(context, day, found, took_ms)


def _keep(context: Context, day: date, found: dict[str, ProductDayAccounts], took_ms: int) -> None:
    with context.system() as unit:
        for kept in accounts.kept_accounts(unit.session, day, day):
            # Nothing is there any more of what was counted before: that does not add up either.
            found.setdefault(kept.product_code, _accounts(kept.product_code, day, {}))
        for counted in found.values():
            accounts.keep(unit.session, counted, unit.now, took_ms)
        for kept in accounts.kept_accounts(unit.session, day, day):
            if not kept.adds_up:
                log.error("usage of %s accepted on %s does not add up: %s", kept.product_code, day, kept)


def _due(context: Context, wall: datetime) -> list[date]:
    with context.auditor.system() as session:
        kept, today = accounts.kept_days(session), accounts.today(session)
        first = kept[-1].day + _DAY if kept else None
        if first is None:
            span = accounts.accepted_span(session)
            first = today if span is None else span[0]
    due = [each for each in kept if wall - each.counted_at >= _lasts(each, today)]
    known = [each.day for each in sorted(due, key=lambda each: each.counted_at)]
    return [*_days(first, today), *known]


def _lasts(kept: KeptDay, today: date) -> timedelta:
    """How long the count of a day is good."""
    lasts = _MOVING if kept.is_open else _SETTLED
    if today - kept.day <= _DAY:
        lasts = _FRESH
    return max(lasts, _REST_PER_WORK * timedelta(milliseconds=kept.took_ms))


def _counted(context: Context, day: date) -> list[ProductDayAccounts]:
    with context.auditor.system() as session:
        return accounts.day_accounts(session, day)


def _days(first: date, last: date) -> Iterator[date]:
    for number in range((last - first).days + 1):
        yield first + number * _DAY
