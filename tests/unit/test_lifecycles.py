"""Lifecycles: stale messages never take a finished thing back."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import pytest

from billing.errors import RefusedTransition
from billing.lifecycles import (
    INVOICE_MOVES,
    PAYMENT_MOVES,
    SUBSCRIPTION_MOVES,
    InvoiceStatus,
    PaymentStatus,
    SubscriptionStatus,
    from_stripe_subscription_status,
    move,
)

TABLES = [
    (SUBSCRIPTION_MOVES, SubscriptionStatus),
    (INVOICE_MOVES, InvoiceStatus),
    (PAYMENT_MOVES, PaymentStatus),
]


@pytest.mark.parametrize(("table", "states"), TABLES)
def test_every_state_may_repeat_and_knows_its_followers(
    table: Mapping[Any, frozenset[Any]], states: type[StrEnum]
) -> None:
    assert set(table) == set(states)
    for state in states:
        assert move(table, state, state) is state


@pytest.mark.parametrize(("table", "states"), TABLES)
def test_what_two_steps_reach_one_look_may_find(
    table: Mapping[Any, frozenset[Any]], states: type[StrEnum]
) -> None:
    for state in states:
        for follower in table[state]:
            assert table[follower] <= table[state] | {state}, (state, follower)


@pytest.mark.parametrize(
    ("table", "final"),
    [
        (SUBSCRIPTION_MOVES, {"cancelled", "incomplete_expired"}),
        (INVOICE_MOVES, {"paid", "void"}),
        (PAYMENT_MOVES, set()),
    ],
)
def test_final_states(table: Mapping[StrEnum, frozenset[StrEnum]], final: set[str]) -> None:
    assert {state.value for state, followers in table.items() if not followers} == final


def test_the_usual_ways() -> None:
    assert move(SUBSCRIPTION_MOVES, SubscriptionStatus.trialing, SubscriptionStatus.active) == "active"
    assert move(SUBSCRIPTION_MOVES, SubscriptionStatus.past_due, SubscriptionStatus.active) == "active"
    assert move(INVOICE_MOVES, InvoiceStatus.uncollectible, InvoiceStatus.paid) == "paid"
    assert move(PAYMENT_MOVES, PaymentStatus.unknown, PaymentStatus.succeeded) == "succeeded"
    assert move(PAYMENT_MOVES, PaymentStatus.failed, PaymentStatus.succeeded) == "succeeded"


def test_a_refusal_says_why() -> None:
    with pytest.raises(RefusedTransition) as refusal:
        move(INVOICE_MOVES, InvoiceStatus.paid, InvoiceStatus.open)
    assert str(refusal.value) == "cannot go from paid to open: paid is final"
    assert (refusal.value.current, refusal.value.target) == ("paid", "open")
    with pytest.raises(RefusedTransition, match="only paid, void, uncollectible can follow open"):
        move(INVOICE_MOVES, InvoiceStatus.open, InvoiceStatus.draft)
    with pytest.raises(RefusedTransition):
        move(PAYMENT_MOVES, PaymentStatus.succeeded, PaymentStatus.failed)
    with pytest.raises(RefusedTransition):
        move(SUBSCRIPTION_MOVES, SubscriptionStatus.active, SubscriptionStatus.incomplete)


def test_the_processors_words_for_subscriptions() -> None:
    same = {"incomplete", "incomplete_expired", "trialing", "active", "past_due", "paused"}
    assert {from_stripe_subscription_status(status).value for status in same} == same
    assert from_stripe_subscription_status("canceled") is SubscriptionStatus.cancelled
    assert from_stripe_subscription_status("unpaid") is SubscriptionStatus.past_due
    with pytest.raises(ValueError, match="ended"):
        from_stripe_subscription_status("ended")
