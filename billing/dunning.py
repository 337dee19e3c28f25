"""Dunning: what follows a failed payment, by policy and by what the bank said."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from billing.errors import InvalidTerms

_DEFAULT_RETRIES = (timedelta(days=1), timedelta(days=3), timedelta(days=5))

# Stripe itself does not retry these without a new card.
# Source: docs.stripe.com/billing/revenue-recovery/smart-retries, "hard decline codes".
_HARD_BY_STRIPE = frozenset(
    (
        "incorrect_number",
        "lost_card",
        "pickup_card",
        "stolen_card",
        "revocation_of_authorization",
        "revocation_of_all_authorizations",
        "authentication_required",
        "highest_risk_level",
        "transaction_not_allowed",
    )
)
# House policy: the same card will not come good within any retry schedule.
_HARD_BY_POLICY = frozenset(
    (
        "expired_card",
        "invalid_account",
        "fraudulent",
        "restricted_card",
        "do_not_try_again",
        "stop_payment_order",
        "currency_not_supported",
        "card_not_supported",
    )
)
_HARD = _HARD_BY_STRIPE | _HARD_BY_POLICY
_HARD_ADVICE = "do_not_try_again"


@dataclass(frozen=True, slots=True)
class DunningPolicy:
    """How often and when to try again, how long access stays, when to cancel.

    All spans count from the first failure. A schedule shorter than `retry_attempts` goes on with its
    last gap. `cancel_after` None never cancels. Raises: InvalidTerms.
    """

    retry_attempts: int = 3
    retry_after: tuple[timedelta, ...] = _DEFAULT_RETRIES
    grace: timedelta = timedelta(days=7)
    cancel_after: timedelta | None = None

    def __post_init__(self) -> None:
        if self.retry_attempts < 0 or (self.retry_attempts and not self.retry_after):
            raise InvalidTerms("needs a schedule for each attempt", field="retry_attempts")
        spans = (timedelta(0), *self.retry_after)
        if any(later <= earlier for earlier, later in pairwise(spans)):
            raise InvalidTerms("must ascend from the first failure", field="retry_after")
        if self.grace < timedelta(0):
            raise InvalidTerms("must not be negative", field="grace")
        if self.cancel_after is not None and self.cancel_after < self.grace:
            raise InvalidTerms("must not come before the grace period ends", field="cancel_after")

    def retry_delay(self, retries_done: int) -> timedelta:
        """From the first failure to the retry that follows `retries_done` others."""
        known = len(self.retry_after)
        if retries_done < known:
            return self.retry_after[retries_done]
        before_last = self.retry_after[-2] if known > 1 else timedelta(0)
        last = self.retry_after[-1]
        return last + (last - before_last) * (retries_done - known + 1)


@dataclass(frozen=True, slots=True)
class Decline:
    """Why a payment failed, in Stripe's words: error code, decline code, advice code."""

    code: str | None
    decline_code: str | None
    advice_code: str | None


@dataclass(frozen=True, slots=True)
class RetryAt:
    """Try the same card again at this instant, not before."""

    at: datetime


@dataclass(frozen=True, slots=True)
class AskForCard:
    """Do not try this card again; `reason` is the bank's code."""

    reason: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The retries are used up."""

    reason: str


def is_hard(decline: Decline) -> bool:
    """Whether trying this card again is pointless or forbidden; an unknown code is soft."""
    return decline.advice_code == _HARD_ADVICE or bool({decline.code, decline.decline_code} & _HARD)


def next_step(
    policy: DunningPolicy,
    first_failed_at: datetime,
    retries_done: int,
    decline: Decline,
    *,
    failed_at: datetime | None = None,
) -> RetryAt | AskForCard | GiveUp:
    """Decide what follows a failure.

    Args: `retries_done` counts retries that reached the bank after the first failure; a rate limit
    or a network failure is none. `failed_at` is when this failure happened, the first one if not
    given: a new card may fail long after the first, and the retries that its schedule has missed
    must not all come at once; each then waits for the schedule's first gap.
    """
    if is_hard(decline):
        return AskForCard(_reason(decline))
    if retries_done >= policy.retry_attempts:
        return GiveUp("retries_exhausted")
    planned_at = first_failed_at + policy.retry_delay(retries_done)
    if failed_at is not None and planned_at <= failed_at:
        planned_at = failed_at + policy.retry_after[0]
    return RetryAt(planned_at)


def _reason(decline: Decline) -> str:
    """The most specific of the codes that made the decline a hard one."""
    codes = (decline.decline_code, decline.code)
    return next((code for code in codes if code in _HARD), _HARD_ADVICE)
