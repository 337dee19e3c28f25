"""Payloads of every release train since 2024 say the same thing once they are translated."""

import dataclasses
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gateway import translate
from gateway.errors import MalformedPayload, UnknownVersion
from gateway.translate import InvoiceFacts, SubscriptionFacts, SubscriptionItemFacts
from tests.contract.judge import check_event

PAYLOADS = Path(__file__).parents[1] / "fixtures" / "stripe_payloads"
TRAINS = ["acacia", "basil", "clover", "dahlia", "endive"]


def payload(train: str, name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((PAYLOADS / train / f"{name}.json").read_text(encoding="utf-8"))
    return loaded


def read_subscription(train: str) -> SubscriptionFacts:
    return translate.subscription(translate.event(payload(train, "customer.subscription.updated")).raw_object)


def read_invoice(train: str) -> InvoiceFacts:
    return translate.invoice(translate.event(payload(train, "invoice.finalized")).raw_object)


@pytest.mark.parametrize("name", sorted(path.name for path in (PAYLOADS / "endive").glob("*.json")))
def test_the_newest_payloads_are_such_as_stripe_sends(name: str) -> None:
    assert check_event(payload("endive", name.removesuffix(".json"))) == []


@pytest.mark.parametrize("train", TRAINS)
def test_a_subscription_says_the_same_in_every_version(train: str) -> None:
    september, october = datetime(2026, 9, 1, tzinfo=UTC), datetime(2026, 10, 1, tzinfo=UTC)
    made_at = datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert read_subscription(train) == SubscriptionFacts(
        id="sub_1",
        customer_id="cus_1",
        status="active",
        items=(
            SubscriptionItemFacts("si_1", "price_1", "prod_1", 1, september, october, made_at),
            SubscriptionItemFacts("si_2", "price_2", "prod_2", 3, september, october, made_at),
        ),
        trial_start_at=datetime(2026, 4, 17, tzinfo=UTC),
        trial_end_at=datetime(2026, 5, 1, tzinfo=UTC),
        cancel_at=october,
        cancel_at_period_end=True,
        cancelled_at=datetime(2026, 9, 1, 0, 0, 5, tzinfo=UTC),
        ended_at=None,
        anchor_at=datetime(2026, 5, 1, tzinfo=UTC),
        latest_invoice_id="in_1",
        default_payment_method_id=None,
        discount_ids=("di_1",),
        metadata={"subscription_id": "s-1"},
        test_clock_id="clock_1",
    )


def test_the_one_discount_of_old_versions_is_read() -> None:
    shape = payload("acacia", "customer.subscription.updated")["data"]["object"]
    del shape["discounts"]
    assert translate.subscription(shape).discount_ids == ("di_1",)


def test_the_period_of_a_subscription_is_the_one_that_ends_first() -> None:
    facts = read_subscription("endive")
    yearly = dataclasses.replace(facts.items[0], period_end_at=datetime(2027, 9, 1, tzinfo=UTC))
    mixed = dataclasses.replace(facts, items=(yearly, facts.items[1]))
    assert (mixed.period_start_at, mixed.period_end_at) == (
        datetime(2026, 9, 1, tzinfo=UTC),
        datetime(2026, 10, 1, tzinfo=UTC),
    )
    bare = dataclasses.replace(facts, items=())
    assert (bare.period_start_at, bare.period_end_at) == (None, None)


@pytest.mark.parametrize("train", TRAINS)
def test_an_invoice_says_the_same_in_every_version(train: str) -> None:
    assert read_invoice(train) == read_invoice("endive")


def test_an_invoice_adds_up() -> None:
    facts = read_invoice("endive")
    assert (facts.subscription_id, facts.subscription_metadata) == ("sub_1", {"subscription_id": "s-1"})
    assert (facts.currency, facts.number, facts.status) == ("ZAR", "ACME-000042", "open")
    # 600.00 + 3 x 450.00 - 45.00 + 360.00 = 2,265.00; 10 % off the two plans = 195.00; 15 % VAT of 2,070.00
    assert facts.subtotal_minor == sum(line.amount_minor for line in facts.lines) == 226_500
    assert facts.discount_minor == sum(line.discount_minor for line in facts.lines) == 19_500
    assert facts.tax_minor == sum(line.tax_minor for line in facts.lines) == 31_050
    assert facts.tax_included_minor == 0
    assert facts.total_minor == 226_500 - 19_500 + 31_050
    assert facts.amount_due_minor == facts.total_minor + facts.starting_balance_minor
    assert (facts.period_start_at, facts.period_end_at) == (
        datetime(2026, 8, 1, tzinfo=UTC),
        datetime(2026, 9, 1, tzinfo=UTC),
    )
    assert (facts.paid_at, facts.voided_at, facts.auto_advance) == (None, None, False)
    assert facts.finalized_at == datetime(2026, 9, 1, 0, 0, 5, tzinfo=UTC)
    assert facts.lines_complete


@pytest.mark.parametrize("train", TRAINS)
def test_the_lines_name_what_they_bill(train: str) -> None:
    plan, seats, credit, usage = read_invoice(train).lines
    assert (plan.price_id, plan.product_id, plan.subscription_item_id) == ("price_1", "prod_1", "si_1")
    assert (seats.quantity, seats.proration, seats.subscription_item_id) == (3, False, "si_2")
    assert (credit.amount_minor, credit.proration) == (-4_500, True)
    assert (usage.price_id, usage.subscription_item_id, usage.metadata["line_id"]) == (None, None, "l-1")


def test_tax_that_prices_include_is_told_apart_in_old_and_new_shapes() -> None:
    new = payload("endive", "invoice.finalized")["data"]["object"]
    new["total_taxes"][0]["tax_behavior"] = "inclusive"
    old = payload("acacia", "invoice.finalized")["data"]["object"]
    old["total_tax_amounts"][0]["inclusive"] = True
    assert translate.invoice(new).tax_included_minor == translate.invoice(old).tax_included_minor == 31_050


def test_a_first_page_of_lines_is_not_taken_for_all_of_them() -> None:
    shape = payload("endive", "invoice.finalized")["data"]["object"]
    shape["lines"]["has_more"] = True
    assert not translate.invoice(shape).lines_complete


def test_client_secrets_stay_out_of_what_is_printed() -> None:
    facts = read_invoice("endive")
    assert facts.confirmation_secret == "pi_1_secret_x"
    assert "secret_x" not in repr(facts)
    setup = translate.setup_intent(
        {"id": "seti_1", "status": "succeeded", "client_secret": "seti_1_secret_y"}
    )
    assert setup.client_secret == "seti_1_secret_y"
    assert "secret_y" not in repr(setup)


def test_a_one_off_invoice_has_no_subscription() -> None:
    shape = payload("endive", "invoice.finalized")["data"]["object"] | {"parent": None}
    facts = translate.invoice(shape)
    assert (facts.subscription_id, facts.subscription_metadata) == (None, {})


def test_an_event_tells_what_it_is_about() -> None:
    envelope = translate.event(payload("endive", "customer.subscription.updated"))
    assert (envelope.id, envelope.type) == ("evt_endive_sub", "customer.subscription.updated")
    assert (envelope.object_id, envelope.object_type) == ("sub_1", "subscription")
    assert (envelope.customer_id, envelope.request_id) == ("cus_1", "req_1")
    assert (envelope.api_version, envelope.livemode) == ("2026-10-28.endive", False)
    assert envelope.created_at == datetime(2026, 9, 1, 0, 0, 5, tzinfo=UTC)


def test_a_detached_payment_method_still_names_its_customer() -> None:
    envelope = translate.event(payload("endive", "payment_method.detached"))
    assert translate.payment_method(envelope.raw_object).customer_id is None
    assert envelope.customer_id == "cus_1"


def test_an_event_about_a_customer_names_that_customer() -> None:
    shape = payload("endive", "payment_method.detached")
    shape["data"] = {"object": {"object": "customer", "id": "cus_9"}}
    assert translate.event(shape).customer_id == "cus_9"


def test_an_unknown_type_is_read_all_the_same() -> None:
    shape = payload("endive", "payment_method.detached") | {"type": "something.new"}
    assert translate.event(shape).type == "something.new"


@pytest.mark.parametrize(
    "version", [None, "", "2017-08-15", "2027-03-31.fuchsia", "endive", 7, "2026-10-28.endive.preview"]
)
def test_a_version_that_nobody_taught_us_is_not_guessed_at(version: object) -> None:
    shape = payload("endive", "invoice.finalized") | {"api_version": version}
    with pytest.raises(UnknownVersion):
        translate.event(shape)


@pytest.mark.parametrize(
    "version", ["2024-06-20", "2025-02-24.acacia", "2025-08-27.basil", "2026-01-28.clover"]
)
def test_every_release_of_a_known_train_is_known(version: str) -> None:
    assert translate.is_known_version(version)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"object": "v2.core.event"}, "object"),
        ({"data": {}}, "data.object"),
        ({"data": {"object": {"id": "x"}}}, "object"),
        ({"id": None}, "id"),
        ({"created": None}, "created"),
    ],
)
def test_an_event_without_its_bones_is_refused(change: dict[str, Any], field: str) -> None:
    with pytest.raises(MalformedPayload) as refusal:
        translate.event(payload("endive", "invoice.finalized") | change)
    assert refusal.value.field == field


