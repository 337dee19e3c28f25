"""Stories of subscriptions: with a card, with a trial, with a bundle, and their ends."""

import pytest

from gateway import requests, translate
from gateway.errors import Refused
from tests.contract.account import DAY_S, Account, Clocked, a_price, a_product


def test_subscribing_with_a_card_is_paid_at_once(account: Account) -> None:
    ada = Clocked(account)
    facts = ada.subscribes(a_price(account, 35_00), quantity=2)
    first = ada.invoice(facts.latest_invoice_id)

    assert (facts.status, facts.customer_id, facts.metadata) == ("active", ada.id, {"subscription_id": "s-1"})
    assert [item.quantity for item in facts.items] == [2]
    assert facts.test_clock_id == ada.clock_id
    assert (first.status, first.billing_reason, first.total_minor) == ("paid", "subscription_create", 70_00)
    assert (first.amount_paid_minor, first.amount_remaining_minor, first.currency) == (70_00, 0, "USD")
    assert (first.subscription_id, first.subscription_metadata) == (facts.id, {"subscription_id": "s-1"})
    assert [line.subscription_item_id for line in first.lines] == [facts.items[0].id]

    [paid] = [translate.payment(row) for row in account.rows("invoice_payment", invoice=first.id)]
    assert (paid.status, paid.amount_paid_minor, paid.invoice_id) == ("paid", 70_00, first.id)
    assert paid.payment_intent_id is not None
    intent = translate.payment_intent(account.fetch("payment_intent", paid.payment_intent_id))
    assert (intent.status, intent.amount_minor, intent.decline) == ("succeeded", 70_00, None)

    assert account.event_types(facts.id)[0] == "customer.subscription.created"
    assert set(account.event_types(first.id)) >= {"invoice.created", "invoice.finalized", "invoice.paid"}
    assert account.event_types(first.id).count("invoice.paid") == 1


def test_a_trial_asks_for_a_card_and_ends_in_a_draft(account: Account) -> None:
    ada = Clocked(account, card=None)
    trial_end = account.now + 14 * DAY_S
    created = account.send(
        requests.create_subscription(
            ada.id,
            [{"price": a_price(account, 35_00), "quantity": 1}],
            metadata={"subscription_id": "s-2"},
            trial_end=trial_end,
        )
    )
    facts = translate.subscription(created)
    assert facts.status == "trialing"
    assert facts.trial_end_at is not None and int(facts.trial_end_at.timestamp()) == trial_end
    first = ada.invoice(facts.latest_invoice_id)
    assert (first.status, first.total_minor, first.billing_reason) == ("paid", 0, "subscription_create")

    setup = translate.setup_intent(created["pending_setup_intent"])
    assert setup.status == "requires_payment_method"
    saved = translate.setup_intent(account.send(requests.confirm_setup_intent(setup.id, "pm_card_visa")))
    assert (saved.status, saved.customer_id) == ("succeeded", ada.id)
    assert saved.payment_method_id is not None
    account.send(requests.set_default_payment_method(ada.id, saved.payment_method_id))

    ada.advances(trial_end + 60)
    facts = ada.subscription(facts.id)
    assert facts.status == "active"
    assert facts.period_start_at is not None and int(facts.period_start_at.timestamp()) == trial_end
    draft = ada.invoices(status="draft")[0]
    assert (draft.billing_reason, draft.total_minor, draft.auto_advance) == (
        "subscription_cycle",
        35_00,
        True,
    )
    assert "customer.subscription.trial_will_end" in account.event_types(facts.id)
    assert account.event_types(draft.id)[0] == "invoice.created"


