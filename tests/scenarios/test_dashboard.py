"""People in Stripe's dashboard: what they change is followed, what cannot be followed is parked."""

from typing import Any

import pytest
from stripe import StripeClient

from cli.demo.api import patiently
from cli.triggering.scenes import Stage, stage_of
from gateway import requests
from tests.scenarios.test_changes import amounts, changes
from tests.scenarios.test_webhooks import rows_of, stripe_fails, tell_again_backwards
from tests.scenarios.world import Customer, World

_LIVE = (
    "SELECT p.code, i.quantity, i.started_at::date::text FROM tenant.subscription_items i "
    "JOIN catalog.product_plans p ON p.id = i.plan_id WHERE i.ended_at IS NULL ORDER BY i.position"
)


class Person:
    """Somebody with Stripe's dashboard open on one customer."""

    def __init__(self, customer: Customer) -> None:
        self.customer = customer
        self.stage: Stage = stage_of(customer.world.context, customer.id)
        self.gateway = customer.world.context.gateway

    @property
    def subscription(self) -> dict[str, Any]:
        (found,) = self.gateway.list("subscription", {"customer": self.stage.customer_id})
        return dict(found)

    def price(self, plan: str, interval: str = "month") -> str:
        """The price at Stripe of the newest version of a plan."""
        (found,) = rows_of(
            self.customer.world,
            self.customer.id,
            "SELECT r.stripe_price_id FROM catalog.plan_prices r JOIN catalog.product_plans p "
            f"ON p.id = r.plan_id WHERE p.code = '{plan}' AND r.currency = 'USD' "
            f"AND r.interval = '{interval}' ORDER BY p.version DESC LIMIT 1",
        )
        return str(found[0])

    def item(self, position: int = 0) -> str:
        return str(self.subscription["items"]["data"][position]["id"])

    def changes(self, *items: requests.Item, how: Any = "create_prorations") -> None:
        request = requests.update_subscription(self.subscription["id"], items=items, proration_behavior=how)
        self.stage.person(request)

    def draft(self) -> str:
        (found,) = self.gateway.list("invoice", {"customer": self.stage.customer_id, "status": "draft"})
        return str(found["id"])

    def does(self, request: requests.Request) -> dict[str, Any]:
        return self.stage.person(request)


def live(customer: Customer) -> list[Any]:
    """(plan, quantity, day on which it began) of each living item."""
    return rows_of(customer.world, customer.id, _LIVE)


def follows(customer: Customer, items: list[Any]) -> None:
    assert patiently(lambda: live(customer), lambda now: now == items, 120.0) == items


def books(customer: Customer) -> list[Any]:
    """All that a change could have moved."""
    tables = ("invoices", "invoice_lines", "subscription_items", "pending_charges", "payments")
    rows = [f"SELECT t::text FROM tenant.{table} t ORDER BY 1" for table in tables]
    return [rows_of(customer.world, customer.id, each) for each in rows]


def explained(customer: Customer, position: int) -> dict[str, Any]:
    """Why a line of the newest invoice costs what it costs."""
    invoice = customer.invoices[-1]
    path = f"/api/billing/invoices/{invoice['id']}/lines/{invoice['lines'][position]['id']}/explain/"
    return dict(customer.world.admin.get(path))


def parked(customer: Customer) -> list[str]:
    reasons = "SELECT parked_reason FROM tenant.invoices WHERE parked_at IS NOT NULL ORDER BY created_at"
    return [reason for (reason,) in rows_of(customer.world, customer.id, reasons)]


