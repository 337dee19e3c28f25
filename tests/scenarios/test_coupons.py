"""Coupons on subscriptions: what they take off, for how long, and how often they may be had."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest

from cli.demo.api import Api, ApiRefusal, patiently
from cli.keys import issue_bound
from gateway import requests
from tests.scenarios.test_credit import say
from tests.scenarios.test_dashboard import Person
from tests.scenarios.world import Customer, World


def coupon(world: World, **terms: Any) -> str:
    """A new coupon; returns its code."""
    code = f"C{uuid4().hex[:8]}"
    content = {"code": code, "name": "A welcome", **terms}
    world.admin.post("/api/billing/coupons/", content, str(uuid4()))
    return code


def redeemed(world: World, code: str) -> int:
    listed = world.admin.get("/api/billing/coupons/")["items"]
    return next(int(each["times_redeemed"]) for each in listed if each["code"] == code)


def discounts(customer: Customer) -> list[int]:
    return [int(invoice["discount_minor"]) for invoice in customer.invoices]


def test_a_percentage_off_three_months_spares_usage_and_ends_by_itself(world: World) -> None:
    code = coupon(world, percent_off="12.5", duration="repeating", duration_in_months=3)
    ada = world.on("2026-01-31", "ada")
    ada.card()
    ada.subscribes("autoflow-starter", coupon=code)  # 12.5 % of 35.00 = 4.375 -> 4.38
    ada.lives_until("2026-02-10")
    ada.uses("2026-02-09", 1_500)  # 500 above the allowance at 2 cents = 10.00, in full

    ada.lives_until("2026-05-31T02:00")

    # given on 31 January for three months: the invoices of January, February and March, not 30 April's
    assert discounts(ada) == [4_38, 4_38, 4_38, 0, 0]
    assert ada.totals == [
        ("first", "paid", 30_62),
        ("cycle", "paid", 40_62),
        ("cycle", "paid", 30_62),
        ("cycle", "paid", 35_00),
        ("cycle", "paid", 35_00),
    ]
    world.holds(ada)


def test_a_coupon_comes_after_the_bundles_difference_and_covers_its_product_alone(world: World) -> None:
    code = coupon(world, percent_off="10", duration="forever", products=["teamspace"])
    bea = world.on("2026-04-01", "bea", tax_rate="za-vat")
    bea.card()
    bea.subscribes(bundle="starter", coupon=code)

    bea.lives_until("2026-05-01T02:00")

    # AutoFlow 35.00 and TeamSpace 25.00 less the bundle's 6.00 in proportion: 3.50 and 2.50;
    # then 10 % of the 22.50 that TeamSpace still costs = 2.25. VAT: 15 % of 31.50 = 4.725 -> 4.73,
    # 15 % of 20.25 = 3.0375 -> 3.04
    lines = {line["product"]: line for line in bea.invoices[-1]["lines"]}
    assert lines["autoflow"]["discount_minor"] == 3_50
    assert lines["teamspace"]["discount_minor"] == 4_75
    assert bea.totals == [("first", "paid", 59_52), ("cycle", "paid", 59_52)]
    explained = world.admin.get(
        f"/api/billing/invoices/{bea.invoices[-1]['id']}/lines/{lines['teamspace']['id']}/explain/"
    )
    assert [(part["code"], part["amount_minor"]) for part in explained["discount"]["parts"]] == [
        ("bundle starter", 2_50),
        (code, 2_25),
    ]
    world.holds(bea)


def test_an_amount_once_waits_for_the_first_charge_after_a_trial(world: World) -> None:
    code = coupon(world, amount_off_minor=5_00, currency="USD", duration="once")
    kay = world.on("2026-04-01", "kay")
    kay.card()
    kay.subscribes("autoflow-starter", coupon=code, trial_days=14)

    kay.lives_until("2026-06-15T02:00")

    assert discounts(kay) == [0, 5_00, 0, 0]
    world.holds(kay)


def test_the_last_coupon_is_had_once_however_many_want_it_at_once(world: World) -> None:
    code = coupon(world, percent_off="50", duration="once", max_redemptions=2)
    wanting = [world.on("2026-04-01", f"want{number}") for number in range(5)]

    for customer in wanting:
        customer.card()
    key = issue_bound(world.context, "admin", f"race {uuid4()}")

    def try_it(customer: Customer) -> int:
        api = Api(world.stack.urls["web"], key)  # one connection for each that runs at once
        content = {"organization": customer.slug, "plan": "teamspace-starter", "coupon": code}
        body = json.dumps({**content, "currency": "USD", "interval": "month"}).encode()
        try:
            return api.send("POST", "/api/billing/subscriptions/", body, str(uuid4())).status
        finally:
            api.close()

    with ThreadPoolExecutor(len(wanting)) as pool:
        outcomes = list(pool.map(try_it, wanting))

    assert sorted(outcomes) == [201, 201, 422, 422, 422]
    assert redeemed(world, code) == 2
    for customer in wanting:
        customer.rests()
    world.holds(*wanting)


@pytest.mark.parametrize(
    ("terms", "why"),
    [
        ({"redeem_by": "2026-03-31T00:00:00Z"}, "earlier"),
        ({"percent_off": None, "amount_off_minor": 1, "currency": "ZAR"}, "ZAR"),
    ],
)
def test_a_coupon_that_cannot_be_had_is_refused_with_the_reason(
    world: World, terms: dict[str, Any], why: str
) -> None:
    code = coupon(world, **{"percent_off": "10", **terms})
    dan = world.on("2026-04-01", "dan")

    with pytest.raises(ApiRefusal) as refusal:
        dan.subscribes("autoflow-starter", coupon=code)

    assert refusal.value.status == 422 and why in str(refusal.value)
    assert redeemed(world, code) == 0 and dan.invoices == []


def test_a_retired_coupon_stays_with_those_who_have_it(world: World) -> None:
    code = coupon(world, percent_off="20", duration="forever")
    eve, late = world.on("2026-04-01", "eve"), world.on("2026-04-01", "late")
    eve.card()
    eve.subscribes("autoflow-starter", coupon=code)
    answer = world.admin.send("PATCH", f"/api/billing/coupons/{code}/", b'{"active": false}')
    assert answer.status == 200

    with pytest.raises(ApiRefusal, match="no longer"):
        late.subscribes("autoflow-starter", coupon=code)
    eve.lives_until("2026-05-01T02:00")

    assert discounts(eve) == [7_00, 7_00]
    world.holds(eve)


def test_a_subscription_that_stripe_refuses_gives_its_coupon_back_and_holds_no_product(world: World) -> None:
    code = coupon(world, percent_off="20", duration="forever", max_redemptions=1)
    fay, gus = world.on("2026-04-01", "fay"), world.on("2026-04-01", "gus")
    fay.card()
    gus.card()
    price = Person(fay).price("teamspace-enterprise", "quarter")
    say(fay, requests.archive_price(price))
    try:
        with pytest.raises(ApiRefusal, match="Stripe refused") as refusal:
            fay.subscribes("teamspace-enterprise", interval="quarter", coupon=code)
        assert (refusal.value.status, redeemed(world, code)) == (409, 0)
    finally:
        say(fay, requests.Request("update_price", price, {"active": True}))

    fay.subscribes("teamspace-enterprise", interval="quarter", coupon=code)
    with pytest.raises(ApiRefusal, match="as often as it may be"):
        gus.subscribes("teamspace-enterprise", interval="quarter", coupon=code)

    assert redeemed(world, code) == 1
    assert discounts(fay) == [45_03]  # 20 % of 225.15
    world.holds(fay, gus)


def test_a_first_payment_that_never_comes_gives_the_coupon_back(world: World) -> None:
    code = coupon(world, percent_off="20", duration="once", max_redemptions=1)
    hal = world.on("2026-04-01", "hal")
    hal.subscribes("autoflow-starter", coupon=code)
    assert redeemed(world, code) == 1

    hal.lives_until("2026-04-02T02:00")  # Stripe waits for 23 hours

    assert patiently(lambda: redeemed(world, code), lambda count: count == 0, 30.0) == 0
    world.holds(hal)


def test_a_coupon_of_three_months_goes_on_and_ends_though_its_bundle_is_taken_apart(world: World) -> None:
    code = coupon(world, percent_off="10", duration="repeating", duration_in_months=3)
    ivy = world.on("2026-04-01", "ivy")
    ivy.card()
    subscription = ivy.subscribes(bundle="starter", coupon=code)  # 54.00 less 10 % of each line
    ivy.lives_until("2026-05-20")

    path = f"/api/billing/subscriptions/{subscription}/"
    answer = world.admin.send("PATCH", path, b'{"product": "teamspace", "remove": true}', str(uuid4()))
    assert answer.status == 200, answer.content
    ivy.lives_until("2026-08-01T02:00")

    # June is the last of April, May and June; from then on AutoFlow costs its list price
    assert discounts(ivy) == [11_40, 11_40, 3_50, 0, 0]
    world.holds(ivy)
