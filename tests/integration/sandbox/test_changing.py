"""Changes in mid-period, cancellation, pauses: every amount to the second and the cent."""

from typing import Any

import pytest
import stripe

from tests.integration.sandbox.local import Local, at
from tests.integration.sandbox.people import Town


@pytest.fixture
def town(local: Local) -> Town:
    return Town(local, now="2026-04-01 00:00")


def prorations(town: Town, customer: Any) -> list[tuple[int, str]]:
    """What waits for the next invoice."""
    items = town.api.invoice_items.list({"customer": customer.id, "pending": True}).data
    return [(item.amount, item.description.split(" on ")[0]) for item in items][::-1]


def test_an_upgrade_on_the_eleventh_of_april(town: Town) -> None:
    # 30 days, 20 of them left: -30 * 20/30 = -20.00; +90 * 20/30 = +60.00
    ada = town.customer()
    starter, team = town.price(30_00), town.price(90_00)
    subscription = town.subscribe(ada, starter)
    town.to("2026-04-11 00:00")
    item = subscription["items"].data[0]
    town.api.subscriptions.update(subscription.id, {"items": [{"id": item.id, "price": team.id}]})
    assert prorations(town, ada) == [(-20_00, "Unused time"), (60_00, "Remaining time")]
    town.to("2026-05-01 00:30")
    cycle = town.invoices(ada)[-1]
    assert [line.amount for line in cycle.lines.data] == [-20_00, 60_00, 90_00]
    assert cycle.lines.data[0].parent.invoice_item_details.proration is True
    assert prorations(town, ada) == []


def test_a_share_is_exact_to_the_second(town: Town) -> None:
    ada = town.customer()
    subscription = town.subscribe(ada, (town.price(10_00), 3))
    town.to("2026-04-08 13:17")
    item = subscription["items"].data[0]
    moment = at("2026-04-08 12:34:56")
    town.api.subscriptions.update(
        subscription.id, {"items": [{"id": item.id, "quantity": 4}], "proration_date": moment}
    )
    left, whole = at("2026-05-01") - moment, 30 * 86_400
    assert [amount for amount, _ in prorations(town, ada)] == [
        -round(30_00 * left / whole),
        round(40_00 * left / whole),
    ]


def test_a_credit_gives_back_what_was_debited_after_discounts(town: Town) -> None:
    ada = town.customer()
    coupon = town.api.coupons.create({"percent_off": "50", "duration": "forever"})
    subscription = town.subscribe(ada, (town.price(30_00), 2), discounts=[{"coupon": coupon.id}])
    town.to("2026-04-16 00:00")
    item = subscription["items"].data[0]
    town.api.subscriptions.update(subscription.id, {"items": [{"id": item.id, "quantity": 1}]})
    assert prorations(town, ada) == [(-15_00, "Unused time"), (7_50, "Remaining time")]


def test_the_same_terms_again_cost_nothing(town: Town) -> None:
    ada = town.customer()
    subscription = town.subscribe(ada, town.price())
    town.to("2026-04-11 00:00")
    item = subscription["items"].data[0]
    town.api.subscriptions.update(subscription.id, {"items": [{"id": item.id, "quantity": 1}]})
    assert prorations(town, ada) == []


def test_always_invoice_charges_at_once_and_none_charges_nothing(town: Town) -> None:
    ada = town.customer()
    subscription = town.subscribe(ada, town.price(30_00))
    item = subscription["items"].data[0]
    town.to("2026-04-11 00:00")
    changed = {"items": [{"id": item.id, "quantity": 2}], "proration_behavior": "always_invoice"}
    town.api.subscriptions.update(subscription.id, changed)
    newest = town.invoices(ada)[-1]
    assert (newest.billing_reason, newest.status, newest.total) == ("subscription_update", "paid", 20_00)
    town.api.subscriptions.update(
        subscription.id, {"items": [{"id": item.id, "quantity": 5}], "proration_behavior": "none"}
    )
    assert prorations(town, ada) == []
    assert len(town.invoices(ada)) == 2