@pytest.mark.parametrize(
    "change",
    [
        {"total": "12"},
        {"total": 1.5},
        {"total": True},
        {"currency": None},
        {"customer": None},
        {"period_end": "soon"},
        {"period_end": 10**18},
        {"created": -1},
    ],
)
def test_an_invoice_with_a_wrong_value_is_refused(change: dict[str, Any]) -> None:
    shape = payload("endive", "invoice.finalized")["data"]["object"] | change
    with pytest.raises(MalformedPayload):
        translate.invoice(shape)


def test_payments_name_their_intent_and_amount() -> None:
    row = {
        "id": "inpay_1",
        "object": "invoice_payment",
        "invoice": {"id": "in_1", "object": "invoice"},
        "status": "open",
        "amount_paid": None,
        "amount_requested": 5_000,
        "currency": "usd",
        "payment": {"type": "payment_intent", "payment_intent": {"id": "pi_1", "object": "payment_intent"}},
    }
    expected = translate.PaymentFacts("inpay_1", "in_1", "pi_1", "open", 0, 5_000, "USD")
    assert translate.payment(row) == expected
    assert translate.payments_of({"payments": {"data": [row]}}) == (expected,)
    assert translate.payments_of({"object": "invoice"}) == ()


def test_a_failed_payment_brings_the_banks_words() -> None:
    facts = translate.payment_intent(
        {
            "id": "pi_1",
            "status": "requires_payment_method",
            "amount": 5_000,
            "currency": "usd",
            "last_payment_error": {
                "code": "card_declined",
                "decline_code": "insufficient_funds",
                "advice_code": "try_again_later",
                "payment_method": {"id": "pm_1"},
            },
        }
    )
    assert facts.decline == translate.DeclineFacts("card_declined", "insufficient_funds", "try_again_later")
    assert (facts.payment_method_id, facts.requires_action) == ("pm_1", False)
    waiting = translate.payment_intent(
        {
            "id": "pi_1",
            "status": "requires_action",
            "amount": 1,
            "currency": "usd",
            "last_payment_error": None,
        }
    )
    assert (waiting.decline, waiting.requires_action) == (None, True)


