"""Lifecycles: which state may follow which, for subscriptions, invoices and payments.

States are observed, not stepped through: between two looks at Stripe several steps may have passed.
So each table lists everything that can be reached, and refuses only what no path leads to: a stale
message that would take a finished thing back.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from billing.errors import RefusedTransition

_State = TypeVar("_State", bound=StrEnum)


class SubscriptionStatus(StrEnum):
    """Stripe's states in our spelling; `past_due` covers Stripe's `unpaid`."""

    incomplete = "incomplete"
    incomplete_expired = "incomplete_expired"
    trialing = "trialing"
    active = "active"
    past_due = "past_due"
    paused = "paused"
    cancelled = "cancelled"


class InvoiceStatus(StrEnum):
    """Stripe's invoice states."""

    draft = "draft"
    open = "open"
    paid = "paid"
    void = "void"
    uncollectible = "uncollectible"


class PaymentStatus(StrEnum):
    """A payment's states; `unknown` is a call whose outcome must be looked up."""

    pending = "pending"
    succeeded = "succeeded"
    failed = "failed"
    unknown = "unknown"
    refunded = "refunded"


_S, _I, _P = SubscriptionStatus, InvoiceStatus, PaymentStatus
_LIVE = frozenset((_S.trialing, _S.active, _S.past_due, _S.paused))

SUBSCRIPTION_MOVES: Mapping[SubscriptionStatus, frozenset[SubscriptionStatus]] = {
    _S.incomplete: _LIVE | {_S.incomplete_expired, _S.cancelled},
    _S.incomplete_expired: frozenset(),
    **{status: (_LIVE - {status}) | {_S.cancelled} for status in _LIVE},
    _S.cancelled: frozenset(),
}

INVOICE_MOVES: Mapping[InvoiceStatus, frozenset[InvoiceStatus]] = {
    _I.draft: frozenset((_I.open, _I.paid, _I.void, _I.uncollectible)),
    _I.open: frozenset((_I.paid, _I.void, _I.uncollectible)),
    _I.uncollectible: frozenset((_I.paid, _I.void)),
    _I.paid: frozenset(),
    _I.void: frozenset(),
}

# Stripe retries an invoice on one payment intent: a failed payment can still succeed. A bank may send a
# refund back days later: then the money is in again.
PAYMENT_MOVES: Mapping[PaymentStatus, frozenset[PaymentStatus]] = {
    _P.pending: frozenset((_P.succeeded, _P.failed, _P.unknown, _P.refunded)),
    _P.unknown: frozenset((_P.pending, _P.succeeded, _P.failed, _P.refunded)),
    _P.failed: frozenset((_P.pending, _P.unknown, _P.succeeded, _P.refunded)),
    _P.succeeded: frozenset((_P.refunded,)),
    _P.refunded: frozenset((_P.succeeded,)),
}

_FROM_STRIPE = {"canceled": _S.cancelled, "unpaid": _S.past_due}


def move(table: Mapping[_State, frozenset[_State]], current: _State, target: _State) -> _State:
    """Return `target` if the table allows it from `current`; the same state again is allowed.

    Raises: RefusedTransition.
    """
    if target == current or target in table[current]:
        return target
    allowed = ", ".join(state for state in type(current) if state in table[current])
    why = f"only {allowed} can follow {current}" if allowed else f"{current} is final"
    raise RefusedTransition(current.value, target.value, why)


def from_stripe_subscription_status(status: str) -> SubscriptionStatus:
    """Translate Stripe's subscription status. Raises: ValueError for one that we do not know."""
    return _FROM_STRIPE.get(status) or SubscriptionStatus(status)