def test_a_new_price_without_a_quantity_puts_it_back_to_one(town: Town) -> None:
    subscription = town.subscribe(town.customer(), (town.price(), 7))
    item = subscription["items"].data[0]
    changed = town.api.subscriptions.update(
        subscription.id, {"items": [{"id": item.id, "price": town.price().id}]}
    )
    assert changed["items"].data[0].quantity == 1


def test_items_come_and_go(town: Town) -> None:
    ada = town.customer()
    subscription = town.subscribe(ada, town.price(30_00))
    town.to("2026-04-16 00:00")
    changed = town.api.subscriptions.update(subscription.id, {"items": [{"price": town.price(60_00).id}]})
    first, second = changed["items"].data
    assert (first.current_period_end, second.current_period_end) == (at("2026-05-01"), at("2026-05-01"))
    assert prorations(town, ada) == [(30_00, "Remaining time")]
    town.api.subscriptions.update(subscription.id, {"items": [{"id": second.id, "deleted": True}]})
    assert [amount for amount, _ in prorations(town, ada)] == [30_00, -30_00]
    with pytest.raises(stripe.InvalidRequestError, match="at least one active item"):
        town.api.subscriptions.update(subscription.id, {"items": [{"id": first.id, "deleted": True}]})


def test_from_month_to_year_with_a_new_anchor(town: Town) -> None:
    ada = town.customer()
    subscription = town.subscribe(ada, town.price(30_00))
    town.to("2026-04-16 00:00")
    item = subscription["items"].data[0]
    changed = town.api.subscriptions.update(
        subscription.id,
        {
            "items": [{"id": item.id, "price": town.price(300_00, "year").id}],
            "billing_cycle_anchor": {"type": "now"},
        },
    )
    assert changed.billing_cycle_anchor == at("2026-04-16")
    assert changed["items"].data[0].current_period_end == at("2027-04-16")
    newest = town.invoices(ada)[-1]
    assert ([line.amount for line in newest.lines.data], newest.status) == ([-15_00, 300_00], "paid")


def test_a_downgrade_with_a_credit_goes_to_the_balance(town: Town) -> None:
    ada = town.customer()
    subscription = town.subscribe(ada, (town.price(30_00), 10))
    town.to("2026-04-11 00:00")
    item = subscription["items"].data[0]
    town.api.subscriptions.update(
        subscription.id,
        {"items": [{"id": item.id, "quantity": 1}], "proration_behavior": "always_invoice"},
    )
    newest = town.invoices(ada)[-1]
    assert (newest.total, newest.amount_due, newest.status, newest.ending_balance) == (
        -180_00,
        0,
        "paid",
        -180_00,
    )
    assert town.api.customers.retrieve(ada.id).balance == -180_00
    town.to("2026-05-01 02:00")
    newest = town.invoices(ada)[-1]
    assert (newest.total, newest.amount_due, newest.starting_balance, newest.ending_balance) == (
        30_00,
        0,
        -180_00,
        -150_00,
    )


def test_a_preview_is_what_comes_and_changes_nothing(town: Town) -> None:
    ada = town.customer()
    subscription = town.subscribe(ada, town.price(30_00))
    town.to("2026-04-11 00:00")
    item = subscription["items"].data[0]
    details = {"items": [{"id": item.id, "price": town.price(90_00).id}]}
    before = town.local.events()
    seen = town.api.invoices.create_preview(
        {"subscription": subscription.id, "subscription_details": details}
    )
    assert [line.amount for line in seen.lines.data] == [-20_00, 60_00, 90_00]
    assert (seen.billing_reason, seen.total, prorations(town, ada)) == ("upcoming", 130_00, [])
    assert town.local.events() == before
    town.api.subscriptions.update(subscription.id, details)
    town.to("2026-05-01 00:30")
    assert town.invoices(ada)[-1].total == seen.total


