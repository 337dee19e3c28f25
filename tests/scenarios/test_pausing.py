"""A pause charges nothing; going on starts a new period at once, and no usage is lost between."""

from uuid import uuid4

import pytest

from cli.demo.api import ApiRefusal
from tests.scenarios.world import Customer, World


def posts(customer: Customer, subscription: str, deed: str) -> str:
    path = f"/api/billing/subscriptions/{subscription}/{deed}/"
    return str(customer.world.admin.post(path, {}, str(uuid4()))["status"])


def test_a_pause_of_six_weeks_and_the_usage_before_it(world: World) -> None:
    pat = world.on("2026-04-01", "pat")
    pat.card()
    subscription = pat.subscribes("autoflow-starter")
    pat.lives_until("2026-04-11")
    pat.uses("2026-04-10", 1_500)  # 500 above the allowance at 2 cents = 10.00

    assert posts(pat, subscription, "pause") == "paused"
    assert pat.access() == "suspended"
    pat.lives_until("2026-05-23")
    assert pat.totals == [("first", "paid", 35_00)]  # nothing while it is paused

    assert posts(pat, subscription, "resume") == "active"
    pat.lives_until("2026-06-23T02:00")

    # On resumption 23 May to 23 June in advance, and the usage from before the pause by itself
    assert pat.totals == [
        ("first", "paid", 35_00),
        ("adjustment", "paid", 10_00),
        ("cycle", "paid", 35_00),
        ("cycle", "paid", 35_00),
    ]
    assert pat.access() == "full"
    world.holds(pat)


def test_only_what_runs_can_be_paused_and_only_what_is_paused_goes_on(world: World) -> None:
    pat = world.on("2026-04-01", "pat")
    pat.card()
    subscription = pat.subscribes("autoflow-starter")

    with pytest.raises(ApiRefusal, match="is not paused"):
        posts(pat, subscription, "resume")
    pat.cancels(subscription, at_period_end=False)
    with pytest.raises(ApiRefusal, match="cannot be paused"):
        posts(pat, subscription, "pause")
