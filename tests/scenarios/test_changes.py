"""Plans, seats and bundles change in mid-period: what is credited, what is charged, what Stripe says."""

import json
from typing import Any
from uuid import uuid4

import pytest

from cli.demo.api import ApiRefusal
from tests.scenarios.world import Customer, World


def changes(customer: Customer, subscription: str, **terms: Any) -> dict[str, Any]:
    path = f"/api/billing/subscriptions/{subscription}/"
    answer = customer.world.admin.send("PATCH", path, _body(terms), str(uuid4()))
    if answer.status != 200:
        raise ApiRefusal("PATCH", path, answer.status, answer.content)
    changed: dict[str, Any] = answer.content
    return changed


def previews(customer: Customer, subscription: str, **terms: Any) -> dict[str, Any]:
    path = f"/api/billing/subscriptions/{subscription}/preview/"
    coming: dict[str, Any] = customer.world.admin.post(path, terms, str(uuid4()))
    return coming


def _body(terms: dict[str, Any]) -> bytes:
    return json.dumps(terms).encode()


def amounts(invoice: dict[str, Any]) -> list[tuple[str, int]]:
    return [(line["kind"], line["amount_minor"]) for line in invoice["lines"]]


def test_more_seats_on_the_eleventh_of_april_are_charged_for_twenty_days(world: World) -> None:
    ada = world.on("2026-04-01", "ada")
    ada.card()
    subscription = ada.subscribes("teamspace-starter", quantity=4)  # 4 x 25.00 = 100.00
    ada.lives_until("2026-04-11")

    # 20 of 30 days are left: -100.00 * 20/30 = -66.67; 6 x 25.00 * 20/30 = +100.00
    coming = previews(ada, subscription, quantity=6)
    changes(ada, subscription, quantity=6)
    ada.lives_until("2026-05-01T02:00")

    assert amounts(ada.invoices[-1]) == [("seats", 150_00), ("proration", -66_67), ("proration", 100_00)]
    assert coming["total_minor"] == ada.invoices[-1]["total_minor"] == 183_33
    assert ada.totals[-1] == ("cycle", "paid", 183_33)
    world.holds(ada)


def test_an_upgrade_splits_the_tariff_of_usage_at_its_instant(world: World) -> None:
    ada = world.on("2026-04-01", "ada")
    ada.card()
    subscription = ada.subscribes("autoflow-starter")  # 35.00, 1,000 included, 2 cents each above
    ada.lives_until("2026-04-16")
    ada.uses("2026-04-10", 700)
    ada.uses("2026-04-15T23:59", 300)

    changes(ada, subscription, plan="autoflow-professional")  # 75.00, 10,000 included, then 1.5 cents
    ada.lives_until("2026-04-21")
    ada.uses("2026-04-16", 6_000)
    ada.lives_until("2026-05-01T02:00")

    # Starter was held for half of April: 500 included, 500 at 2 cents = 10.00
    # Professional for the other half: 5,000 included, 1,000 at 1.5 cents = 15.00
    # Half of 35.00 back = -17.50, half of 75.00 = +37.50, and May: 75.00
    assert sorted(amounts(ada.invoices[-1])) == sorted(
        [
            ("recurring", 75_00),
            ("usage", 10_00),
            ("usage", 15_00),
            ("proration", -17_50),
            ("proration", 37_50),
        ]
    )
    assert ada.totals[-1] == ("cycle", "paid", 120_00)
    world.holds(ada)


def test_a_downgrade_credits_more_than_it_charges(world: World) -> None:
    ada = world.on("2026-04-01", "ada")
    ada.card()
    subscription = ada.subscribes("teamspace-enterprise")  # 79.00
    ada.lives_until("2026-04-16")

    changes(ada, subscription, plan="teamspace-professional")  # 40.00: -39.50 + 20.00
    ada.lives_until("2026-05-01T02:00")

    assert amounts(ada.invoices[-1]) == [("seats", 40_00), ("proration", -39_50), ("proration", 20_00)]
    assert ada.totals[-1] == ("cycle", "paid", 20_50)
    world.holds(ada)