def test_seats_that_a_person_adds_with_proration_stand_on_the_next_invoice_as_stripe_has_them(
    world: World,
) -> None:
    ada = world.on("2026-04-01", "ada")
    ada.card()
    subscription = ada.subscribes("teamspace-starter", quantity=4)  # 4 x 25.00 = 100.00
    ada.lives_until("2026-04-11")
    person = Person(ada)

    person.changes({"id": person.item(), "quantity": 6})  # 20 of 30 days: -66.67 and +100.00
    follows(ada, [("teamspace-starter", 6, "2026-04-11")])
    ada.lives_until("2026-04-21")
    changes(ada, subscription, quantity=5)  # ours: half of that 100.00 back, 10/30 of 125.00
    ada.lives_until("2026-05-01T02:00")

    assert amounts(ada.invoices[-1]) == [
        ("seats", 125_00),
        ("proration", -66_67),
        ("proration", 100_00),
        ("proration", -50_00),
        ("proration", 41_67),
    ]
    said = [line["description"] for line in ada.invoices[-1]["lines"]]
    assert ["changed at Stripe" in words for words in said] == [False, True, True, False, False]
    assert ada.totals == [("first", "paid", 100_00), ("cycle", "paid", 150_00)]
    assert [explained(ada, position)["recomputed"]["agrees"] for position in range(5)] == [
        *(True, False, False),  # what is Stripe's own is not ours to compute
        *(True, True),
    ]
    assert "a person, at Stripe" in explained(ada, 1)["proration"]["by"]
    world.holds(ada)
    before = books(ada)
    tell_again_backwards(world, person.stage)
    ada.rests()
    assert books(ada) == before


def test_a_plan_that_a_person_changes_rates_usage_by_the_plan_of_its_instant(world: World) -> None:
    ada = world.on("2026-04-01", "ada")
    ada.card()
    ada.subscribes("autoflow-starter")  # 35.00, 1,000 included, 2 cents each above
    ada.lives_until("2026-04-16")
    ada.uses("2026-04-10", 1_000)
    person = Person(ada)

    person.changes({"id": person.item(), "price": person.price("autoflow-professional"), "quantity": 1})
    follows(ada, [("autoflow-professional", 1, "2026-04-16")])
    ada.lives_until("2026-04-21")
    ada.uses("2026-04-20", 6_000)
    ada.lives_until("2026-05-01T02:00")

    # as if the change had been ours: half of each allowance, -17.50 and +37.50
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


def test_a_product_that_a_person_adds_is_billed_metered_and_accessible_until_they_take_it_out(
    world: World,
) -> None:
    bea = world.on("2026-04-01", "bea", tax_rate="za-vat")
    bea.card()
    bea.subscribes("teamspace-starter")  # 25.00
    bea.lives_until("2026-04-16")
    assert bea.access() == "none"
    person = Person(bea)

    person.changes({"price": person.price("autoflow-starter"), "quantity": 1})  # half of 35.00 = +17.50
    follows(bea, [("teamspace-starter", 1, "2026-04-01"), ("autoflow-starter", 1, "2026-04-16")])
    assert bea.access() == "full"
    bea.lives_until("2026-04-20")
    bea.uses("2026-04-18", 600)  # 500 are included in half a month: 100 at 2 cents
    bea.lives_until("2026-05-16T12:00")
    person.changes({"id": person.item(1), "deleted": True})  # 15.5 of 31 days: half of 35.00 back
    follows(bea, [("teamspace-starter", 1, "2026-04-01")])
    bea.lives_until("2026-06-01T02:00")

    assert [sorted(amounts(invoice)) for invoice in bea.invoices[1:]] == [
        [("proration", 17_50), ("recurring", 35_00), ("seats", 25_00), ("usage", 2_00)],
        [("proration", -17_50), ("seats", 25_00)],
    ]
    assert bea.access() == "none"
    world.holds(bea)


def test_a_member_that_a_person_takes_out_of_a_bundle_leaves_its_discount_as_stripe_does(
    world: World,
) -> None:
    bo = world.on("2026-04-01", "bo", tax_rate="za-vat")
    bo.card()
    bo.subscribes(bundle="starter")  # 35.00 and 25.00, less 6.00
    bo.lives_until("2026-04-16")
    person = Person(bo)
    gone = next(
        each["id"]
        for each in person.subscription["items"]["data"]
        if each["price"]["id"] == person.price("teamspace-starter")
    )

    person.changes({"id": gone, "deleted": True})  # half of 22.50 back
    follows(bo, [("autoflow-starter", 1, "2026-04-01")])
    bo.lives_until("2026-05-01T02:00")

    assert sorted(amounts(bo.invoices[-1])) == [("proration", -11_25), ("recurring", 35_00)]
    assert bo.invoices[-1]["discount_minor"] == 6_00
    world.holds(bo)


