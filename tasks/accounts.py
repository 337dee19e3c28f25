"""Usage accounts: the proof that no acknowledged event is lost, by batch, by day and by product."""

from collections.abc import Iterable
from uuid import UUID

from billing.errors import NotFound
from models import accounts
from models.accounts import BatchAccounts, ProductDayAccounts
from tasks.context import Context

_COUNTS = ("accepted", "rated", "waiting", "quarantined", "duplicate")


def batch_accounts(context: Context, product_id: UUID, batch_id: UUID) -> BatchAccounts:
    """Where the events of one batch of the product are.

    Raises: NotFound, for the batch of another product too.
    """
    with context.auditor.system() as session:
        found = accounts.batch_accounts(session, product_id, batch_id)
    if found is None:
        raise NotFound("no such batch")
    return found


def usage_accounts(context: Context) -> list[ProductDayAccounts]:
    """Where all events ever accepted are, by product and day (UTC)."""
    with context.auditor.system() as session:
        return accounts.day_accounts(session)


def product_totals(days: Iterable[ProductDayAccounts]) -> list[ProductDayAccounts]:
    """The days of each product summed up; in the sums `day` is None."""
    totals: dict[str, dict[str, int]] = {}
    for each in days:
        total = totals.setdefault(each.product_code, dict.fromkeys(_COUNTS, 0))
        for name in _COUNTS:
            total[name] += getattr(each, name)
    return [ProductDayAccounts(code, None, **counts) for code, counts in sorted(totals.items())]
