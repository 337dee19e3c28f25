"""Access: computed from unpaid invoices, policy and now; never stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from billing.dunning import DunningPolicy
from billing.lifecycles import SubscriptionStatus

_WITHOUT_ACCESS = frozenset(
    (SubscriptionStatus.incomplete, SubscriptionStatus.incomplete_expired, SubscriptionStatus.cancelled)
)


class Access(StrEnum):
    """What a product should let a customer do: `grace` is full use with a warning."""

    full = "full"
    grace = "grace"
    suspended = "suspended"
    none = "none"


@dataclass(frozen=True, slots=True)
class UnpaidInvoice:
    """An open invoice whose payment has failed."""

    first_failed_at: datetime


@dataclass(frozen=True, slots=True)
class AccessDecision:
    """The access, and when it ends or changes without a payment; None when nothing is due."""

    access: Access
    until: datetime | None


def decide(
    subscription_status: str | None, unpaid: Sequence[UnpaidInvoice], policy: DunningPolicy, now: datetime
) -> AccessDecision:
    """Decide the access to a product.

    The oldest unpaid invoice counts: full use in grace, suspended from the instant it ends. `until`
    is the end of grace, or, once suspended, the instant at which the policy cancels.
    """
    status = SubscriptionStatus(subscription_status) if subscription_status else None
    if status is None or status in _WITHOUT_ACCESS:
        return AccessDecision(Access.none, None)
    if status is SubscriptionStatus.paused:
        return AccessDecision(Access.suspended, None)
    if not unpaid:
        return AccessDecision(Access.full, None)
    first_failed_at = min(invoice.first_failed_at for invoice in unpaid)
    grace_ends_at = first_failed_at + policy.grace
    if now < grace_ends_at:
        return AccessDecision(Access.grace, grace_ends_at)
    return AccessDecision(
        Access.suspended, None if policy.cancel_after is None else first_failed_at + policy.cancel_after
    )
