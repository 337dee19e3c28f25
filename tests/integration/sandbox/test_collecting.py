"""Cycle drafts and their hour, declines, recovery, 3-D Secure, balances, refunds and credit notes."""

import pytest
import stripe

from tests.integration.sandbox.local import Local, at, receiver
from tests.integration.sandbox.people import Town


@pytest.fixture
def town(local: Local) -> Town:
    return Town(local, now="2026-04-01 00:00")


def test_a_draft_taken_over_waits_for_us(town: Town) -> None:
    ada = town.customer()
    subscription = town.subscribe(ada, town.price(30_00))
    town.to("2026-05-01 00:00")
    draft = town.invoices(ada)[-1]
    assert (draft.status, draft.period_start, draft.period_end) == (
        "draft",
        at("2026-04-01"),
        at("2026-05-01"),
    )
    assert draft.lines.data[0].period.to_dict() == {"start": at("2026-05-01"), "end": at("2026-06-01")}
    town.api.invoices.update(draft.id, {"auto_advance": False, "metadata": {"owner": "engine"}})
    town.to("2026-05-03 00:00")
    usage = {
        "description": "Workflow runs",
        "quantity_decimal": "1234.5",
        "price_data": {"currency": "usd", "product": town.price().product, "unit_amount_decimal": "1.5"},
        "discountable": False,
        "period": {"start": at("2026-04-01"), "end": at("2026-05-01")},
        "metadata": {"usage_id": "u1"},
    }
    added = town.api.invoices.add_lines(draft.id, {"lines": [usage]})
    # 1234.5 * 1.5 cents = 1851.75
    assert [(line.amount, line.quantity, str(line.quantity_decimal)) for line in added.lines.data] == [
        (30_00, 1, "1"),
        (18_52, 1234, "1234.5"),
    ]
    final = town.api.invoices.finalize_invoice(draft.id, {"auto_advance": False})
    assert (final.status, final.total, final.number is not None) == ("open", 48_52, True)
    with pytest.raises(stripe.InvalidRequestError) as refused:
        town.api.invoices.add_lines(draft.id, {"lines": [usage]})
    assert refused.value.code == "invoice_not_editable"
    paid = town.api.invoices.pay(draft.id, {"expand": ["payments.data.payment.payment_intent.latest_charge"]})
    assert paid.payments.data[0].payment.payment_intent.latest_charge.amount == 48_52
    assert town.again(subscription).status == "active"


def test_a_renewal_that_fails_and_recovers(town: Town) -> None:
    ada = town.customer()
    subscription = town.subscribe(ada, town.price(30_00))
    card = ada.invoice_settings.default_payment_method
    town.local.ask("POST", f"/_sandbox/cards/{card}", {"decline": "insufficient_funds"})
    town.to("2026-05-01 02:00")
    invoice = town.invoices(ada)[-1]
    assert (invoice.status, invoice.attempt_count, invoice.next_payment_attempt) == ("open", 1, None)
    assert town.again(subscription).status == "past_due"
    assert town.api.customers.retrieve(ada.id).delinquent is True
    with pytest.raises(stripe.CardError) as declined:
        town.api.invoices.pay(invoice.id)
    error = declined.value.error
    assert error is not None
    assert (error.code, error.decline_code, error.advice_code) == (
        "card_declined",
        "insufficient_funds",
        "try_again_later",
    )
    [payment] = town.api.invoice_payments.list({"invoice": invoice.id}).data
    intent = town.api.payment_intents.retrieve(payment.payment.payment_intent)
    assert (intent.status, intent.last_payment_error.decline_code) == (
        "requires_payment_method",
        "insufficient_funds",
    )
    assert town.api.invoices.retrieve(invoice.id).attempt_count == 1
    good = town.api.payment_methods.attach("pm_card_mastercard", {"customer": ada.id})
    town.api.customers.update(ada.id, {"invoice_settings": {"default_payment_method": good.id}})
    paid = town.api.invoices.pay(invoice.id)
    assert (paid.status, paid.amount_paid, town.again(subscription).status) == ("paid", 30_00, "active")
    assert town.local.told_about(invoice.id)[-4:] == [
        "invoice_payment.paid",
        "invoice.updated",
        "invoice.paid",
        "invoice.payment_succeeded",
    ]
    with pytest.raises(stripe.InvalidRequestError) as twice:
        town.api.invoices.pay(invoice.id)
    assert twice.value.code == "invoice_already_paid"


def test_nobody_stored_a_card(town: Town) -> None:
    ada = town.customer(card=None)
    subscription = town.subscribe(ada, town.price(), trial_period_days=7)
    town.to("2026-04-08 02:00")
    invoice = town.invoices(ada)[-1]
    assert (invoice.status, invoice.attempt_count, town.again(subscription).status) == ("open", 1, "past_due")
    assert "invoice.payment_failed" in town.local.told_about(invoice.id)
    with pytest.raises(stripe.InvalidRequestError, match="default_payment_method"):
        town.api.invoices.pay(invoice.id)


