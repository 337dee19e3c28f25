"""The judge refuses what is wrong: a judge that lets everything pass would prove nothing."""

import copy
from typing import Any

import pytest

from tests.contract import sdk
from tests.contract.judge import (
    API_VERSION,
    check_error,
    check_event,
    check_object,
    check_reply,
    check_request,
)

PRODUCT: dict[str, Any] = {
    "id": "prod_1",
    "object": "product",
    "active": True,
    "created": 1,
    "description": None,
    "images": [],
    "livemode": False,
    "marketing_features": [],
    "metadata": {"product_code": "autoflow"},
    "name": "AutoFlow",
    "type": "service",
    "updated": 1,
}
EVENT: dict[str, Any] = {
    "id": "evt_1",
    "object": "event",
    "api_version": API_VERSION,
    "created": 1,
    "data": {"object": PRODUCT, "previous_attributes": {"name": "AutoFlo"}},
    "livemode": False,
    "pending_webhooks": 1,
    "request": {"id": None, "idempotency_key": None},
    "type": "product.updated",
}


def test_the_sdk_was_really_read() -> None:
    assert sdk.routes_known() > 500
    pay = sdk.route("post", "/v1/invoices/in_1/pay")
    assert pay is not None and pay.params is not None
    assert pay.params.__name__ == "InvoicePayParams"


def test_a_literal_path_is_not_taken_for_an_id() -> None:
    preview = sdk.route("post", "/v1/invoices/create_preview")
    assert preview is not None and preview.params is not None
    assert preview.params.__name__ == "InvoiceCreatePreviewParams"


def test_a_right_request_passes_as_json_and_as_a_decoded_form() -> None:
    as_json = {"customer": "cus_1", "items": [{"price": "price_1", "quantity": 2}], "off_session": True}
    as_form = {
        "customer": "cus_1",
        "items": {"0": {"price": "price_1", "quantity": "2"}},
        "off_session": "true",
    }
    assert check_request("POST", "/v1/subscriptions", as_json) == []
    assert check_request("POST", "/v1/subscriptions", as_form) == []


@pytest.mark.parametrize(
    ("method", "path", "params", "verdict"),
    [
        ("POST", "/v1/invoice/in_1/pay", {}, "there is no such route"),
        ("PUT", "/v1/invoices/in_1", {}, "there is no such route"),
        ("POST", "/v1/invoices/in_1/pay", {"off_sesion": True}, "Stripe has no such parameter"),
        ("POST", "/v1/invoices/in_1/pay", {"idempotency_key": "k"}, "Stripe has no such parameter"),
        ("POST", "/v1/invoices/in_1/pay", {"off_session": 1}, "is no bool"),
        ("POST", "/v1/invoices/in_1/pay", {"payment_method": None}, "null is never sent"),
        ("POST", "/v1/invoices/in_1/pay", {"expand": ["payment"]}, "has no step payment"),
        ("POST", "/v1/invoices/in_1/add_lines", {}, "lines: is missing"),
        ("POST", "/v1/invoices/in_1/add_lines", {"lines": []}, "an empty list is never sent"),
        (
            "POST",
            "/v1/invoices/in_1/add_lines",
            {"lines": [{"amount": "1.5"}]},
            "lines[0].amount: '1.5' is no int",
        ),
        (
            "POST",
            "/v1/invoices/in_1/add_lines",
            {"lines": [{"period": {"start": 1}}]},
            "period.end: is missing",
        ),
        ("POST", "/v1/prices", {"currency": "usd", "unit_amount_decimal": "1.25E-7"}, "is no Decimal"),
        (
            "POST",
            "/v1/prices",
            {"currency": "usd", "recurring": {"interval": "quarter"}},
            "'quarter' is none of",
        ),
        ("POST", "/v1/subscriptions", {"payment_behavior": "hope"}, "'hope' is none of"),
        ("POST", "/v1/subscriptions", {"billing_cycle_anchor": {"type": "now"}}, "is no int"),
        ("POST", "/v1/subscriptions", {"coupon": "half"}, "Stripe has no such parameter"),
        ("POST", "/v1/subscriptions", {"metadata": {"row": 1}}, "metadata.row: 1 is no str"),
        (
            "POST",
            "/v1/subscriptions",
            {"expand": ["latest_invoice.payment_intent"]},
            "no step payment_intent",
        ),
        ("GET", "/v1/invoices", {"expand": ["data.a.b.c.d"]}, "deeper than four levels"),
    ],
)
def test_a_wrong_request_is_named(method: str, path: str, params: dict[str, Any], verdict: str) -> None:
    problems = check_request(method, path, params)
    assert any(verdict in problem for problem in problems), problems


