"""Stories of the catalog and of housekeeping: what the ten great stories do not touch, and all reading."""

import itertools
from datetime import UTC, datetime

import pytest

from gateway import operations, requests, translate
from gateway.errors import Declined, Refused
from tests.contract.account import DAY_S, Account, Clocked, a_line, a_price, a_product, approve
from tests.contract.judge import check_object


def test_a_plan_gets_a_new_version_and_its_name_moves_on(account: Account) -> None:
    product, name = a_product(account), account.key("professional")
    first = account.send(requests.create_price(product, "ZAR", "quarter", 3_990_00, lookup_key=name))
    assert (first["recurring"]["interval"], first["recurring"]["interval_count"]) == ("month", 3)
    second = account.send(requests.create_price(product, "ZAR", "quarter", 4_190_00, lookup_key=name))
    assert second["lookup_key"] == name
    assert account.fetch("price", first["id"])["lookup_key"] is None

    assert account.send(requests.archive_price(first["id"]))["active"] is False
    renamed = account.send(requests.update_product(product, name="AutoFlow AI 2", description="Better"))
    assert (renamed["name"], renamed["description"]) == ("AutoFlow AI 2", "Better")
    assert account.send(requests.archive_product(product))["active"] is False
    assert {row["id"] for row in account.rows("price", product=product)} == {first["id"], second["id"]}
    assert [row["id"] for row in account.rows("price", product=product, active=True)] == [second["id"]]


def test_a_tax_rate_and_a_coupon_are_kept_as_given(account: Account) -> None:
    rate = account.send(requests.create_tax_rate("VAT", "15.5", True, "ZA", "vat"))
    assert (str(rate["percentage"]), rate["inclusive"], rate["country"]) == ("15.5", True, "ZA")
    assert account.send(requests.archive_tax_rate(rate["id"]))["active"] is False
    chosen = account.key("bundle").replace(":", "-")
    coupon = account.send(
        requests.create_coupon(
            "Tenth", coupon_id=chosen, percent_off="12.5", duration="repeating", duration_in_months=3
        )
    )
    assert (coupon["id"], str(coupon["percent_off"]), coupon["duration_in_months"]) == (chosen, "12.5", 3)
    assert account.fetch("coupon", chosen)["valid"] is True


def test_prices_that_include_tax_come_apart_to_the_cent(account: Account) -> None:
    ada = Clocked(account)
    rate = account.send(requests.create_tax_rate("VAT", "15", True, "ZA", "vat"))
    draft = account.send(requests.create_invoice(ada.id, "USD", {"invoice_id": "i-7"}, [rate["id"]]))
    account.send(requests.add_lines(draft["id"], [a_line("gross", 115_00, account.now)]))
    facts = ada.invoice(draft["id"])
    assert (facts.tax_minor, facts.tax_included_minor, facts.total_minor) == (15_00, 15_00, 115_00)


def test_a_card_is_saved_listed_and_taken_away(account: Account) -> None:
    ada = Clocked(account, card=None)
    setup = translate.setup_intent(account.send(requests.create_setup_intent(ada.id, {"card_id": 1})))
    assert (setup.status, setup.metadata) == ("requires_payment_method", {"card_id": "1"})
    assert setup.client_secret
    saved = translate.setup_intent(account.send(requests.confirm_setup_intent(setup.id, "pm_card_visa")))
    assert saved.payment_method_id is not None
    [card] = [
        translate.payment_method(row) for row in account.rows("customer_payment_method", customer=ada.id)
    ]
    assert (card.id, card.customer_id, card.type) == (saved.payment_method_id, ada.id, "card")
    assert (card.brand, card.last4) == ("visa", "4242")

    # a saved card is not the default until we say so
    assert translate.customer(account.fetch("customer", ada.id)).default_payment_method_id is None
    account.send(requests.set_default_payment_method(ada.id, card.id))
    assert translate.customer(account.fetch("customer", ada.id)).default_payment_method_id == card.id
    assert "setup_intent.succeeded" in account.event_types(setup.id)

    gone = translate.payment_method(account.send(requests.detach_payment_method(card.id)))
    assert gone.customer_id is None
    assert account.rows("customer_payment_method", customer=ada.id) == []
    account.refusal(requests.attach_payment_method(card.id, ada.id), Refused)
    assert translate.customer(account.fetch("customer", ada.id)).default_payment_method_id is None
    [detached] = [
        translate.event(event)
        for event in account.rows("event", types=["payment_method.detached"])
        if event["data"]["object"]["id"] == card.id
    ]
    assert detached.customer_id == ada.id