def test_a_change_and_its_reversal_that_nobody_told_of_leave_stripes_four_prorations(
    world: World,
) -> None:
    ro = world.on("2026-04-01", "ro")
    ro.card()
    ro.subscribes("teamspace-starter", quantity=2)  # 50.00
    ro.lives_until("2026-04-16")
    person = Person(ro)
    item = person.item()
    stripe_fails(world, {"event": "customer.subscription.updated", "fault": "webhook_drop", "times": 2})

    person.changes({"id": item, "quantity": 4})  # -25.00 + 50.00
    person.changes({"id": item, "quantity": 2})  # -50.00 + 25.00
    ro.lives_until("2026-05-01T02:00")

    assert sorted(amounts(ro.invoices[-1])) == [
        ("proration", -50_00),
        ("proration", -25_00),
        ("proration", 25_00),
        ("proration", 50_00),
        ("seats", 50_00),
    ]
    world.holds(ro)


def test_a_product_put_in_the_place_of_another_is_followed_though_every_word_of_it_was_lost(
    world: World,
) -> None:
    cy = world.on("2026-04-01", "cy")
    cy.card()
    cy.subscribes("teamspace-starter")
    cy.lives_until("2026-04-16")
    person = Person(cy)
    old = person.item()
    swap: tuple[requests.Item, ...] = (
        {"id": old, "deleted": True},
        {"price": person.price("autoflow-starter"), "quantity": 1},
    )
    stripe_fails(world, {"event": "customer.subscription.updated", "fault": "webhook_drop"})

    person.changes(*swap, how="none")
    cy.lives_until("2026-05-01T02:00")

    assert [amounts(invoice) for invoice in cy.invoices] == [[("seats", 25_00)], [("recurring", 35_00)]]
    assert live(cy) == [("autoflow-starter", 1, "2026-04-16")]
    world.holds(cy)


def test_a_change_that_a_person_invoices_at_once_is_an_invoice_of_its_own(world: World) -> None:
    dan = world.on("2026-04-01", "dan", tax_rate="za-vat")
    dan.card()
    dan.subscribes("teamspace-starter", quantity=2)  # 50.00 and 15 %
    dan.lives_until("2026-04-16")
    person = Person(dan)

    person.changes({"id": person.item(), "quantity": 4}, how="always_invoice")  # -25.00 + 50.00
    patiently(lambda: dan.totals, lambda found: len(found) == 2, 120.0)
    dan.lives_until("2026-05-01T02:00")

    assert dan.totals == [
        ("first", "paid", 57_50),
        ("adjustment", "paid", 28_75),
        ("cycle", "paid", 115_00),
    ]
    assert dan.charges == [("succeeded", 57_50), ("succeeded", 28_75), ("succeeded", 115_00)]
    world.holds(dan)


def test_a_charge_that_a_person_adds_to_our_draft_is_named_and_nobody_is_charged(world: World) -> None:
    eve = world.on("2026-04-01", "eve")
    eve.card()
    eve.subscribes("autoflow-starter")
    eve.lives_until("2026-05-01T00:10")
    person = Person(eve)
    line: requests.Line = {"description": "Consulting", "amount_minor": 99_00}
    line |= {"period_start": 1_777_593_600, "period_end": 1_777_593_600}

    person.does(requests.add_lines(person.draft(), [line]))
    eve.lives_until("2026-05-02")

    (reason,) = parked(eve)
    assert "Consulting ($99.00)" in reason
    assert eve.charges == [("succeeded", 35_00)]


def test_collection_that_a_person_paused_is_not_made_by_us(world: World) -> None:
    flo = world.on("2026-04-01", "flo")
    flo.card()
    flo.subscribes("autoflow-starter")
    person = Person(flo)

    person.does(requests.pause_collection(person.subscription["id"]))
    flo.lives_until("2026-05-02")

    assert parked(flo) == ["a person paused its collection at Stripe"]
    assert flo.charges == [("succeeded", 35_00)]