def test_cancel_now_stops_the_draft_but_leaves_it(town: Town) -> None:
    ada = town.customer()
    subscription = town.subscribe(ada, town.price())
    town.to("2026-05-01 00:30")
    ended = town.api.subscriptions.cancel(subscription.id, {"cancellation_details": {"comment": "bye"}})
    assert (ended.status, ended.ended_at, ended.cancellation_details.reason) == (
        "canceled",
        at("2026-05-01 00:30"),
        "cancellation_requested",
    )
    town.to("2026-06-03 00:00")
    draft = town.invoices(ada)[-1]
    assert (draft.status, draft.auto_advance, len(town.invoices(ada))) == ("draft", False, 2)
    with pytest.raises(stripe.InvalidRequestError):
        town.api.subscriptions.cancel(subscription.id)


def test_cancel_with_proration_and_a_last_invoice(town: Town) -> None:
    ada = town.customer()
    subscription = town.subscribe(ada, town.price(30_00))
    town.to("2026-04-16 00:00")
    town.api.subscriptions.cancel(subscription.id, {"prorate": True, "invoice_now": True})
    assert town.invoices(ada)[-1].total == -15_00
    assert town.api.customers.retrieve(ada.id).balance == -15_00


def test_cancel_at_the_end_and_think_again(town: Town) -> None:
    ada = town.customer()
    stays, goes = town.subscribe(ada, town.price()), town.subscribe(ada, town.price())
    for subscription in (stays, goes):
        marked = town.api.subscriptions.update(subscription.id, {"cancel_at_period_end": True})
        assert (marked.status, marked.cancel_at) == ("active", at("2026-05-01"))
    undone = town.api.subscriptions.update(stays.id, {"cancel_at_period_end": False})
    assert (undone.cancel_at, undone.canceled_at) == (None, None)
    town.to("2026-05-02 00:00")
    assert (town.again(stays).status, town.again(goes).status) == ("active", "canceled")
    assert len(town.invoices(ada)) == 3


def test_pause_makes_no_invoices_and_resume_starts_anew(town: Town) -> None:
    ada = town.customer()
    subscription = town.subscribe(ada, town.price(30_00))
    town.to("2026-04-16 00:00")
    paused = town.api.subscriptions.pause(
        subscription.id, {"type": "subscription", "bill_for": {"unused_time_from": {"type": "none"}}}
    )
    assert paused.status == "paused"
    assert paused.status_details.paused.subscription.type == "pause_requested"
    town.to("2026-06-01 00:00")
    assert len(town.invoices(ada)) == 1
    resumed = town.api.subscriptions.resume(subscription.id, {"billing_cycle_anchor": {"type": "now"}})
    assert (resumed.status, resumed["items"].data[0].current_period_end) == ("active", at("2026-07-01"))
    assert (town.invoices(ada)[-1].total, town.invoices(ada)[-1].status) == (30_00, "paid")


@pytest.mark.parametrize(
    ("behavior", "status"),
    [("keep_as_draft", "draft"), ("void", "void"), ("mark_uncollectible", "uncollectible")],
)
def test_a_paused_collection_goes_on_making_invoices(town: Town, behavior: str, status: str) -> None:
    ada = town.customer()
    subscription = town.subscribe(ada, town.price())
    town.api.subscriptions.update(subscription.id, {"pause_collection": {"behavior": behavior}})
    town.to("2026-05-01 06:00")
    newest = town.invoices(ada)[-1]
    assert (newest.status, town.again(subscription).status) == (status, "active")


def test_tiers_and_packages(town: Town) -> None:
    ada = town.customer()
    product = town.api.products.create({"name": "Seats"}).id
    common = {"product": product, "currency": "usd", "recurring": {"interval": "month"}}
    graduated = town.api.prices.create(
        {
            **common,
            "billing_scheme": "tiered",
            "tiers_mode": "graduated",
            "tiers": [
                {"up_to": 10, "unit_amount": 5_00},
                {"up_to": "inf", "unit_amount": 4_00, "flat_amount": 1_00},
            ],
            "expand": ["tiers"],
        }
    )
    assert [tier.up_to for tier in graduated.tiers] == [10, None]
    packed = town.api.prices.create(
        {**common, "unit_amount": 7_00, "transform_quantity": {"divide_by": 5, "round": "up"}}
    )
    town.subscribe(ada, (graduated, 12), (packed, 11))
    [invoice] = town.invoices(ada)
    # 10 * 5.00; 2 * 4.00 + 1.00; 3 packages * 7.00
    assert [line.amount for line in invoice.lines.data] == [50_00, 9_00, 21_00]


