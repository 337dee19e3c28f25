"""Stripe did what it was asked and its answer is lost for good: nothing is done twice, nothing is left."""

import json
import urllib.request
from uuid import uuid4

import pytest

from tests.scenarios.test_changes import changes
from tests.scenarios.test_credit import gives, ledger
from tests.scenarios.test_pausing import posts
from tests.scenarios.world import Customer, World


def loses(world: World, operation: str) -> None:
    """The next request of an operation is done and answered 500, also when it is repeated."""
    wanted = {"once": [{"operation": operation, "fault": "http_500_after"}]}
    address = world.stack.urls["sandbox"] + "/_sandbox/faults"
    urllib.request.urlopen(
        urllib.request.Request(address, data=json.dumps(wanted).encode(), method="POST")
    ).close()


@pytest.fixture
def ada(world: World) -> Customer:
    made = world.on("2026-04-01", "ada")
    made.card()
    return made


def test_credit_is_given_once(world: World, ada: Customer) -> None:
    loses(world, "POST /v1/customers/{id}/balance_transactions")

    gives(ada, 20_00)
    ada.subscribes("autoflow-starter")  # 35.00 less the one 20.00

    assert ada.charges == [("succeeded", 15_00)]
    assert ledger(ada)[0] == 0
    world.holds(ada)


def test_a_card(world: World, ada: Customer) -> None:
    """Under the name of a test token Stripe knows no card that could be looked at."""
    loses(world, "POST /v1/payment_methods/{id}/attach")
    ada.card("pm_card_mastercard")

    assert ada.rows("SELECT brand FROM tenant.payment_methods WHERE is_default") == [("mastercard",)]
    world.holds(ada)


def test_a_pause_and_its_end(world: World, ada: Customer) -> None:
    subscription = ada.subscribes("autoflow-starter")

    loses(world, "POST /v1/subscriptions/{id}/pause")
    assert posts(ada, subscription, "pause") == "paused"
    ada.lives_until("2026-04-11")
    loses(world, "POST /v1/subscriptions/{id}/resume")
    assert posts(ada, subscription, "resume") == "active"
    ada.lives_until("2026-05-11T02:00")

    # Paused and gone on within one period: nothing ends on 1 May any more.
    assert [total for total in ada.totals if total[2]] == [
        ("first", "paid", 35_00),
        ("cycle", "paid", 35_00),
        ("cycle", "paid", 35_00),
    ]
    world.holds(ada)


@pytest.mark.parametrize(
    ("terms", "charged"),
    [
        ({"plan": "autoflow-professional"}, [35_00, 101_67]),  # 20 of 30 days: -23.33 + 50.00, and May 75.00
        ({"interval": "year"}, [35_00, 326_67]),  # -23.33 + 350.00, at once
        ({"plan": "autoflow-professional", "proration": "next_period"}, [35_00, 75_00]),
    ],
)
def test_a_change(world: World, ada: Customer, terms: dict[str, str], charged: list[int]) -> None:
    subscription = ada.subscribes("autoflow-starter")
    ada.lives_until("2026-04-11")

    loses(world, "POST /v1/subscriptions/{id}")
    changes(ada, subscription, **terms)
    ada.lives_until("2026-05-01T02:00")

    assert ada.charges == [("succeeded", amount) for amount in charged]
    world.holds(ada)


def test_a_change_waits_until_the_one_before_it_is_made(world: World, ada: Customer) -> None:
    """The first one's answer is late: the second one must not end the same stretch of terms."""
    subscription = ada.subscribes("teamspace-starter", quantity=2)  # 50.00
    ada.lives_until("2026-04-16")

    wanted = {"once": [{"operation": "POST /v1/subscriptions/{id}", "fault": "http_500_before", "times": 6}]}
    address = world.stack.urls["sandbox"] + "/_sandbox/faults"
    urllib.request.urlopen(
        urllib.request.Request(address, data=json.dumps(wanted).encode(), method="POST")
    ).close()
    changes(ada, subscription, quantity=4)
    changes(ada, subscription, quantity=3)  # told that another one is under way until it is not
    ada.lives_until("2026-05-01T02:00")

    # Half of April: -25.00 + 50.00, then -50.00 + 37.50; May: 75.00
    assert ada.charges == [("succeeded", 50_00), ("succeeded", 87_50)]
    world.holds(ada)


def test_a_key_of_each_lost_answer_is_its_own(ada: Customer) -> None:
    path = f"/api/billing/organizations/{ada.slug}/credit/"
    key = str(uuid4())
    loses(ada.world, "POST /v1/customers/{id}/balance_transactions")
    for _ in range(2):
        ada.world.admin.post(path, {"amount_minor": 5_00, "reason": "an outage"}, key)

    assert ledger(ada)[0] == 5_00
    ada.world.holds(ada)
