"""Proration: what a change inside a period gives back and takes, to the second."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from fractions import Fraction

from billing.errors import CurrencyMismatch
from billing.money import Money
from billing.periods import Period

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)


def prorate_change(old: Money, new: Money, period: Period, changed_at: datetime) -> tuple[Money, Money]:
    """Credit the unused time on `old`; charge the same time on `new`.

    Args: whole-period prices in minor units, one currency; `changed_at` UTC, clamped to `period`.
    Returns: (credit <= 0, charge >= 0), each rounded once from an exact share.
    Raises: CurrencyMismatch.
    Source: docs.stripe.com/billing/scripts/prorations (standard logic works to the second).
    """
    if old.currency != new.currency:
        raise CurrencyMismatch(f"{old.currency} meets {new.currency}", field="currency")
    share = unused_share(period, changed_at)
    return -old.scaled(share), new.scaled(share)


def unused_share(period: Period, at: datetime) -> Fraction:
    """The part of the period from `at` to its end, 0 to 1; nothing of an empty period is unused.

    Instants are cut to whole seconds first, as Stripe's timestamps are: a change that we store with
    microseconds must come to the same amount there and here.
    """
    start, end, change = (_epoch_second(instant) for instant in (period.start, period.end, at))
    if start >= end:
        return Fraction(0)
    return Fraction(end - min(max(change, start), end), end - start)


def _epoch_second(at: datetime) -> int:
    if at.tzinfo is None:
        raise ValueError(f"naive instant: {at}")
    return (at - _EPOCH) // _SECOND