def test_two_changes_in_one_period_give_back_what_the_first_one_charged(world: World) -> None:
    ada = world.on("2026-04-01", "ada")
    ada.card()
    subscription = ada.subscribes("teamspace-starter", quantity=3)  # 75.00
    ada.lives_until("2026-04-11")
    changes(ada, subscription, quantity=6)  # -50.00 (20/30 of 75.00), +100.00 (20/30 of 150.00)
    ada.lives_until("2026-04-21")
    changes(ada, subscription, quantity=5)  # -50.00 (half of that 100.00), +41.67 (10/30 of 125.00)
    ada.lives_until("2026-05-01T02:00")

    assert [amount for kind, amount in amounts(ada.invoices[-1]) if kind == "proration"] == [
        -50_00,
        100_00,
        -50_00,
        41_67,
    ]
    world.holds(ada)


@pytest.mark.parametrize("proration", ["none", "next_period"])
def test_a_change_without_proration_is_charged_from_the_next_period_on(world: World, proration: str) -> None:
    ada = world.on("2026-04-01", "ada")
    ada.card()
    subscription = ada.subscribes("teamspace-starter", quantity=2)
    ada.lives_until("2026-04-11")

    changes(ada, subscription, quantity=5, proration=proration)
    ada.lives_until("2026-05-01T02:00")

    assert amounts(ada.invoices[-1]) == [("seats", 125_00)]
    world.holds(ada)


def test_a_plan_for_the_next_period_keeps_the_old_tariff_until_then(world: World) -> None:
    ada = world.on("2026-04-01", "ada")
    ada.card()
    subscription = ada.subscribes("autoflow-starter")
    ada.lives_until("2026-04-11")
    changes(ada, subscription, plan="autoflow-professional", proration="next_period")
    ada.lives_until("2026-04-21")
    ada.uses("2026-04-20", 1_500)  # still Starter: 500 at 2 cents = 10.00
    ada.lives_until("2026-05-01T02:00")

    assert amounts(ada.invoices[-1]) == [("recurring", 75_00), ("usage", 10_00)]
    world.holds(ada)


def test_vat_is_credited_and_charged_with_its_line(world: World) -> None:
    kay = world.on("2026-04-01", "kay", currency="ZAR", tax_rate="za-vat")
    kay.card()
    subscription = kay.subscribes("teamspace-starter", quantity=2)
    kay.lives_until("2026-04-08T07:31")
    changes(kay, subscription, quantity=3)
    kay.lives_until("2026-05-01T02:00")

    assert kay.totals[-1][:2] == ("cycle", "paid")
    world.holds(kay)


def test_a_member_taken_out_of_a_bundle_leaves_the_rest_at_list_price(world: World) -> None:
    bo = world.on("2026-04-01", "bo")
    bo.card()
    subscription = bo.subscribes(bundle="starter")  # 54.00 for 35.00 + 25.00
    bo.lives_until("2026-04-11")

    coming = previews(bo, subscription, product="teamspace", remove=True)
    changes(bo, subscription, product="teamspace", remove=True)
    bo.lives_until("2026-05-01T02:00")

    assert coming["total_minor"] == 35_00
    assert bo.totals == [("first", "paid", 54_00), ("cycle", "paid", 35_00)]
    world.holds(bo)


def test_what_cannot_be_changed_is_refused_and_says_why(world: World) -> None:
    ada = world.on("2026-04-01", "ada")
    ada.card()
    subscription = ada.subscribes("autoflow-starter")

    for terms, status in (
        ({"plan": "teamspace-starter"}, 422),
        ({"plan": "autoflow-starter"}, 422),
        ({"quantity": 3}, 422),
        ({"product": "autoflow", "remove": True}, 409),
    ):
        with pytest.raises(ApiRefusal) as refusal:
            changes(ada, subscription, **terms)
        assert refusal.value.status == status, terms
    ada.cancels(subscription, at_period_end=False)
    with pytest.raises(ApiRefusal, match="cancelled"):
        changes(ada, subscription, plan="autoflow-professional")


def test_a_product_is_subscribed_to_once_until_the_subscription_has_ended(world: World) -> None:
    ada = world.on("2026-04-01", "ada")
    ada.card()
    first = ada.subscribes("autoflow-starter")

    for terms in ({"plan": "autoflow-professional"}, {"bundle": "starter"}):
        with pytest.raises(ApiRefusal, match="already") as refusal:
            ada.subscribes(**terms)
        assert refusal.value.status == 409
    with pytest.raises(ApiRefusal, match="seat"):
        world.on("2026-04-01", "bob").subscribes("autoflow-starter", quantity=5)

    ada.cancels(first, at_period_end=False)
    ada.rests()
    ada.subscribes("autoflow-professional")
    assert ada.access() == "full"
