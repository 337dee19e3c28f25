"""The catalog changes while subscriptions run: each keeps what it was sold."""

import json
from contextlib import closing
from dataclasses import replace
from uuid import uuid4

from billing.groups import GroupedTerms
from cli.demo.api import Api
from cli.keys import issue_bound
from tasks import catalog
from tasks.catalog_stored import as_file, stored
from tasks.stripe_catalog import sync
from tests.scenarios.world import World

ORBIT = """
[[tiers]]
code = "starter"
name = "Starter"
rank = 1

[[products]]
code = "orbit"
name = "Orbit"
billing_type = "per_user"
base_charge = "per_seat"

[products.plans.starter]
features = ["maps"]
limits = {{ satellites = {satellites} }}
prices = {{ USD = {price} }}

[[bundles]]
code = "orbit-flow"
name = "Orbit and AutoFlow"
prices = {{ USD = 5000 }}
members = ["autoflow-starter", "orbit-starter"]
"""


def sells(world: World, *, price: int, satellites: int) -> None:
    """Orbit Starter at this price a month and seat; with AutoFlow Starter (35.00) always 50.00."""
    catalog.apply(world.context, ORBIT.format(price=price, satellites=satellites))
    sync(world.context)


def test_a_new_price_is_for_new_subscriptions_only(world: World) -> None:
    sells(world, price=20_00, satellites=3)
    ann, bob = world.on("2026-04-01", "ann"), world.on("2026-04-01", "bob")
    ann.card()
    seats = ann.subscribes("orbit-starter")
    bob.card()
    bob.subscribes(bundle="orbit-flow")

    touched = catalog.diff(world.context, ORBIT.format(price=30_00, satellites=5))
    # Ann's subscription and Bob's bundle; the bundle alone.
    assert [(each.change.code, each.subscriptions) for each in touched] == [
        ("orbit-starter", 2),
        ("orbit-flow", 1),
    ]
    sells(world, price=30_00, satellites=5)
    cleo, dora = world.on("2026-04-02", "cleo"), world.on("2026-04-02", "dora")
    cleo.card()
    cleo.subscribes("orbit-starter")
    dora.card()
    dora.subscribes(bundle="orbit-flow")
    for customer in (ann, bob, cleo, dora):
        customer.lives_until("2026-05-02T02:00")

    assert ann.totals == [("first", "paid", 20_00), ("cycle", "paid", 20_00)]
    assert cleo.totals == [("first", "paid", 30_00), ("cycle", "paid", 30_00)]
    # The bundle's price did not move: Bob still saves 5.00 of 55.00, and Dora 15.00 of 65.00.
    for customer, saving in ((bob, 5_00), (dora, 15_00)):
        assert customer.totals == [("first", "paid", 50_00), ("cycle", "paid", 50_00)]
        assert customer.invoices[-1]["discount_minor"] == saving
    for customer, satellites in ((ann, 3), (bob, 3), (cleo, 5), (dora, 5)):
        access = world.admin.get(f"/api/billing/access/{customer.slug}/orbit/")
        assert access["limits"] == {"satellites": satellites}

    # The old price is archived at Stripe, and another seat at it can still be had.
    change = {"quantity": 2, "proration": "next_period"}
    path = f"/api/billing/subscriptions/{seats}/"
    answer = world.admin.send("PATCH", path, json.dumps(change).encode(), str(uuid4()))
    assert answer.status == 200
    ann.lives_until("2026-06-01T02:00")
    assert ann.totals[-1] == ("cycle", "paid", 40_00)
    world.holds(ann, bob, cleo, dora)


COMET = """
[[tiers]]
code = "starter"
name = "Starter"
rank = 1

[[products]]
code = "comet"
name = "Comet"
billing_type = "flat"

[products.plans.starter]
public = {public}
prices = {{ USD = 1000 }}
"""


def test_what_is_hidden_only_staff_can_sell(world: World) -> None:
    hal = world.on("2026-04-01", "hal")
    hal.card()
    key = issue_bound(world.context, "organization", "hal", organization=hal.slug)
    wish = {"organization": hal.slug, "plan": "comet-starter", "currency": "USD", "interval": "month"}

    def answered() -> int:
        with closing(Api(world.stack.urls["web"], key)) as own:
            answer = own.send("POST", "/api/billing/subscriptions/", json.dumps(wish).encode(), str(uuid4()))
        return answer.status

    catalog.apply(world.context, COMET.format(public="true"))
    assert answered() == 409  # Stripe has no price yet
    sync(world.context)
    catalog.apply(world.context, COMET.format(public="false"))
    assert answered() == 422

    hal.subscribes("comet-starter")

    assert hal.totals == [("first", "paid", 10_00)]
    world.holds(hal)


def test_a_quarter_includes_three_months_of_usage(world: World) -> None:
    quin = world.on("2026-04-01", "quin")
    quin.card()
    quin.subscribes("autoflow-starter", interval="quarter")
    quin.uses("2026-04-01", 3_500)  # 1,000 a month are included, in whichever month they are used

    quin.lives_until("2026-07-01T02:00")

    # 35.00 x 3 less 5 %; 500 runs at 2 cents
    assert quin.totals == [("first", "paid", 99_75), ("cycle", "paid", 99_75 + 10_00)]
    world.holds(quin)


def test_yen_and_dinars_are_billed_in_what_they_can_be_charged_in(world: World) -> None:
    with world.context.system() as unit:
        now = stored(unit.session)
    plan = now.plans["autoflow-starter"]
    prices = {("JPY", "month"): 5_000, ("KWD", "month"): 10_500}
    charges = {
        ("workflow_runs", currency): GroupedTerms.from_record(
            {"model": "per_unit", "currency": currency, "included": "1000", "unit_price": price}
        )
        for currency, price in (("JPY", "0.35"), ("KWD", "3.7"))
    }
    sold = replace(plan, prices={**plan.prices, **prices}, charges={**plan.charges, **charges})
    catalog.apply(world.context, as_file(replace(now, plans={**now.plans, plan.code: sold})))
    sync(world.context)
    yuki, noor = (
        world.on("2026-04-01", name, currency=currency, tax_rate="za-vat")
        for name, currency in (("yuki", "JPY"), ("noor", "KWD"))
    )
    for customer in (yuki, noor):
        customer.card()
        customer.subscribes("autoflow-starter")
        customer.uses("2026-04-01", 2_001)  # 1,001 beyond the allowance
        customer.lives_until("2026-05-01T02:00")

    # 5,000 and 15 %; 1,001 x 0.35 = 350.35 yen, and 15 % of 350 = 52.5
    assert yuki.totals == [("first", "paid", 5_750), ("cycle", "paid", 5_750 + 350 + 53)]
    # Dinars end in 0, the networks know two decimals: 15 % of 10.500 = 1.575, charged as 1.580;
    # 1,001 x 0.0037 = 3.7037, charged as 3.700, and 15 % of it = 0.555, charged as 0.560
    assert noor.totals == [("first", "paid", 12_080), ("cycle", "paid", 12_080 + 3_700 + 560)]
    world.holds(yuki, noor)