def test_a_right_object_passes() -> None:
    assert check_object(PRODUCT) == []
    assert check_object({"id": "prod_1", "object": "product", "deleted": True}) == []


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({"name": 5}, "product.name: 5 is no str"),
        ({"active": "true"}, "product.active: 'true' is no bool"),
        ({"created": "1"}, "product.created: '1' is no int"),
        ({"created": True}, "product.created: True is no int"),
        ({"type": "thing"}, "product.type: 'thing' is none of"),
        ({"price": 1}, "product.price: Stripe has no such field"),
        ({"metadata": {"a": 1}}, "product.metadata.a: 1 is no str"),
        ({"images": "none"}, "product.images: 'none' is no list"),
        ({"default_price": {"object": "price", "id": "price_1"}}, "product.default_price.active: is missing"),
        ({"object": "thing"}, "is no object of Stripe's"),
        ({"deleted": True}, "a deleted object has only"),
    ],
)
def test_a_wrong_object_is_named(change: dict[str, Any], verdict: str) -> None:
    problems = check_object(PRODUCT | change)
    assert any(verdict in problem for problem in problems), problems


def test_a_missing_field_is_named() -> None:
    without = {name: value for name, value in PRODUCT.items() if name != "livemode"}
    assert check_object(without) == ["product.livemode: is missing"]


def test_a_list_is_judged_with_its_entries() -> None:
    page = {"object": "list", "data": [PRODUCT], "has_more": False, "url": "/v1/products"}
    assert check_object(page) == []
    assert check_reply("GET", "/v1/products", page) == []
    assert check_reply("GET", "/v1/prices", page) != []
    assert check_reply("GET", "/v1/products", page | {"next_page": 2}) != []
    assert check_object(page | {"data": [PRODUCT | {"name": 1}]}) == [
        "list.data[0]: product.name: 1 is no str"
    ]


def test_an_event_is_judged_with_its_object() -> None:
    assert check_event(EVENT) == []


@pytest.mark.parametrize(
    ("path", "value", "verdict"),
    [
        (("type",), "product.improved", "'product.improved' is none of"),
        (("api_version",), "2024-09-30.acacia", "is not 2026-10-28.endive"),
        (("data", "object", "name"), 7, "product.name: 7 is no str"),
        (("data", "previous_attributes", "nmae"), "x", "previous_attributes.nmae: unknown"),
        (("pending_webhooks",), None, "pending_webhooks: None is no int"),
    ],
)
def test_a_wrong_event_is_named(path: tuple[str, ...], value: object, verdict: str) -> None:
    event = copy.deepcopy(EVENT)
    target = event
    for step in path[:-1]:
        target = target[step]
    target[path[-1]] = value
    problems = check_event(event)
    assert any(verdict in problem for problem in problems), problems


def test_a_refusal_has_one_known_form() -> None:
    assert check_error({"error": {"type": "card_error", "code": "card_declined", "message": "no"}}) == []
    assert check_error({"message": "no"}) != []
    assert check_error({"error": {"type": "card_error", "reason": "no"}}) == [
        "error.reason: Stripe has no such field"
    ]
    assert check_error({"error": {"message": "no type"}}) == ["error.type: is missing"]
