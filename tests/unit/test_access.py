"""Access: a failed payment, seven days of grace, suspension."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from billing.access import Access, AccessDecision, UnpaidInvoice, decide
from billing.dunning import DunningPolicy

FAILED_AT = datetime(2026, 5, 1, tzinfo=UTC)
POLICY = DunningPolicy(grace=timedelta(days=7))
GRACE_ENDS_AT = datetime(2026, 5, 8, tzinfo=UTC)
UNPAID = [UnpaidInvoice(FAILED_AT)]


def test_who_owes_nothing_has_full_access() -> None:
    for status in ("active", "trialing", "past_due"):
        assert decide(status, [], POLICY, FAILED_AT) == AccessDecision(Access.full, None)


def test_grace_ends_to_the_instant() -> None:
    grace = AccessDecision(Access.grace, GRACE_ENDS_AT)
    assert decide("past_due", UNPAID, POLICY, FAILED_AT) == grace
    assert decide("past_due", UNPAID, POLICY, GRACE_ENDS_AT - timedelta(microseconds=1)) == grace
    assert decide("past_due", UNPAID, POLICY, GRACE_ENDS_AT) == AccessDecision(Access.suspended, None)


def test_invoices_decide_whatever_the_subscription_says() -> None:
    assert decide("active", UNPAID, POLICY, GRACE_ENDS_AT).access is Access.suspended


def test_a_newer_failure_does_not_start_grace_again() -> None:
    both = [UnpaidInvoice(FAILED_AT + timedelta(days=30)), *UNPAID]
    assert decide("past_due", both, POLICY, FAILED_AT + timedelta(days=31)).access is Access.suspended


def test_a_suspended_customer_is_told_when_the_policy_cancels() -> None:
    policy = DunningPolicy(grace=timedelta(days=7), cancel_after=timedelta(days=30))
    decision = decide("past_due", UNPAID, policy, GRACE_ENDS_AT)
    assert decision == AccessDecision(Access.suspended, datetime(2026, 5, 31, tzinfo=UTC))


@pytest.mark.parametrize("status", [None, "incomplete", "incomplete_expired", "cancelled"])
def test_without_a_living_subscription_there_is_no_access(status: str | None) -> None:
    assert decide(status, [], POLICY, FAILED_AT) == AccessDecision(Access.none, None)
    assert decide(status, UNPAID, POLICY, FAILED_AT) == AccessDecision(Access.none, None)


def test_a_paused_subscription_is_suspended() -> None:
    assert decide("paused", [], POLICY, FAILED_AT) == AccessDecision(Access.suspended, None)


def test_a_status_that_is_none_of_ours_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="canceled"):
        decide("canceled", [], POLICY, FAILED_AT)
