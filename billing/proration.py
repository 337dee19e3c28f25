"""Proration: what a change inside a period gives back and takes, to the second."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from fractions import Fraction
from typing import Any

from billing.errors import CurrencyMismatch
from billing.exact import exact_text
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


class Side(StrEnum):
    """What a change gives back, and what it charges."""

    unused = "unused"
    remaining = "remaining"


@dataclass(frozen=True, slots=True)
class ProratedPart:
    """One side of a change in mid-period, with all that it is computed from.

    `base` is the price of the whole `period` after discounts: what was really charged for it, or what
    would be. `listed` is the same price before discounts.
    """

    side: Side
    base: Money
    listed: Money
    period: Period
    changed_at: datetime

    @property
    def share(self) -> Fraction:
        """The part of the period that was left."""
        return unused_share(self.period, self.changed_at)

    @property
    def exact(self) -> Fraction:
        """Signed, in minor units, before it is rounded."""
        return (-1 if self.side is Side.unused else 1) * self.base.minor * self.share

    @property
    def amount(self) -> Money:
        return Money.rounded(self.exact, self.base.currency)

    def to_record(self) -> dict[str, object]:
        """JSON-safe; `seconds_left` of `seconds` is the share, `exact` the amount before rounding."""
        start, end, change = (
            _epoch_second(at) for at in (self.period.start, self.period.end, self.changed_at)
        )
        return {
            "side": self.side.value,
            "base_minor": self.base.minor,
            "listed_minor": self.listed.minor,
            "currency": self.base.currency,
            "start_at": _text(self.period.start),
            "end_at": _text(self.period.end),
            "changed_at": _text(self.changed_at),
            "seconds": end - start,
            "seconds_left": end - min(max(change, start), end),
            "share": exact_text(self.share),
            "exact": exact_text(self.exact),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> ProratedPart | None:
        """Read what `to_record` wrote; None for a record of before prorations named their base."""
        if "base_minor" not in record:
            return None
        currency = str(record["currency"])
        return cls(
            side=Side(record["side"]),
            base=Money(record["base_minor"], currency),
            listed=Money(record["listed_minor"], currency),
            period=Period(_instant(record["start_at"]), _instant(record["end_at"])),
            changed_at=_instant(record["changed_at"]),
        )


def _text(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text)