def test_a_quantity_of_a_plan_without_seats_is_not_followed_and_nobody_is_charged_twice_its_price(
    world: World,
) -> None:
    fay = world.on("2026-04-01", "fay")
    fay.card()
    fay.subscribes("autoflow-starter")
    fay.lives_until("2026-04-16")
    person = Person(fay)

    person.changes({"id": person.item(), "quantity": 2})
    fay.lives_until("2026-05-02")

    assert live(fay) == [("autoflow-starter", 1, "2026-04-01")]
    (reason,) = parked(fay)
    assert "our total is" in reason
    assert fay.charges == [("succeeded", 35_00)]


def test_a_price_of_another_rhythm_is_not_followed_and_stripe_collects_nothing_by_itself(
    world: World,
) -> None:
    gil = world.on("2026-04-01", "gil")
    gil.card()
    gil.subscribes("autoflow-starter")
    person = Person(gil)

    person.changes(
        {"id": person.item(), "price": person.price("autoflow-starter", "year"), "quantity": 1}, how="none"
    )
    gil.lives_until("2026-05-03")

    assert gil.totals == [("first", "paid", 35_00), ("cycle", "draft", 0)]
    assert parked(gil) == ["at Stripe a person gave the subscription another rhythm: no period ends there"]
    assert gil.charges == [("succeeded", 35_00)]
    assert live(gil) == [("autoflow-starter", 1, "2026-04-01")]


def test_a_draft_that_a_person_finalizes_before_we_billed_loses_no_usage_and_charges_nothing_twice(
    world: World,
) -> None:
    ida = world.on("2026-04-01", "ida")
    ida.card()
    subscription = ida.subscribes("autoflow-starter")
    ida.lives_until("2026-04-16")
    changes(ida, subscription, plan="autoflow-professional")  # -17.50 and +37.50
    ida.uses("2026-04-10", 700)  # half of 1,000 is included: 200 at 2 cents = 4.00
    ida.lives_until("2026-05-01T00:10")
    person = Person(ida)

    person.does(requests.finalize_invoice(person.draft()))
    ida.lives_until("2026-05-01T03:00")

    assert sorted(ida.totals) == [
        ("adjustment", "paid", 4_00),
        ("cycle", "paid", 95_00),
        ("first", "paid", 35_00),
    ]
    world.holds(ida)


def test_a_draft_that_a_person_pays_before_we_billed_is_paid_once(world: World) -> None:
    jo = world.on("2026-04-01", "jo")
    jo.card()
    jo.subscribes("autoflow-starter")
    jo.lives_until("2026-04-20")
    jo.uses("2026-04-10", 1_200)
    jo.lives_until("2026-05-01T00:10")
    person = Person(jo)

    person.does(requests.pay_invoice(person.draft()))
    jo.lives_until("2026-05-01T03:00")

    assert sorted(jo.charges) == [("succeeded", 4_00), ("succeeded", 35_00), ("succeeded", 35_00)]
    assert sorted(jo.totals)[:2] == [("adjustment", "paid", 4_00), ("cycle", "paid", 35_00)]
    world.holds(jo)


def test_a_draft_that_a_person_finalizes_and_voids_is_forgiven_but_its_usage_is_not(world: World) -> None:
    kim = world.on("2026-04-01", "kim")
    kim.card()
    kim.subscribes("autoflow-starter")
    kim.lives_until("2026-04-20")
    kim.uses("2026-04-10", 1_200)
    kim.lives_until("2026-05-01T00:10")
    person = Person(kim)

    draft = person.draft()
    person.does(requests.finalize_invoice(draft))
    person.does(requests.void_invoice(draft))
    kim.lives_until("2026-05-01T03:00")

    assert sorted(kim.totals) == [
        ("adjustment", "paid", 4_00),
        ("cycle", "void", 35_00),
        ("first", "paid", 35_00),
    ]
    assert sorted(kim.charges) == [("succeeded", 4_00), ("succeeded", 35_00)]
    world.holds(kim)