def test_marking_the_latest_uncollectible_clears_the_subscription(town: Town) -> None:
    ada = town.customer("pm_card_chargeCustomerFail")
    subscription = town.subscribe(ada, town.price(), trial_period_days=7)
    town.to("2026-04-08 02:00")
    invoice = town.invoices(ada)[-1]
    assert town.again(subscription).status == "past_due"
    marked = town.api.invoices.mark_uncollectible(invoice.id)
    assert (marked.status, marked.status_details.uncollectible.reason) == ("uncollectible", "user_forgiven")
    assert town.again(subscription).status == "active"
    town.local.ask(
        "POST", f"/_sandbox/cards/{ada.invoice_settings.default_payment_method}", {"decline": None}
    )
    with pytest.raises(stripe.CardError):
        town.api.invoices.pay(invoice.id)
    assert town.api.invoices.void_invoice(invoice.id).status == "void"
    with pytest.raises(stripe.InvalidRequestError) as closed:
        town.api.invoices.pay(invoice.id)
    assert closed.value.code == "status_transition_invalid"


@pytest.mark.parametrize(
    ("card", "decline_code"),
    [
        ("pm_card_visa_chargeDeclined", "generic_decline"),
        ("pm_card_visa_chargeDeclinedInsufficientFunds", "insufficient_funds"),
        ("pm_card_visa_chargeDeclinedLostCard", "lost_card"),
        ("pm_card_chargeDeclinedExpiredCard", "expired_card"),
        ("pm_card_chargeDeclinedProcessingError", "processing_error"),
    ],
)
def test_cards_that_no_bank_lets_attach(town: Town, card: str, decline_code: str) -> None:
    ada = town.customer(card=None)
    with pytest.raises(stripe.CardError) as declined:
        town.api.payment_methods.attach(card, {"customer": ada.id})
    assert declined.value.error is not None
    assert declined.value.error.decline_code == decline_code
    assert town.api.customers.payment_methods.list(ada.id).data == []


def test_three_d_secure_is_finished_by_the_customer(town: Town) -> None:
    ada = town.customer("pm_card_authenticationRequired")
    subscription = town.subscribe(ada, town.price(), payment_behavior="default_incomplete")
    with pytest.raises(stripe.CardError) as asked:
        town.api.invoices.pay(subscription.latest_invoice)
    assert asked.value.code == "authentication_required"
    assert "invoice.payment_action_required" in town.local.told_about(subscription.latest_invoice)
    [payment] = town.api.invoice_payments.list({"invoice": subscription.latest_invoice}).data
    intent = payment.payment.payment_intent
    assert town.api.payment_intents.retrieve(intent).status == "requires_action"
    status, done, _ = town.local.ask("POST", f"/_sandbox/authenticate/{intent}", {"success": True})
    assert (status, done["status"], town.again(subscription).status) == (200, "succeeded", "active")


def test_a_card_set_up_with_3d_secure_pays_off_session(town: Town) -> None:
    ada = town.customer(card=None)
    intent = town.api.setup_intents.create(
        {"customer": ada.id, "payment_method": "pm_card_authenticationRequiredOnSetup", "confirm": True}
    )
    assert intent.status == "requires_action"
    town.local.ask("POST", f"/_sandbox/authenticate/{intent.id}", {"success": True})
    ready = town.api.setup_intents.retrieve(intent.id, {"expand": ["payment_method", "latest_attempt"]})
    assert (ready.status, ready.payment_method.customer, ready.latest_attempt.status) == (
        "succeeded",
        ada.id,
        "succeeded",
    )
    town.api.customers.update(
        ada.id, {"invoice_settings": {"default_payment_method": ready.payment_method.id}}
    )
    assert town.subscribe(ada, town.price()).status == "active"


def test_an_invoice_of_our_own(town: Town) -> None:
    ada = town.customer()
    invoice = town.api.invoices.create({"customer": ada.id, "currency": "usd"})
    assert (invoice.auto_advance, invoice.parent, invoice.status) == (False, None, "draft")
    town.api.invoice_items.create({"customer": ada.id, "invoice": invoice.id, "amount": 12_34})
    loose = town.api.invoice_items.create({"customer": ada.id, "amount": 5_00, "currency": "usd"})
    final = town.api.invoices.finalize_invoice(invoice.id)
    assert (final.total, final.lines.total_count) == (12_34, 1)
    swept = town.api.invoices.create({"customer": ada.id, "pending_invoice_items_behavior": "include"})
    assert [line.amount for line in swept.lines.data] == [5_00]
    assert town.api.invoice_items.retrieve(loose.id).invoice == swept.id
    assert town.api.invoices.delete(swept.id).deleted is True
    sent = town.api.invoices.create(
        {"customer": ada.id, "collection_method": "send_invoice", "days_until_due": 14}
    )
    town.api.invoices.add_lines(sent.id, {"lines": [{"amount": 9_00, "description": "Work"}]})
    sent = town.api.invoices.send_invoice(sent.id)
    assert (sent.status, sent.due_date) == ("open", at("2026-04-15"))
    paid = town.api.invoices.pay(sent.id, {"paid_out_of_band": True})
    assert (paid.status, paid.amount_paid_off_stripe) == ("paid", 9_00)


