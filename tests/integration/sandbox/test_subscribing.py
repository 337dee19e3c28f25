"""Subscribing: paid at once, on trial, declined, with tax and discounts; each in Stripe's words."""

from datetime import UTC, datetime

import pytest
import stripe

from tests.integration.sandbox.local import at
from tests.integration.sandbox.people import Town


def day(moment: int) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M")


def test_a_card_that_works_pays_inside_the_request(town: Town) -> None:
    ada = town.customer()
    subscription = town.subscribe(
        ada, (town.price(30_00), 3), town.price(10_00), expand=["latest_invoice.payments"]
    )
    invoice = subscription.latest_invoice
    assert (subscription.status, invoice.status, invoice.total) == ("active", "paid", 100_00)
    assert (invoice.billing_reason, invoice.period_start, invoice.period_end) == (
        "subscription_create",
        at("2026-01-31 10:00"),
        at("2026-01-31 10:00"),
    )
    assert [line.amount for line in invoice.lines.data] == [90_00, 10_00]
    assert [day(line.period.end) for line in invoice.lines.data] == ["2026-02-28 10:00"] * 2
    assert [payment.status for payment in invoice.payments.data] == ["paid"]
    assert town.local.told_about(subscription.id, invoice.id) == [
        "customer.subscription.created",
        "invoice.created",
        "invoice.updated",
        "invoice.finalized",
        "invoice.updated",
        "invoice_payment.paid",
        "invoice.updated",
        "invoice.paid",
        "invoice.payment_succeeded",
        "customer.subscription.updated",
    ]


def test_the_31st_comes_back_after_february(town: Town) -> None:
    ada = town.customer()
    subscription = town.subscribe(ada, town.price())
    ends = []
    for moment in ("2026-02-28 12:00", "2026-03-31 12:00", "2026-04-30 12:00"):
        town.to(moment)
        ends.append(day(town.again(subscription)["items"].data[0].current_period_end))
    assert ends == ["2026-03-31 10:00", "2026-04-30 10:00", "2026-05-31 10:00"]
    assert [invoice.status for invoice in town.invoices(ada)] == ["paid"] * 4
    closed = [
        (day(invoice.period_start)[:10], day(invoice.period_end)[:10]) for invoice in town.invoices(ada)[1:]
    ]
    assert closed == [
        ("2026-01-31", "2026-02-28"),
        ("2026-02-28", "2026-03-31"),
        ("2026-03-31", "2026-04-30"),
    ]


def test_a_trial_is_free_asks_for_a_card_and_ends_in_a_draft(town: Town) -> None:
    ada = town.customer(card=None)
    subscription = town.subscribe(ada, town.price(), trial_end=at("2026-02-14 10:00"))
    assert (subscription.status, subscription.pending_setup_intent is not None) == ("trialing", True)
    [first] = town.invoices(ada)
    assert (first.total, first.status, first.lines.data[0].amount) == (0, "paid", 0)

    intent = town.api.setup_intents.confirm(
        subscription.pending_setup_intent, {"payment_method": "pm_card_visa"}
    )
    assert intent.status == "succeeded"
    town.to("2026-02-11 10:00")
    assert "customer.subscription.trial_will_end" in town.local.told_about(subscription.id)
    town.to("2026-02-14 10:30")
    draft = town.invoices(ada)[-1]
    assert (draft.status, draft.billing_reason, draft.total) == ("draft", "subscription_cycle", 30_00)
    assert draft.automatically_finalizes_at == at("2026-02-14 11:00")
    assert town.again(subscription).status == "active"
    town.to("2026-02-14 11:00")
    assert town.invoices(ada)[-1].status == "paid"


@pytest.mark.parametrize(("behavior", "status"), [("cancel", "canceled"), ("pause", "paused")])
def test_a_trial_without_a_card_ends_as_its_settings_say(town: Town, behavior: str, status: str) -> None:
    ada = town.customer(card=None)
    subscription = town.subscribe(
        ada,
        town.price(),
        trial_period_days=7,
        trial_settings={"end_behavior": {"missing_payment_method": behavior}},
    )
    town.to("2026-02-10 10:00")
    assert town.again(subscription).status == status
    assert [invoice.total for invoice in town.invoices(ada)] == [0]


def test_a_first_payment_that_fails_leaves_it_incomplete_and_expires_after_23_hours(town: Town) -> None:
    ada = town.customer("pm_card_chargeCustomerFail")
    subscription = town.subscribe(ada, town.price())
    assert subscription.status == "incomplete"
    town.to("2026-02-01 08:59")
    assert town.again(subscription).status == "incomplete"
    town.to("2026-02-01 09:00")
    assert town.again(subscription).status == "incomplete_expired"
    assert [invoice.status for invoice in town.invoices(ada)] == ["void"]