def test_an_upgrade_before_a_cancellation_is_charged_on_the_final_invoice(world: World) -> None:
    lea = world.on("2026-04-01", "lea")
    lea.card()
    subscription = lea.subscribes("teamspace-starter")  # 25.00, and nothing in it is metered
    lea.lives_until("2026-04-16")
    changes(lea, subscription, plan="teamspace-professional")  # -12.50 and +20.00
    lea.lives_until("2026-04-20")

    lea.cancels(subscription, at_period_end=False)
    lea.lives_until("2026-04-20T03:00")

    assert lea.totals == [("first", "paid", 25_00), ("final", "paid", 7_50)]
    person = Person(lea)
    waiting = {"customer": person.stage.customer_id, "pending": True}
    assert list(person.gateway.list("invoice_item", waiting)) == []
    world.holds(lea)


def test_unused_time_that_a_person_gives_back_when_they_cancel_is_credit(world: World) -> None:
    max_ = world.on("2026-04-01", "max")
    max_.card()
    max_.subscribes("teamspace-starter")  # 25.00
    max_.lives_until("2026-04-16")
    person = Person(max_)

    person.does(requests.cancel_with_credit(person.subscription["id"]))
    patiently(lambda: max_.totals, lambda found: len(found) == 2, 120.0)
    max_.lives_until("2026-04-16T03:00")

    assert max_.totals == [("first", "paid", 25_00), ("final", "paid", 0)]
    balance = world.admin.get(f"/api/billing/organizations/{max_.slug}/credit/")["balance_minor"]
    assert balance == 12_50
    world.holds(max_)


def _trial_until(customer: Customer, moved_to: Any) -> None:
    person, key = Person(customer), customer.world.context.settings.stripe_api_key
    assert key is not None
    stripe = StripeClient(key, base_addresses={"api": customer.world.stack.urls["sandbox"]})
    stripe.v1.subscriptions.update(person.subscription["id"], {"trial_end": moved_to})


def _trial_mails(customer: Customer) -> list[Any]:
    return customer.rows(
        "SELECT created_at::date::text FROM tenant.notifications "
        "WHERE kind = 'trial.ending' AND channel = 'mail' ORDER BY 1"
    )


@pytest.mark.parametrize("lost", [False, True])
def test_a_trial_that_a_person_extends_ends_where_stripe_ends_it(world: World, lost: bool) -> None:
    tia = world.on("2026-04-01", "tia")
    tia.card()
    tia.subscribes("autoflow-starter", trial_days=14)
    tia.lives_until("2026-04-05")
    if lost:
        stripe_fails(world, {"event": "customer.subscription.updated", "fault": "webhook_drop"})

    _trial_until(tia, 1_777_161_600)  # the 26th
    tia.lives_until("2026-05-26T02:00")

    assert tia.totals == [("first", "paid", 0), ("cycle", "paid", 35_00), ("cycle", "paid", 35_00)]
    assert [invoice["period_end_at"][:10] for invoice in tia.invoices] == [
        "2026-04-01",
        "2026-04-26",
        "2026-05-26",
    ]
    assert ("2026-04-23",) in _trial_mails(tia)
    assert parked(tia) == []
    world.holds(tia)


def test_a_trial_that_a_person_ends_is_charged_at_once_and_its_usage_is_free(world: World) -> None:
    uma = world.on("2026-04-01", "uma")
    uma.card()
    uma.subscribes("autoflow-starter", trial_days=14)
    uma.lives_until("2026-04-05")
    uma.uses("2026-04-03", 5_000)

    _trial_until(uma, "now")
    patiently(lambda: uma.totals, lambda found: len(found) > 1, 120.0)
    uma.lives_until("2026-05-05T02:00")

    assert sorted(uma.totals) == [
        ("adjustment", "paid", 0),
        ("cycle", "paid", 35_00),
        ("cycle", "paid", 35_00),
        ("first", "paid", 0),
    ]
    assert uma.charges == [("succeeded", 35_00), ("succeeded", 35_00)]
    assert parked(uma) == []
    world.holds(uma)