def decline(town: Town, customer: Any, code: str | None) -> None:
    """From now on the customer's bank refuses (or, with None, approves)."""
    card = customer.invoice_settings.default_payment_method
    town.local.ask("POST", f"/_sandbox/cards/{card}", {"decline": code})


@pytest.mark.parametrize("paid", [True, False])
def test_a_pending_update_waits_for_its_money(town: Town, paid: bool) -> None:
    ada = town.customer()
    subscription = town.subscribe(ada, town.price(30_00))
    item = subscription["items"].data[0]
    town.to("2026-04-11 00:00")
    decline(town, ada, "insufficient_funds")
    waiting = town.api.subscriptions.update(
        subscription.id,
        {
            "items": [{"id": item.id, "quantity": 3}],
            "proration_behavior": "always_invoice",
            "payment_behavior": "pending_if_incomplete",
        },
    )
    assert (waiting.status, waiting["items"].data[0].quantity) == ("active", 1)
    assert [entry.quantity for entry in waiting.pending_update.subscription_items] == [3]
    decline(town, ada, None)
    if paid:
        town.api.invoices.pay(waiting.latest_invoice)
    town.to("2026-04-12 00:00")
    seen = town.again(subscription)
    assert (seen.status, seen.pending_update, seen["items"].data[0].quantity) == (
        "active",
        None,
        3 if paid else 1,
    )
    assert town.invoices(ada)[-1].status == ("paid" if paid else "void")


@pytest.mark.parametrize(
    ("behavior", "status", "quantity"),
    [("allow_incomplete", "past_due", 3), ("error_if_incomplete", "active", 1)],
)
def test_a_change_that_nobody_pays(town: Town, behavior: str, status: str, quantity: int) -> None:
    ada = town.customer()
    subscription = town.subscribe(ada, town.price(30_00))
    item = subscription["items"].data[0]
    town.to("2026-04-11 00:00")
    decline(town, ada, "insufficient_funds")
    change = {
        "items": [{"id": item.id, "quantity": 3}],
        "proration_behavior": "always_invoice",
        "payment_behavior": behavior,
    }
    if behavior == "error_if_incomplete":
        with pytest.raises(stripe.CardError):
            town.api.subscriptions.update(subscription.id, change)
    else:
        town.api.subscriptions.update(subscription.id, change)
    seen = town.again(subscription)
    assert (seen.status, seen["items"].data[0].quantity) == (status, quantity)
    assert len(town.invoices(ada)) == (1 if behavior == "error_if_incomplete" else 2)


def test_items_of_different_intervals_go_their_own_ways(town: Town) -> None:
    ada = town.customer()
    subscription = town.subscribe(ada, town.price(30_00), town.price(300_00, "year"))
    ends = [item.current_period_end for item in subscription["items"].data]
    assert ends == [at("2026-05-01"), at("2027-04-01")]
    town.to("2026-05-01 02:00")
    assert [invoice.total for invoice in town.invoices(ada)] == [330_00, 30_00]


def test_a_stub_period_before_the_anchor_is_prorated(town: Town) -> None:
    ada = town.customer()
    subscription = town.subscribe(ada, town.price(30_00), billing_cycle_anchor=at("2026-04-11"))
    assert subscription["items"].data[0].current_period_end == at("2026-04-11")
    # March 11 to April 11 has 31 days; 10 of them are left: 30.00 * 10/31 = 9.68
    town.to("2026-04-11 02:00")
    assert [invoice.total for invoice in town.invoices(ada)] == [9_68, 30_00]
