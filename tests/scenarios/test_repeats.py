"""A client that got no answer asks again with its key: it is told what came of the first time, done once."""

import json
import urllib.request
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text

from cli.demo.api import Answer, patiently
from cli.keys import issue_bound
from tests.scenarios.world import Customer, World


def loses(world: World, operation: str) -> None:
    """An operation is done, and neither the SDK nor its two repeats of it hear so."""
    wanted = {"once": [{"operation": operation, "fault": "timeout_after", "times": 3}], "timeout_s": 0.01}
    address = world.stack.urls["sandbox"] + "/_sandbox/faults"
    urllib.request.urlopen(
        urllib.request.Request(address, data=json.dumps(wanted).encode(), method="POST")
    ).close()


def asked_once(world: World, bearer: str, path: str, key: str) -> int:
    """The status of one POST, whatever it is."""
    headers = {"Authorization": f"Bearer {bearer}", "Idempotency-Key": key}
    request = urllib.request.Request(world.stack.urls["web"] + path, headers=headers, method="POST")
    try:
        with urllib.request.urlopen(request) as answer:
            return int(answer.status)
    except urllib.request.HTTPError as refusal:
        return int(refusal.code)


def does_twice(customer: Customer, method: str, path: str, **content: Any) -> Any:
    """Ask, lose the answer because the web process dies before it has kept it, and ask again.

    Returns the content of both answers, which is the same.
    """
    key = str(uuid4())
    first, again = (_asks(customer, method, path, content, key) for _ in range(2))
    assert (again.status, again.content) == (first.status, first.content)
    assert first.status < 300, first.content
    return first.content


def _asks(customer: Customer, method: str, path: str, content: dict[str, Any], key: str) -> Answer:
    answer = customer.world.admin.send(method, f"/api/billing/{path}", json.dumps(content).encode(), key)
    customer.rests()  # Stripe's words about it have been read
    with customer.world.context.database.system() as session:
        session.execute(
            text(
                "UPDATE ops.idempotent_answers SET status = NULL, body = NULL, claimed_until_at = NULL "
                "WHERE idempotency_key = :key"
            ),
            {"key": key},
        )
    return answer


@pytest.fixture
def rae(world: World) -> Customer:
    return world.on("2026-04-01", "rae")


def test_what_is_sold(world: World, rae: Customer) -> None:
    code = f"R{uuid4().hex[:8]}"

    does_twice(rae, "POST", "coupons/", code=code, name=code, percent_off="10", duration="once")
    does_twice(rae, "POST", "tax_rates/", code=code.lower(), name="VAT", percentage="15")
    rate = does_twice(rae, "PATCH", f"tax_rates/{code.lower()}/", active=False)

    assert rate["active"] is False
    assert sum(each["name"] == code for each in world.context.gateway.list("coupon")) == 1


def test_a_clock_and_who_lives_on_it(world: World, rae: Customer) -> None:
    name = f"clock {uuid4()}"
    clock = does_twice(rae, "POST", "test_clocks/", name=name, at="2026-04-01T00:00:00Z")
    made = does_twice(
        rae,
        "POST",
        "organizations/",
        slug=f"tim-{uuid4().hex[:8]}",
        name="Tim",
        email="tim@example.test",
        currency="USD",
        test_clock=clock["id"],
    )

    assert made["test_clock"] == clock["id"]
    assert [each["name"] for each in world.context.gateway.list("test_clock")].count(name) == 1


def test_cards(world: World, rae: Customer) -> None:
    """A test token makes another card each time that it is attached."""
    cards = f"organizations/{rae.slug}/payment_methods/"
    first = does_twice(rae, "POST", cards, payment_method="pm_card_visa")
    second = does_twice(rae, "POST", cards, payment_method="pm_card_mastercard")
    assert len(world.admin.get(f"/api/billing/{cards}")["items"]) == 2

    does_twice(rae, "DELETE", f"{cards}{first['id']}/")
    (left,) = world.admin.get(f"/api/billing/{cards}")["items"]
    assert (left["id"], left["is_default"]) == (second["id"], True)
    world.holds(rae)


def test_the_life_of_a_subscription(world: World, rae: Customer) -> None:
    rae.card()
    made = does_twice(
        rae,
        "POST",
        "subscriptions/",
        organization=rae.slug,
        plan="teamspace-starter",
        quantity=4,
        currency="USD",
        interval="month",
    )
    one = f"subscriptions/{made['id']}/"
    assert does_twice(rae, "PATCH", one, quantity=6)["quantity"] == 6
    assert does_twice(rae, "POST", f"{one}pause/")["status"] == "paused"
    rae.lives_until("2026-04-11")
    assert does_twice(rae, "POST", f"{one}resume/")["status"] == "active"
    assert does_twice(rae, "POST", f"{one}cancel/", at_period_end=True)["cancel_at_period_end"] is True
    assert does_twice(rae, "POST", f"{one}reactivate/")["cancel_at_period_end"] is False
    assert does_twice(rae, "POST", f"{one}cancel/", at_period_end=False)["status"] == "cancelled"

    # 4 x 25.00; from the 11th 6 x 25.00, and the two seats that came on the 1st for the whole of April.
    assert [total for total in rae.totals if total[2]] == [
        ("first", "paid", 100_00),
        ("cycle", "paid", 200_00),
    ]
    told = "SELECT channel FROM tenant.notifications WHERE kind = 'subscription.paused' ORDER BY channel"
    assert rae.rows(told) == [("mail",), ("webhook",)]
    world.holds(rae)


@pytest.mark.parametrize("terms", [{}, {"out_of_band": True}])
def test_a_payment_now(world: World, rae: Customer, terms: dict[str, Any]) -> None:
    rae.card()
    rae.subscribes("autoflow-starter")
    rae.card("pm_card_chargeCustomerFail")
    rae.lives_until("2026-05-01T02:00")
    owed = f"invoices/{rae.invoices[-1]['id']}/"
    assert does_twice(rae, "POST", f"{owed}pay/")["result"] == "declined"
    assert rae.invoices[-1]["status"] == "open"

    if not terms:
        card = rae.rows("SELECT id FROM tenant.payment_methods WHERE NOT is_default")[0][0]
        terms = {"payment_method": str(card)}
    assert does_twice(rae, "POST", f"{owed}pay/", **terms)["result"] == "paid"
    world.holds(rae)


@pytest.mark.parametrize("move", ["pause", "resume"])
def test_a_move_that_stripe_made_without_an_answer(world: World, rae: Customer, move: str) -> None:
    """After the 503 comes Stripe's webhook: the repeat is told that it is done, not that it cannot be."""
    rae.card()
    subscription = rae.subscribes("autoflow-starter")
    path = f"/api/billing/subscriptions/{subscription}/"
    if move == "resume":
        world.admin.post(f"{path}pause/", {}, str(uuid4()))
        rae.lives_until("2026-04-11")
    bearer, key = issue_bound(world.context, "admin", f"asks {uuid4()}"), str(uuid4())
    wanted = "paused" if move == "pause" else "active"

    loses(world, f"POST /v1/subscriptions/{{id}}/{move}")
    assert asked_once(world, bearer, f"{path}{move}/", key) == 503
    seen = patiently(lambda: world.admin.get(path)["status"], lambda status: status == wanted)
    assert seen == wanted

    assert asked_once(world, bearer, f"{path}{move}/", key) == 200
    told = "SELECT count(*) FROM tenant.notifications WHERE kind = 'subscription.paused'"
    assert rae.rows(told) == [(2,)]
    rae.rests()
    world.holds(rae)
