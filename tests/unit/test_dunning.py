"""Dunning: which declines are retried, when, and when it ends."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from billing.dunning import AskForCard, Decline, DunningPolicy, GiveUp, RetryAt, is_hard, next_step
from billing.errors import InvalidTerms

FAILED_AT = datetime(2026, 5, 1, 1, 0, tzinfo=UTC)
SOFT = Decline("card_declined", "insufficient_funds", "try_again_later")
LOST = Decline("card_declined", "lost_card", "do_not_try_again")


def day(n: int) -> datetime:
    return FAILED_AT + timedelta(days=n)


def test_a_soft_decline_is_retried_three_times_and_then_given_up() -> None:
    steps = [next_step(DunningPolicy(), FAILED_AT, done, SOFT) for done in range(5)]
    assert steps == [
        RetryAt(day(1)),
        RetryAt(day(3)),
        RetryAt(day(5)),
        GiveUp("retries_exhausted"),
        GiveUp("retries_exhausted"),
    ]


def test_a_hard_decline_asks_for_a_card_at_any_point() -> None:
    for done in range(4):
        assert next_step(DunningPolicy(), FAILED_AT, done, LOST) == AskForCard("lost_card")


@pytest.mark.parametrize(
    ("decline", "hard"),
    [
        (Decline("card_declined", "generic_decline", None), False),
        (Decline("card_declined", "do_not_honor", "confirm_card_data"), False),
        (Decline("processing_error", None, None), False),
        (Decline("card_declined", "a_code_of_next_year", None), False),
        (Decline(None, None, None), False),
        (Decline("expired_card", None, None), True),
        (Decline("card_declined", "stolen_card", None), True),
        (Decline("authentication_required", None, None), True),
        (Decline("card_declined", "authentication_required", None), True),
        (Decline("card_declined", "generic_decline", "do_not_try_again"), True),
    ],
)
def test_hard_and_soft(decline: Decline, hard: bool) -> None:
    assert is_hard(decline) is hard


def test_the_reason_is_the_code_that_decided() -> None:
    assert next_step(DunningPolicy(), FAILED_AT, 0, Decline("expired_card", None, None)) == AskForCard(
        "expired_card"
    )
    generic = Decline("card_declined", "generic_decline", "do_not_try_again")
    assert next_step(DunningPolicy(), FAILED_AT, 0, generic) == AskForCard("do_not_try_again")


def test_more_attempts_than_the_schedule_names_go_on_with_its_last_gap() -> None:
    policy = DunningPolicy(retry_attempts=5)
    assert [policy.retry_delay(done).days for done in range(5)] == [1, 3, 5, 7, 9]
    pair = DunningPolicy(retry_attempts=4, retry_after=(timedelta(days=1), timedelta(days=2)))
    assert [pair.retry_delay(done).days for done in range(4)] == [1, 2, 3, 4]
    single = DunningPolicy(retry_attempts=3, retry_after=(timedelta(days=2),))
    assert [single.retry_delay(done).days for done in range(3)] == [2, 4, 6]


def test_a_policy_without_retries_gives_up_at_once() -> None:
    policy = DunningPolicy(retry_attempts=0, retry_after=())
    assert next_step(policy, FAILED_AT, 0, SOFT) == GiveUp("retries_exhausted")


def test_the_policy_that_ships() -> None:
    days = (timedelta(days=1), timedelta(days=3), timedelta(days=5))
    assert DunningPolicy() == DunningPolicy(3, days, timedelta(days=7), None)
    assert DunningPolicy(grace=timedelta(0), cancel_after=timedelta(0)).grace == timedelta(0)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"retry_attempts": -1}, "retry_attempts"),
        ({"retry_after": ()}, "retry_attempts"),
        ({"retry_after": (timedelta(0),)}, "retry_after"),
        ({"retry_after": (timedelta(days=3), timedelta(days=1))}, "retry_after"),
        ({"grace": timedelta(days=-1)}, "grace"),
        ({"cancel_after": timedelta(days=6)}, "cancel_after"),
    ],
)
def test_policies_that_contradict_themselves_are_refused(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidTerms) as refusal:
        DunningPolicy(**changes)
    assert refusal.value.field == field


def test_a_new_card_that_fails_late_is_not_retried_all_at_once() -> None:
    late = day(5)  # the retries of days 1, 3 and 5 were never made: the first card was a hard decline
    first = next_step(DunningPolicy(), FAILED_AT, 0, SOFT, failed_at=late)
    second = next_step(DunningPolicy(), FAILED_AT, 1, SOFT, failed_at=day(6))
    assert (first, second) == (RetryAt(day(6)), RetryAt(day(7)))