def test_less_than_the_minimum_waits_on_the_balance(town: Town) -> None:
    ada = town.customer()
    invoice = town.api.invoices.create({"customer": ada.id, "currency": "usd"})
    town.api.invoices.add_lines(invoice.id, {"lines": [{"amount": 30}]})
    final = town.api.invoices.finalize_invoice(invoice.id)
    assert (final.status, final.amount_due, final.ending_balance) == ("paid", 0, 30)
    assert town.api.customers.retrieve(ada.id).balance == 30


def test_refunds_and_credit_notes(town: Town) -> None:
    ada = town.customer()
    vat = town.api.tax_rates.create({"display_name": "VAT", "percentage": "20", "inclusive": False})
    subscription = town.subscribe(ada, (town.price(50_00), 2), default_tax_rates=[vat.id])
    invoice = town.api.invoices.retrieve(subscription.latest_invoice)
    note = town.api.credit_notes.create(
        {
            "invoice": invoice.id,
            "lines": [
                {"type": "invoice_line_item", "invoice_line_item": invoice.lines.data[0].id, "quantity": 1}
            ],
            "refund_amount": 40_00,
            "credit_amount": 20_00,
        }
    )
    assert (note.total, note.subtotal, note.type, note.status) == (60_00, 50_00, "post_payment", "issued")
    assert town.api.customers.retrieve(ada.id).balance == -20_00
    refund = town.api.refunds.retrieve(note.refunds[0].refund)
    assert (refund.amount, refund.status) == (40_00, "succeeded")
    town.api.refunds.create({"payment_intent": refund.payment_intent, "amount": 80_00})
    charge = town.api.charges.retrieve(refund.charge, {"expand": ["refunds"]})
    assert (charge.amount_refunded, charge.refunded, len(charge.refunds.data)) == (120_00, True, 2)
    assert town.api.invoices.retrieve(invoice.id).status == "paid"
    with pytest.raises(stripe.InvalidRequestError) as empty:
        town.api.refunds.create({"charge": charge.id})
    assert empty.value.code == "charge_already_refunded"


def test_a_credit_note_on_an_open_invoice_lowers_what_is_due(town: Town) -> None:
    ada = town.customer()
    invoice = town.api.invoices.create({"customer": ada.id, "currency": "usd"})
    town.api.invoices.add_lines(invoice.id, {"lines": [{"amount": 100_00}]})
    town.api.invoices.finalize_invoice(invoice.id)
    note = town.api.credit_notes.create({"invoice": invoice.id, "amount": 30_00})
    seen = town.api.invoices.retrieve(invoice.id)
    assert (note.type, seen.amount_remaining, seen.pre_payment_credit_notes_amount) == (
        "pre_payment",
        70_00,
        30_00,
    )
    assert town.api.credit_notes.void_credit_note(note.id).status == "void"
    assert town.api.invoices.retrieve(invoice.id).amount_remaining == 100_00


def test_a_disputed_charge(town: Town) -> None:
    ada = town.customer("pm_card_createDispute")
    town.subscribe(ada, town.price(30_00))
    [charge] = town.api.charges.list({"customer": ada.id}).data
    assert charge.disputed
    [dispute] = town.api.disputes.list({"charge": charge.id}).data
    assert (dispute.status, dispute.amount) == ("needs_response", 30_00)
    assert town.api.disputes.close(dispute.id).status == "lost"
    assert town.local.told_about(dispute.id) == ["charge.dispute.created", "charge.dispute.closed"]


def test_stripe_waits_for_the_answer_to_invoice_created(local: Local) -> None:
    town = Town(local, now="2026-04-01 00:00")
    with receiver(500) as (url, box):
        endpoint = town.api.webhook_endpoints.create({"url": url, "enabled_events": ["invoice.created"]})
        ada = town.customer()
        town.subscribe(ada, town.price(), trial_end=at("2026-04-08"))
        box.get(timeout=5)
        local.settle()
        local.fault(once=[{"event": "invoice.created", "fault": "webhook_drop"}])
        town.to("2026-04-08 03:00")
        assert town.invoices(ada)[-1].status == "draft"
        town.to("2026-04-11 00:00")
        assert town.invoices(ada)[-1].status == "paid"
        town.api.webhook_endpoints.delete(endpoint.id)
