"""What the gateway puts on the wire, and what it makes of every kind of answer."""

import traceback
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway import requests
from gateway.client import API_VERSION, StripeGateway
from gateway.errors import (
    Declined,
    GatewayError,
    KeyReused,
    Misconfigured,
    Refused,
    Throttled,
    Unreachable,
)
from tests.contract.scripted import Answer, Script, refusal, scripted_server

KEY = "sk_test_" + "a1B2" * 6
PAY = requests.pay_invoice("in_1")


class Turnstile:
    """A limiter that counts who came through."""

    def __init__(self) -> None:
        self.passed: list[str] = []

    def acquire(self, endpoint: str) -> None:
        self.passed.append(endpoint)


class Clock:
    """A clock that moves a quarter of a second whenever it is read."""

    def __init__(self) -> None:
        self.at = datetime(2026, 11, 22, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.at += timedelta(milliseconds=250)
        return self.at


@pytest.fixture
def script() -> Iterator[Script]:
    with scripted_server() as running:
        yield running


@pytest.fixture
def gateway(script: Script) -> StripeGateway:
    return StripeGateway(KEY, api_base=script.url, wall=Clock(), limiter=None)


def raised(gateway: StripeGateway, request: requests.Request = PAY) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        gateway.send(request, "pay:in_1:1")
    return caught.value


def test_a_request_goes_out_under_its_key_and_the_pinned_version(
    script: Script, gateway: StripeGateway
) -> None:
    script.will_answer(Answer(body={"id": "in_1", "total": 5}, headers={"Request-Id": "req_9"}))
    reply = gateway.send(requests.add_lines("in_1", [_line()]), "lines:in_1:1")
    assert reply.object == {"id": "in_1", "total": 5}
    assert reply.request_id == "req_9"
    [asked] = script.asked
    assert (asked.method, asked.path) == ("POST", "/v1/invoices/in_1/add_lines")
    assert asked.headers["idempotency-key"] == "lines:in_1:1"
    assert asked.headers["stripe-version"] == API_VERSION
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert asked.form["lines[0][amount]"] == "-100"
    assert asked.form["lines[0][discountable]"] == "false"
    assert asked.form["lines[0][period][end]"] == "2"


def test_no_metrics_leave_and_nothing_is_written_at_home(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    gateway = StripeGateway(KEY, api_base=script.url, wall=Clock(), limiter=None)
    script.will_answer(Answer(), Answer())
    gateway.send(PAY, "pay:in_1:1")
    gateway.send(PAY, "pay:in_1:2")
    assert "x-stripe-client-telemetry" not in script.asked[1].headers
    assert "telemetry_id" not in script.asked[1].headers["x-stripe-client-user-agent"]
    assert list(tmp_path.rglob("*")) == []


def test_a_broken_line_is_tried_again_under_the_same_key(script: Script, gateway: StripeGateway) -> None:
    script.will_answer(refusal(500, retry=True, type="api_error"), Answer(body={"id": "in_1"}))
    assert gateway.send(PAY, "pay:in_1:1").object == {"id": "in_1"}
    assert [asked.headers["idempotency-key"] for asked in script.asked] == ["pay:in_1:1"] * 2


@pytest.mark.parametrize(
    "answer",
    [
        refusal(500, type="api_error", message="boom"),
        refusal(503, type="api_error"),
        refusal(409, type="invalid_request_error", code="idempotency_key_in_use"),
        Answer(502, "<html>bad gateway</html>", {"Stripe-Should-Retry": "false"}),
        Answer(200, "<html>captive portal</html>"),
    ],
    ids=["500", "503", "409", "502 html", "200 html"],
)
def test_an_outcome_that_is_unknown_is_called_so(
    script: Script, gateway: StripeGateway, answer: Answer
) -> None:
    script.will_answer(answer)
    assert type(raised(gateway)) is Unreachable


@pytest.mark.parametrize(("header", "saved"), [("true", True), (None, False)])
def test_a_failure_that_stripe_has_stored_is_told_apart(
    script: Script, gateway: StripeGateway, header: str | None, saved: bool
) -> None:
    headers = {"Idempotent-Replayed": header} if header else {}
    script.will_answer(refusal(500, headers=headers, type="api_error"))
    error = raised(gateway)
    assert isinstance(error, Unreachable)
    assert error.saved is saved


def test_a_line_cut_for_good_is_unreachable_after_three_tries(script: Script, gateway: StripeGateway) -> None:
    script.will_answer(*[Answer(body=None)] * 3)
    assert type(raised(gateway)) is Unreachable
    assert len(script.asked) == 3


def test_nobody_listening_is_unreachable() -> None:
    with scripted_server() as gone:
        address = gone.url
    gateway = StripeGateway(KEY, api_base=address, wall=Clock(), limiter=None)
    assert type(raised(gateway)) is Unreachable


@pytest.mark.parametrize(
    ("header", "seconds", "tries"),
    [("7", 7, 1), (None, None, 3), ("Sun, 06 Nov 1994 08:49:37 GMT", None, 3)],
)
def test_too_many_requests_are_tried_twice_again_unless_stripe_asks_for_more_patience(
    script: Script, gateway: StripeGateway, header: str | None, seconds: int | None, tries: int
) -> None:
    headers = {"Retry-After": header} if header else {}
    throttled = refusal(429, retry=True, headers=headers, type="invalid_request_error", code="rate_limit")
    script.will_answer(*[throttled] * tries)
    error = raised(gateway)
    assert isinstance(error, Throttled)
    assert (error.retry_after_s, error.request_id, len(script.asked)) == (seconds, "req_7", tries)


def test_one_request_too_many_is_no_failure(script: Script, gateway: StripeGateway) -> None:
    script.will_answer(
        refusal(429, retry=True, type="invalid_request_error", code="rate_limit"), Answer(body={"id": "in_1"})
    )
    assert gateway.send(PAY, "pay:in_1:1").object == {"id": "in_1"}
    assert [asked.headers["idempotency-key"] for asked in script.asked] == ["pay:in_1:1"] * 2


def test_a_decline_brings_the_banks_words(script: Script, gateway: StripeGateway) -> None:
    script.will_answer(
        refusal(
            402,
            type="card_error",
            code="card_declined",
            decline_code="insufficient_funds",
            advice_code="try_again_later",
            message="Your card has insufficient funds.",
            payment_intent={"id": "pi_1", "object": "payment_intent", "client_secret": "pi_1_secret_z"},
        )
    )
    error = raised(gateway)
    assert isinstance(error, Declined)
    assert (error.code, error.decline_code, error.advice_code) == (
        "card_declined",
        "insufficient_funds",
        "try_again_later",
    )
    assert (error.payment_intent_id, error.requires_action) == ("pi_1", False)
    assert str(error) == "Your card has insufficient funds."


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (402, {"type": "card_error", "code": "card_declined", "decline_code": "authentication_required"}),
        (402, {"type": "card_error", "code": "authentication_required"}),
        (402, {"type": "card_error", "code": "invoice_payment_intent_requires_action"}),
        (400, {"type": "invalid_request_error", "code": "invoice_payment_intent_requires_action"}),
    ],
)
def test_three_d_secure_asks_for_the_customer(
    script: Script, gateway: StripeGateway, status: int, error: dict[str, Any]
) -> None:
    script.will_answer(refusal(status, **error))
    declined = raised(gateway)
    assert isinstance(declined, Declined)
    assert declined.requires_action


