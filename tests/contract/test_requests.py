"""Every request that the gateway can make is one that Stripe has: its route, each name, each value."""

import inspect
import json
from collections.abc import Callable
from typing import Any

import pytest

from gateway import operations, requests
from gateway.client import API_VERSION
from gateway.requests import Request
from gateway.webhooks import HANDLED_EVENTS
from tests.contract import sdk
from tests.contract.judge import check_request

LINE: requests.Line = {
    "description": "12,000 runs beyond 10,000",
    "amount_minor": 18000,
    "period_start": 1_788_000_000,
    "period_end": 1_790_600_000,
    "metadata": {"line_id": "l-1"},
    "product": "autoflow",
    "tax_rates": ["txr_1"],
}

# Each builder at its fullest, so that every name it can send is judged.
FULLEST: dict[str, Callable[[], Request]] = {
    "create_customer": lambda: requests.create_customer(
        "o-1",
        "Acme",
        "a@acme.example",
        "clock_1",
        tax_exempt="none",
        address={"line1": "1 Main", "country": "ZA"},
    ),
    "create_balance_transaction": lambda: requests.create_balance_transaction(
        "cus_1", -5_00, "USD", description="an outage", metadata={"credit_entry_id": "e-1"}
    ),
    "update_customer": lambda: requests.update_customer(
        "cus_1", name="Acme", email=None, metadata={"a": "b"}
    ),
    "set_default_payment_method": lambda: requests.set_default_payment_method("cus_1", "pm_1"),
    "create_setup_intent": lambda: requests.create_setup_intent("cus_1", {"row": 7}),
    "confirm_setup_intent": lambda: requests.confirm_setup_intent("seti_1", "pm_card_visa"),
    "attach_payment_method": lambda: requests.attach_payment_method("pm_card_visa", "cus_1"),
    "detach_payment_method": lambda: requests.detach_payment_method("pm_1"),
    "create_product": lambda: requests.create_product("autoflow", "AutoFlow", "Workflows", "run"),
    "update_product": lambda: requests.update_product("prod_1", name="AutoFlow AI"),
    "archive_product": lambda: requests.archive_product("prod_1"),
    "create_price": lambda: requests.create_price(
        "prod_1", "ZAR", "quarter", 99900, lookup_key="k", nickname="n", metadata={"plan": 1}
    ),
    "archive_price": lambda: requests.archive_price("price_1"),
    "create_coupon": lambda: requests.create_coupon(
        "Bundle",
        coupon_id="b1",
        amount_off_minor=600,
        currency="USD",
        duration="repeating",
        duration_in_months=3,
        applies_to_products=["prod_1"],
        max_redemptions=5,
        redeem_by=1_790_600_000,
        metadata={"bundle": "starter"},
    ),
    "create_tax_rate": lambda: requests.create_tax_rate("VAT", "15.0", False, "ZA", "vat"),
    "archive_tax_rate": lambda: requests.archive_tax_rate("txr_1"),
    "create_subscription": lambda: requests.create_subscription(
        "cus_1",
        [{"price": "price_1", "quantity": 2, "metadata": {"item": 1}, "tax_rates": ["txr_1"]}],
        metadata={"subscription_id": "s-1"},
        discounts=["b1"],
        default_tax_rates=["txr_1"],
        trial_end=1_790_600_000,
        payment_behavior="allow_incomplete",
        off_session=True,
        billing_cycle_anchor=1_790_600_000,
        proration_behavior="none",
    ),
    "update_subscription": lambda: requests.update_subscription(
        "sub_1",
        items=[{"id": "si_1", "price": "price_2", "quantity": 3}, {"id": "si_2", "deleted": True}],
        cancel_at_period_end=True,
        proration_behavior="create_prorations",
        proration_date=1_790_000_000,
        payment_behavior="pending_if_incomplete",
        kept_discounts=["di_1"],
        default_tax_rates=["txr_1"],
        trial_end="now",
        metadata={"plan": 2},
    ),
    "cancel_subscription": lambda: requests.cancel_subscription("sub_1", "grace period over"),
    "pause_collection": lambda: requests.pause_collection("sub_1"),
    "cancel_with_credit": lambda: requests.cancel_with_credit("sub_1"),
    "pause_subscription": lambda: requests.pause_subscription("sub_1"),
    "resume_subscription": lambda: requests.resume_subscription("sub_1"),
    "preview_change": lambda: requests.preview_change(
        "sub_1", [{"id": "si_1", "quantity": 3}], 1_790_000_000
    ),
    "take_over_invoice": lambda: requests.take_over_invoice("in_1", ["txr_1"]),
    "stop_collection": lambda: requests.stop_collection("in_1"),
    "create_invoice": lambda: requests.create_invoice(
        "cus_1", "USD", {"invoice_id": 1}, ["txr_1"], "sub_1", discounts=["b1"]
    ),
    "add_lines": lambda: requests.add_lines("in_1", [LINE]),
    "finalize_invoice": lambda: requests.finalize_invoice("in_1"),
    "pay_invoice": lambda: requests.pay_invoice("in_1", payment_method="pm_1"),
    "pay_invoice_out_of_band": lambda: requests.pay_invoice_out_of_band("in_1"),
    "void_invoice": lambda: requests.void_invoice("in_1"),
    "void_credit_note": lambda: requests.void_credit_note("cn_1"),
    "close_dispute": lambda: requests.close_dispute("du_1"),
    "delete_customer": lambda: requests.delete_customer("cus_1"),
    "mark_uncollectible": lambda: requests.mark_uncollectible("in_1"),
    "delete_invoice": lambda: requests.delete_invoice("in_1"),
    "create_credit_note": lambda: requests.create_credit_note(
        "in_1",
        lines=[
            {"invoice_line_item": "il_1", "amount": 100},
            {"description": "goodwill", "unit_amount": 50, "quantity": 1},
        ],
        refund_minor=100,
        credit_minor=25,
        refund_ids=["re_1"],
        reason="duplicate",
        memo="sorry",
        metadata={"note": 1},
    ),
    "create_refund": lambda: requests.create_refund(
        "pi_1", 100, reason="requested_by_customer", metadata={"refund": 1}
    ),
    "create_test_clock": lambda: requests.create_test_clock(1_788_000_000, "quarter"),
    "advance_test_clock": lambda: requests.advance_test_clock("clock_1", 1_790_600_000),
    "delete_test_clock": lambda: requests.delete_test_clock("clock_1"),
    "create_webhook_endpoint": lambda: requests.create_webhook_endpoint(
        "https://dunlin.example/hook", HANDLED_EVENTS, API_VERSION
    ),
}