def test_error_if_incomplete_leaves_nothing_behind(town: Town) -> None:
    ada = town.customer("pm_card_chargeCustomerFail")
    with pytest.raises(stripe.CardError) as declined:
        town.subscribe(ada, town.price(), payment_behavior="error_if_incomplete")
    assert (declined.value.http_status, declined.value.code) == (402, "card_declined")
    assert town.api.subscriptions.list({"customer": ada.id, "status": "all"}).data == []
    assert town.invoices(ada) == []


def test_default_incomplete_waits_for_the_customer(town: Town) -> None:
    ada = town.customer()
    subscription = town.subscribe(
        ada,
        town.price(),
        payment_behavior="default_incomplete",
        expand=["latest_invoice.confirmation_secret", "latest_invoice.payments.data.payment.payment_intent"],
    )
    assert (subscription.status, subscription.latest_invoice.status) == ("incomplete", "open")
    intent = subscription.latest_invoice.payments.data[0].payment.payment_intent
    assert subscription.latest_invoice.confirmation_secret.client_secret == intent.client_secret
    town.api.payment_intents.confirm(intent.id, {"payment_method": "pm_card_visa"})
    assert town.again(subscription).status == "active"


def test_coupons_and_both_kinds_of_tax_come_out_to_the_cent(town: Town) -> None:
    ada = town.customer()
    dear, cheap = town.price(33_33), town.price(10_01)
    coupon = town.api.coupons.create(
        {"percent_off": "15", "duration": "forever", "applies_to": {"products": [dear.product]}}
    )
    vat = town.api.tax_rates.create({"display_name": "VAT", "percentage": "15", "inclusive": False})
    included = town.api.tax_rates.create({"display_name": "GST", "percentage": "7.7", "inclusive": True})
    subscription = town.api.subscriptions.create(
        {
            "customer": ada.id,
            "items": [{"price": dear.id}, {"price": cheap.id, "tax_rates": [included.id]}],
            "discounts": [{"coupon": coupon.id}],
            "default_tax_rates": [vat.id],
            "expand": ["latest_invoice"],
        }
    )
    invoice = subscription.latest_invoice
    # 33.33 - 15 % (5.00) = 28.33, + 15 % = 4.25; 10.01 holds 10.01 - 10.01/1.077 = 0.72.
    assert [part.amount for part in invoice.total_discount_amounts] == [5_00]
    assert [(tax.amount, tax.tax_behavior) for tax in invoice.total_taxes] == [
        (4_25, "exclusive"),
        (72, "inclusive"),
    ]
    assert (invoice.subtotal, invoice.total) == (43_34, 43_34 - 5_00 + 4_25)
    assert invoice.total_excluding_tax == invoice.total - 4_25 - 72


def test_an_amount_off_is_split_over_the_lines_and_used_once(town: Town) -> None:
    ada = town.customer()
    coupon = town.api.coupons.create({"amount_off": 10_00, "currency": "usd", "duration": "once"})
    prices = [town.price(amount) for amount in (30_00, 30_00, 30_00)]
    subscription = town.subscribe(ada, *prices, discounts=[{"coupon": coupon.id}], expand=["latest_invoice"])
    amounts = [line.discount_amounts[0].amount for line in subscription.latest_invoice.lines.data]
    assert (sorted(amounts), sum(amounts)) == ([3_33, 3_33, 3_34], 10_00)
    assert town.again(subscription).discounts == []
    town.to("2026-02-28 12:00")
    assert [invoice.total for invoice in town.invoices(ada)] == [80_00, 90_00]


def test_a_repeating_coupon_ends_with_its_months(town: Town) -> None:
    ada = town.customer()
    coupon = town.api.coupons.create({"percent_off": "50", "duration": "repeating", "duration_in_months": 2})
    town.subscribe(ada, town.price(), discounts=[{"coupon": coupon.id}])
    for moment in ("2026-02-28 12:00", "2026-03-31 12:00"):
        town.to(moment)
    assert [invoice.total for invoice in town.invoices(ada)] == [15_00, 15_00, 30_00]


def test_what_one_customer_cannot_do(town: Town) -> None:
    ada = town.customer()
    town.subscribe(ada, town.price())
    rand = town.price(currency="zar")
    with pytest.raises(stripe.InvalidRequestError, match="cannot combine currencies"):
        town.subscribe(ada, rand)
    one = town.price()
    with pytest.raises(stripe.InvalidRequestError, match="same price"):
        town.subscribe(ada, one, one)
    with pytest.raises(stripe.InvalidRequestError, match="at most 20 items"):
        town.subscribe(ada, *[town.price() for _ in range(21)])
    with pytest.raises(stripe.InvalidRequestError, match="no attached payment source"):
        town.subscribe(town.customer(card=None), town.price())