@pytest.mark.parametrize(
    ("status", "error", "expected"),
    [
        (404, {"code": "resource_missing", "param": "invoice"}, ("resource_missing", "invoice")),
        (404, {}, ("resource_missing", None)),
        (400, {"code": "parameter_unknown", "param": "of_session"}, ("parameter_unknown", "of_session")),
        (400, {"code": "invoice_not_editable"}, ("invoice_not_editable", None)),
        (400, {}, ("invalid_request", None)),
    ],
)
def test_what_is_final_is_refused(
    script: Script,
    gateway: StripeGateway,
    status: int,
    error: dict[str, Any],
    expected: tuple[str, str | None],
) -> None:
    script.will_answer(refusal(status, type="invalid_request_error", message="no", **error))
    refused = raised(gateway)
    assert isinstance(refused, Refused)
    assert (refused.code, refused.param) == expected
    assert (refused.field, refused.message) == (refused.param, "no")


def test_a_key_used_for_something_else_is_our_own_fault(script: Script, gateway: StripeGateway) -> None:
    script.will_answer(refusal(400, type="idempotency_error", message="other parameters"))
    assert type(raised(gateway)) is KeyReused


@pytest.mark.parametrize("status", [401, 403])
def test_a_bad_key_is_named_to_nobody(script: Script, gateway: StripeGateway, status: int) -> None:
    script.will_answer(
        refusal(status, type="invalid_request_error", message=f"Invalid API Key provided: {KEY}")
    )
    error = raised(gateway)
    assert type(error) is Misconfigured
    assert KEY[8:] not in "".join(traceback.format_exception(error))
    assert error.__cause__ is None and error.__context__ is None


@pytest.mark.parametrize(
    "secret", [KEY, "rk_live_" + "x" * 20, "whsec_" + "y" * 20, "pi_1_secret_abc", "sk_test_****wxyz"]
)
def test_no_secret_survives_in_a_message(script: Script, gateway: StripeGateway, secret: str) -> None:
    script.will_answer(refusal(400, type="invalid_request_error", message=f"odd: {secret}."))
    assert raised(gateway).message == "odd: [secret]."