LEANEST: list[Request] = [
    requests.create_customer("o-1", "Acme", "a@acme.example"),
    requests.create_product("autoflow", "AutoFlow"),
    requests.create_coupon("Tenth", percent_off="10"),
    requests.create_subscription("cus_1", [{"price": "price_1"}], metadata={"subscription_id": "s-1"}),
    requests.update_subscription("sub_1", cancel_at_period_end=False),
    requests.update_subscription("sub_1", kept_discounts=[], default_tax_rates=[]),
    requests.update_subscription("sub_1", kept_discounts=["di_1"], new_coupons=["b1"]),
    requests.update_subscription("sub_1", payment_behavior="error_if_incomplete", restart=True),
    requests.create_invoice("cus_1", "usd", {"invoice_id": 1}),
    requests.create_credit_note(
        "in_1", amount_minor=100, out_of_band_minor=100, metadata={"credit_note_id": "n-1"}
    ),
    requests.create_refund("pi_1"),
]


def verdict(request: Request) -> list[str]:
    route = operations.OPERATIONS[request.operation]
    return check_request(route.method, route.url(request.object_id), request.params)


def test_every_builder_is_judged() -> None:
    builders = {name for name, value in vars(requests).items() if inspect.isfunction(value)}
    assert builders == set(FULLEST)


def test_every_operation_is_reached_by_a_builder() -> None:
    assert {build().operation for build in FULLEST.values()} == set(operations.OPERATIONS)


@pytest.mark.parametrize("name", FULLEST)
def test_a_builder_at_its_fullest_sends_what_stripe_has(name: str) -> None:
    assert verdict(FULLEST[name]()) == []


@pytest.mark.parametrize("request_", LEANEST, ids=lambda request: request.operation)
def test_a_builder_at_its_leanest_sends_what_stripe_has(request_: Request) -> None:
    assert verdict(request_) == []


@pytest.mark.parametrize("name", FULLEST)
def test_a_request_survives_the_row_it_is_stored_in(name: str) -> None:
    request = FULLEST[name]()
    assert json.loads(json.dumps(request.params)) == request.params


@pytest.mark.parametrize("name", FULLEST)
def test_no_request_holds_a_float_or_a_null(name: str) -> None:
    def leaves(value: Any) -> list[Any]:
        if isinstance(value, dict):
            return [leaf for entry in value.values() for leaf in leaves(entry)]
        return [leaf for entry in value for leaf in leaves(entry)] if isinstance(value, list) else [value]

    assert {type(leaf) for leaf in leaves(FULLEST[name]().params)} <= {str, int, bool}


def test_a_wrong_name_in_a_request_is_caught() -> None:
    request = requests.pay_invoice("in_1")
    assert verdict(Request(request.operation, "in_1", request.params | {"of_session": True})) == [
        "of_session: Stripe has no such parameter"
    ]


@pytest.mark.parametrize("kind", [*operations.FETCHES, *operations.LISTS])
def test_every_route_of_reading_exists(kind: str) -> None:
    for route in (operations.FETCHES.get(kind), operations.LISTS.get(kind)):
        if route is not None:
            assert sdk.route(route.method, route.url("x_1")) is not None


@pytest.mark.parametrize("kind", operations.NESTED_LISTS)
def test_every_nested_list_exists(kind: str) -> None:
    route = operations.NESTED_LISTS[kind][1]
    assert sdk.route(route.method, route.url("x_1")) is not None


def test_the_version_we_ask_for_is_the_one_the_judge_knows() -> None:
    assert API_VERSION == "2026-10-28.endive"
