"""Discounts: what a coupon or a bundle takes off the lines of an invoice, to the minor unit per line.

Source: docs.stripe.com/billing/subscriptions/coupons. Discounts apply one after the other, each on what
the ones before it left; a percentage is rounded on each line, an amount is split over the lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from fractions import Fraction

from billing.errors import InvalidTerms
from billing.money import Money
from billing.periods import Interval, nth_boundary


class Duration(StrEnum):
    """How long a coupon stays on a subscription."""

    once = "once"
    repeating = "repeating"
    forever = "forever"


@dataclass(frozen=True, slots=True)
class Discount:
    """One discount of an invoice: `percent` 12.5 means 12.5 %, or a fixed `amount`; never both.

    `code` names it on the lines that it lowers. `products` (as lines name them) are those that it
    covers, None for all.
    """

    code: str
    percent: Fraction | None = None
    amount: Money | None = None
    products: frozenset[str] | None = None

    def __post_init__(self) -> None:
        if (self.percent is None) == (self.amount is None):
            raise InvalidTerms("a discount is either a percentage or an amount", field="discount")
        if self.percent is not None and not 0 <= self.percent <= 100:
            raise InvalidTerms("must be 0 to 100", field="percent_off")
        if self.amount is not None and self.amount.minor < 0:
            raise InvalidTerms("must not be negative", field="discount")

    def covers(self, product: str) -> bool:
        """Whether lines of this product take part."""
        return self.products is None or product in self.products

    def split(self, nets: Sequence[Money]) -> list[Money]:
        """What each of these lines gives up, of what it still charges; a credit gives up nothing.

        A percentage is rounded once per line. An amount is split in proportion (largest remainder)
        and capped at the lines' sum, which credits among them shrink: no discount exceeds the bill.
        """
        charges = [max(net.minor, 0) for net in nets]
        if self.percent is not None:
            return [
                Money(charge, net.currency).scaled(Fraction(self.percent, 100))
                for charge, net in zip(charges, nets, strict=True)
            ]
        assert self.amount is not None
        room = max(0, sum(net.minor for net in nets))
        return Money(min(self.amount.minor, room), self.amount.currency).allocated(charges)


def is_live(
    duration: Duration, months: int | None, given_at: datetime, invoiced_at: datetime, *, spent: bool
) -> bool:
    """Whether a coupon given at one instant still lowers an invoice made at another.

    A repeating one lasts calendar months from the day it was given, so that invoice of the very
    boundary goes without. `once` is spent by the first invoice that it lowered.
    """
    if duration is Duration.once:
        return not spent
    if duration is Duration.forever:
        return True
    assert months is not None, "a repeating coupon has months"
    return invoiced_at < nth_boundary(given_at, Interval.month, months)