def test_a_bundle_discount_and_tax_come_out_to_the_cent(account: Account) -> None:
    ada = Clocked(account)
    products = [a_product(account, "AutoFlow AI"), a_product(account, "TeamSpace")]
    prices = [
        a_price(account, amount, product=product)
        for amount, product in zip((35_00, 25_00), products, strict=True)
    ]
    coupon = account.send(
        requests.create_coupon(
            "Starter bundle", amount_off_minor=6_00, currency="USD", applies_to_products=products
        )
    )
    tax = account.send(requests.create_tax_rate("VAT", "15", False, "ZA", "vat"))

    facts = ada.subscribes(*prices, discounts=[coupon["id"]], default_tax_rates=[tax["id"]])
    first = ada.invoice(facts.latest_invoice_id)

    # 35.00 + 25.00 = 60.00; less 6.00 in proportion, 3.50 + 2.50; 15 % of 31.50 = 4.725 and of 22.50 = 3.375
    assert (first.subtotal_minor, first.discount_minor) == (60_00, 6_00)
    assert sorted(line.discount_minor for line in first.lines) == [2_50, 3_50]
    assert first.tax_minor == sum(line.tax_minor for line in first.lines)
    assert first.tax_minor in (8_10, 8_11)  # half a cent up on each line, or the tax of 54.00 as a whole
    assert first.total_minor == 60_00 - 6_00 + first.tax_minor
    assert (first.status, first.tax_included_minor) == ("paid", 0)
    assert len(facts.discount_ids) == 1


def test_an_end_at_the_end_of_the_period_can_be_undone_and_makes_no_last_draft(account: Account) -> None:
    ada = Clocked(account)
    facts = ada.subscribes(a_price(account, 35_00))
    ends_at = facts.period_end_at
    assert ends_at is not None

    asked = translate.subscription(
        account.send(requests.update_subscription(facts.id, cancel_at_period_end=True))
    )
    assert (asked.status, asked.cancel_at_period_end, asked.cancel_at) == ("active", True, ends_at)
    undone = translate.subscription(
        account.send(requests.update_subscription(facts.id, cancel_at_period_end=False))
    )
    assert (undone.cancel_at_period_end, undone.cancel_at, undone.cancelled_at) == (False, None, None)

    account.send(requests.update_subscription(facts.id, cancel_at_period_end=True))
    ada.advances(int(ends_at.timestamp()) + 60)
    ended = ada.subscription(facts.id)
    assert (ended.status, ended.ended_at) == ("canceled", ends_at)
    assert [invoice.billing_reason for invoice in ada.invoices()] == ["subscription_create"]
    assert account.event_types(facts.id)[-1] == "customer.subscription.deleted"


def test_an_end_now_is_for_ever_and_may_be_said_twice(account: Account) -> None:
    ada = Clocked(account)
    facts = ada.subscribes(a_price(account, 35_00))
    request = requests.cancel_subscription(facts.id, "asked by the customer")

    ended = translate.subscription(account.send(request))
    assert ended.status == "canceled"
    assert ended.ended_at is not None
    again = translate.subscription(account.send(request))
    assert (again.status, again.ended_at) == ("canceled", ended.ended_at)

    account.refusal(requests.update_subscription(facts.id, cancel_at_period_end=True), Refused)
    assert len(ada.invoices()) == 1
    assert account.event_types(facts.id).count("customer.subscription.deleted") == 1


@pytest.mark.parametrize("quantity", [1, 3])
def test_a_change_of_seats_is_prorated_onto_the_next_invoice(account: Account, quantity: int) -> None:
    ada = Clocked(account)
    facts = ada.subscribes(a_price(account, 30_00), quantity=2)
    assert facts.period_start_at is not None and facts.period_end_at is not None
    middle = facts.period_start_at + (facts.period_end_at - facts.period_start_at) / 2
    request = requests.update_subscription(
        facts.id,
        items=[{"id": facts.items[0].id, "quantity": quantity}],
        proration_behavior="create_prorations",
        proration_date=int(middle.timestamp()),
    )
    ada.advances(int(middle.timestamp()))
    account.send(request)
    ada.advances(int(facts.period_end_at.timestamp()) + 60)

    draft = ada.invoices(status="draft")[0]
    prorated = [line for line in draft.lines if line.proration]
    # half a period of the seats before goes back, half a period of the seats after is charged
    assert sum(line.amount_minor for line in prorated) == (quantity - 2) * 15_00
    assert draft.total_minor == (quantity - 2) * 15_00 + quantity * 30_00