@pytest.mark.parametrize(
    ("card", "decline_code"),
    [
        ("pm_card_visa_chargeDeclined", "generic_decline"),
        ("pm_card_visa_chargeDeclinedInsufficientFunds", "insufficient_funds"),
        ("pm_card_visa_chargeDeclinedLostCard", "lost_card"),
    ],
)
def test_a_card_that_the_bank_refuses_cannot_be_saved(account: Account, card: str, decline_code: str) -> None:
    ada = Clocked(account, card=None)
    declined = account.refusal(requests.attach_payment_method(card, ada.id), Declined)
    assert (declined.code, declined.decline_code) == ("card_declined", decline_code)
    assert account.rows("customer_payment_method", customer=ada.id) == []


def test_a_first_payment_that_fails_leaves_the_subscription_incomplete(account: Account) -> None:
    ada = Clocked(account, card="pm_card_chargeCustomerFail")
    facts = ada.subscribes(a_price(account, 35_00))
    first = ada.invoice(facts.latest_invoice_id)
    assert (facts.status, first.status, first.amount_paid_minor) == ("incomplete", "open", 0)
    account.send(requests.stop_collection(first.id))
    ada.takes_card("pm_card_visa")
    assert account.send(requests.pay_invoice(first.id))["status"] == "paid"
    assert ada.subscription(facts.id).status == "active"


def test_a_subscription_sleeps_and_wakes(account: Account) -> None:
    ada = Clocked(account)
    facts = ada.subscribes(a_price(account, 35_00))
    assert translate.subscription(account.send(requests.pause_subscription(facts.id))).status == "paused"
    assert facts.period_end_at is not None
    ada.advances(int(facts.period_end_at.timestamp()) + DAY_S)
    assert len(ada.invoices()) == 1
    awake = translate.subscription(account.send(requests.resume_subscription(facts.id)))
    assert awake.status == "active"
    assert [invoice.status for invoice in ada.invoices()] == ["paid", "paid"]


def test_a_change_can_be_looked_at_before_it_is_made(account: Account) -> None:
    ada = Clocked(account)
    facts = ada.subscribes(a_price(account, 30_00), quantity=2)
    seen = account.send(
        requests.preview_change(
            facts.id, [{"id": facts.items[0].id, "quantity": 5}], proration_date=account.now
        )
    )
    assert translate.invoice(seen | {"id": "preview"}).total_minor > 0
    assert [item.quantity for item in ada.subscription(facts.id).items] == [2]
    assert len(ada.invoices()) == 1


def test_money_that_came_another_way_is_noted(account: Account) -> None:
    ada = Clocked(account)
    paid = translate.invoice(account.send(requests.pay_invoice_out_of_band(ada.owes(80_00).id)))
    assert paid.status == "paid"
    assert account.rows("charge", customer=ada.id) == []
    assert "invoice.paid" in account.event_types(paid.id)


def test_a_credit_balance_pays_first(account: Account) -> None:
    ada = Clocked(account)
    paid = translate.invoice(account.send(requests.pay_invoice(ada.owes(50_00).id)))
    account.send(requests.create_credit_note(paid.id, amount_minor=20_00, credit_minor=20_00))
    assert translate.customer(account.fetch("customer", ada.id)).balance_minor == -20_00
    owed = ada.owes(50_00)
    assert (owed.total_minor, owed.starting_balance_minor, owed.amount_due_minor) == (50_00, -20_00, 30_00)
    assert translate.invoice(account.send(requests.pay_invoice(owed.id))).amount_paid_minor == 30_00


def test_a_clock_goes_forward_only_and_takes_its_world_with_it(account: Account) -> None:
    ada = Clocked(account)
    clock = translate.test_clock(account.fetch("test_clock", ada.clock_id))
    assert (clock.status, clock.frozen_at) == ("ready", datetime.fromtimestamp(account.now, UTC))
    account.refusal(requests.advance_test_clock(ada.clock_id, account.now - 60), Refused)
    facts = ada.subscribes(a_price(account, 35_00))
    account.refusal(requests.advance_test_clock(ada.clock_id, account.now + 70 * DAY_S), Refused)
    assert ada.subscription(facts.id).status == "active"
    assert account.send(requests.delete_test_clock(ada.clock_id))["deleted"] is True
    with pytest.raises(Refused):
        account.fetch("test_clock", ada.clock_id)


def test_every_kind_of_object_can_be_listed(account: Account) -> None:
    ada = Clocked(account)
    ada.owes(10_00)
    mine = {"subscription_item": {"subscription": ada.subscribes(a_price(account, 10_00)).id}}
    # the sandbox's banks take back no payment, so it has no disputes
    for kind in operations.LISTS.keys() - ({"dispute"} if account.is_sandbox else set()):
        for row in itertools.islice(account.door.list(kind, {"limit": 1, **mine.get(kind, {})}), 1):
            approve(check_object(row), kind)


def test_what_does_not_exist_is_refused_as_missing(account: Account) -> None:
    for kind in operations.FETCHES:
        if kind != "account":
            with pytest.raises(Refused) as caught:
                account.fetch(kind, "none_such")
            assert caught.value.code == "resource_missing", kind