def test_a_deleted_customer_is_known_by_its_mark() -> None:
    assert translate.customer({"id": "cus_1", "object": "customer", "deleted": True}).deleted
    living = translate.customer(
        {
            "id": "cus_1",
            "email": "a@b",
            "balance": -500,
            "currency": "zar",
            "invoice_settings": {"default_payment_method": {"id": "pm_1"}},
        }
    )
    assert (living.balance_minor, living.currency, living.default_payment_method_id, living.deleted) == (
        -500,
        "ZAR",
        "pm_1",
        False,
    )


WAITING: dict[str, dict[str, Any]] = {
    "acacia": {
        "price": {"id": "price_1", "product": "prod_1"},
        "subscription": "sub_1",
        "subscription_item": "si_1",
    },
    "basil": {
        "pricing": {"type": "price_details", "price_details": {"price": "price_1", "product": "prod_1"}},
        "parent": {
            "type": "subscription_details",
            "subscription_details": {"subscription": "sub_1", "subscription_item": "si_1"},
        },
    },
}


@pytest.mark.parametrize("train", WAITING)
def test_a_waiting_proration_says_the_same_in_every_version(train: str) -> None:
    common = {"id": "ii_1", "amount": -12_50, "currency": "usd", "quantity": 2, "description": "Unused time"}
    period = {"start": 1_788_220_800, "end": 1_790_812_800}
    owner, found = translate.waiting_proration(
        {**common, "period": period, "proration": True, **WAITING[train]}
    )
    assert (owner, found) == (
        "sub_1",
        translate.ProrationFacts(
            id="ii_1",
            subscription_item_id="si_1",
            price_id="price_1",
            product_id="prod_1",
            quantity=2,
            amount_minor=-12_50,
            currency="USD",
            description="Unused time",
            period_start_at=datetime(2026, 9, 1, tzinfo=UTC),
            period_end_at=datetime(2026, 10, 1, tzinfo=UTC),
        ),
    )


@pytest.mark.parametrize("train", WAITING)
def test_what_waits_and_is_no_proration_is_left_to_people(train: str) -> None:
    assert translate.waiting_proration({"proration": False, **WAITING[train]}) == ("sub_1", None)


@pytest.mark.parametrize("train", TRAINS)
def test_an_invoice_names_the_rate_that_taxes_it_unless_its_customer_was_exempt(train: str) -> None:
    shape = payload(train, "invoice.finalized")["data"]["object"]
    assert translate.invoice(shape).tax_rate_ids == ("txr_1",)
    assert translate.invoice({**shape, "customer_tax_exempt": "reverse"}).tax_rate_ids == ()