def test_a_repeated_cancellation_that_finds_its_work_done_answers_like_the_first(
    script: Script, gateway: StripeGateway
) -> None:
    script.will_answer(
        refusal(404, type="invalid_request_error", code="resource_missing"),
        Answer(body={"id": "sub_1", "status": "canceled"}),
    )
    reply = gateway.send(requests.cancel_subscription("sub_1", "over"), "cancel:sub_1:1")
    assert reply.object["status"] == "canceled"
    assert [asked.method for asked in script.asked] == ["DELETE", "GET"]
    assert script.asked[0].query["invoice_now"] == "false"


def test_a_cancellation_that_is_refused_stays_refused(script: Script, gateway: StripeGateway) -> None:
    missing = refusal(404, type="invalid_request_error", code="resource_missing")
    script.will_answer(missing, Answer(body={"id": "sub_1", "status": "active"}), missing, missing)
    for _ in range(2):
        assert isinstance(raised(gateway, requests.cancel_subscription("sub_1", "over")), Refused)


def test_a_repeated_deletion_answers_like_the_first(script: Script, gateway: StripeGateway) -> None:
    script.will_answer(refusal(404, type="invalid_request_error", code="resource_missing"))
    assert gateway.send(requests.delete_invoice("in_1"), "delete:in_1").object == {
        "id": "in_1",
        "deleted": True,
    }


def test_a_list_is_read_to_its_end(script: Script, gateway: StripeGateway) -> None:
    script.will_answer(
        Answer(body={"data": [{"id": "in_3"}, {"id": "in_2"}], "has_more": True}),
        Answer(body={"data": [{"id": "in_1"}], "has_more": False}),
    )
    found = [row["id"] for row in gateway.list("invoice", {"status": "draft", "created": {"gte": 5}})]
    assert found == ["in_3", "in_2", "in_1"]
    first, second = script.asked
    assert first.query == {"status": "draft", "created[gte]": "5", "limit": "100"}
    assert second.query["starting_after"] == "in_2"


def test_a_list_under_a_parent_names_it_in_its_path(script: Script, gateway: StripeGateway) -> None:
    script.will_answer(*[Answer(body={"data": [], "has_more": False})] * 2)
    assert list(gateway.list("invoice_line", {"invoice": "in_1"})) == []
    assert list(gateway.list("customer_payment_method", {"customer": "cus_1", "type": "card"})) == []
    assert [asked.path for asked in script.asked] == [
        "/v1/invoices/in_1/lines",
        "/v1/customers/cus_1/payment_methods",
    ]
    assert script.asked[1].query == {"limit": "100", "type": "card"}


def test_an_invoice_is_fetched_with_all_its_lines(script: Script, gateway: StripeGateway) -> None:
    page = {"data": [{"id": "il_1"}], "has_more": True, "url": "/v1/invoices/in_1/lines"}
    script.will_answer(
        Answer(body={"id": "in_1", "lines": page}),
        Answer(body={"data": [{"id": "il_1"}, {"id": "il_2"}], "has_more": False}),
    )
    found = gateway.fetch("invoice", "in_1", expand=("payments",))
    assert [line["id"] for line in found["lines"]["data"]] == ["il_1", "il_2"]
    assert found["lines"]["has_more"] is False
    assert script.asked[0].query == {"expand[0]": "payments"}
    assert script.asked[1].path == "/v1/invoices/in_1/lines"


def test_the_connection_report_says_who_answers(script: Script, gateway: StripeGateway) -> None:
    script.will_answer(Answer(body={"id": "acct_1", "object": "account"}))
    report = gateway.test_connection()
    assert (report.account_id, report.livemode, report.api_version) == ("acct_1", False, API_VERSION)
    assert report.latency_ms == 250


def test_every_call_passes_the_limiter(script: Script) -> None:
    turnstile = Turnstile()
    gateway = StripeGateway(KEY, api_base=script.url, wall=Clock(), limiter=turnstile)
    script.will_answer(Answer(), Answer(), Answer(body={"data": [], "has_more": False}))
    gateway.send(PAY, "pay:in_1:1")
    gateway.fetch("customer", "cus_1")
    list(gateway.list("event"))
    assert turnstile.passed == ["pay_invoice", "fetch_customer", "list_event"]


@pytest.mark.parametrize("key", ["", "  "])
def test_an_empty_key_is_refused_at_the_door(key: str) -> None:
    with pytest.raises(ValueError, match="API key is empty"):
        StripeGateway(key, api_base=None, wall=Clock(), limiter=None)


@pytest.mark.parametrize("key", ["", "k" * 256])
def test_an_idempotency_key_has_bounds(gateway: StripeGateway, key: str) -> None:
    with pytest.raises(ValueError, match="1 to 255"):
        gateway.send(PAY, key)


@pytest.mark.parametrize(
    ("key", "live"), [("sk_live_x", True), ("rk_live_x", True), ("sk_test_x", False), ("rk_test_x", False)]
)
def test_the_mode_is_read_off_the_key(key: str, live: bool) -> None:
    assert StripeGateway(key, api_base=None, wall=Clock(), limiter=None).livemode is live


def _line() -> requests.Line:
    return {"description": "credit", "amount_minor": -100, "period_start": 1, "period_end": 2}
