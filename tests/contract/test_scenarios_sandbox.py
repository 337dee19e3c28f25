"""What only the local Stripe can be asked for: faults on demand, and deliveries to this very process."""

import json
import queue
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from gateway import requests, translate, webhooks
from gateway.client import API_VERSION, StripeGateway
from gateway.errors import InvalidSignature, Misconfigured, Throttled, Unreachable
from tests.contract.account import Account, Clocked, a_price, approve, sandbox_account
from tests.contract.judge import check_error, check_event

Delivery = tuple[bytes, str]


@pytest.fixture(scope="module")
def account() -> Iterator[Account]:
    with sandbox_account() as ready:
        yield ready


@contextmanager
def receiver() -> Iterator[tuple[str, queue.Queue[Delivery]]]:
    """An endpoint on the loopback that answers 200 and keeps what it was sent."""
    box: queue.Queue[Delivery] = queue.Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()
            box.put((body, self.headers["Stripe-Signature"]))

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the parent's name
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/hook", box
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def fault(account: Account, operation: str, kind: str, times: int = 1) -> None:
    """Have the next calls of an operation go wrong."""
    body = json.dumps({"once": [{"operation": operation, "fault": kind, "times": times}]}).encode()
    headers = {"Content-Type": "application/json"}
    asked = urllib.request.Request(f"{account.base}/_sandbox/faults", body, headers, method="POST")
    with urllib.request.urlopen(asked, timeout=5) as reply:
        assert reply.status == 200


def test_what_happened_is_delivered_signed_and_in_stripes_words(account: Account) -> None:
    with receiver() as (url, box):
        endpoint = account.send(requests.create_webhook_endpoint(url, webhooks.HANDLED_EVENTS, API_VERSION))
        ada = Clocked(account)
        facts = ada.subscribes(a_price(account, 35_00))
        seen: dict[str, Any] = {}
        while "invoice.paid" not in seen or "customer.subscription.created" not in seen:
            body, header = box.get(timeout=10)
            webhooks.verify(body, header, [endpoint["secret"]], datetime.now(UTC))
            with pytest.raises(InvalidSignature):
                webhooks.verify(body, header, ["whsec_of_somebody_else"], datetime.now(UTC))
            approve(check_event(json.loads(body)), "delivery")
            envelope = translate.event(json.loads(body))
            assert envelope.type in webhooks.HANDLED_EVENTS
            seen[envelope.type] = envelope

    assert seen["customer.subscription.created"].object_id == facts.id
    assert translate.invoice(seen["invoice.paid"].raw_object).total_minor == 35_00
    assert {envelope.customer_id for envelope in seen.values()} == {ada.id}


@pytest.mark.parametrize("kind", ["http_500_before", "timeout_after"])
def test_a_payment_whose_answer_is_lost_is_made_once(account: Account, kind: str) -> None:
    ada = Clocked(account)
    owed = ada.owes(45_00)
    fault(account, "POST /v1/invoices/{id}/pay", kind)
    paid = translate.invoice(account.send(requests.pay_invoice(owed.id)))
    assert (paid.status, paid.amount_paid_minor) == ("paid", 45_00)
    assert len(account.rows("charge", customer=ada.id)) == 1


def test_a_failure_after_the_effect_is_replayed_and_only_a_look_tells(account: Account) -> None:
    ada = Clocked(account)
    owed, key = ada.owes(45_00), account.key("unknown")
    fault(account, "POST /v1/invoices/{id}/pay", "http_500_after")
    # Stripe stores the first answer under the key, a 500 too: sending again can never tell what happened.
    for _ in range(2):
        assert account.refusal(requests.pay_invoice(owed.id), Unreachable, key).saved
    assert ada.invoice(owed.id).status == "paid"
    assert len(account.rows("charge", customer=ada.id)) == 1


def test_too_many_requests_do_nothing(account: Account) -> None:
    ada = Clocked(account)
    owed, key = ada.owes(45_00), account.key("throttled")
    fault(account, "POST /v1/invoices/{id}/pay", "http_429", times=3)
    account.refusal(requests.pay_invoice(owed.id), Throttled, key)
    assert ada.invoice(owed.id).status == "open"
    assert account.send(requests.pay_invoice(owed.id), key)["status"] == "paid"


def test_a_live_key_is_refused(account: Account) -> None:
    wrong = StripeGateway("sk_live_no", api_base=account.base, wall=lambda: datetime.now(UTC), limiter=None)
    with pytest.raises(Misconfigured):
        wrong.test_connection()
    assert account.door.test_connection().api_version == API_VERSION


@pytest.mark.parametrize(
    ("path", "form", "status"),
    [
        ("/v1/invoices/in_missing", None, 404),
        ("/v1/no_such_thing", None, 404),
        ("/v1/customers", b"unheard_of=1", 400),
        ("/v1/invoices/in_missing/pay", b"off_session=true", 404),
    ],
)
def test_a_refusal_has_stripes_form(account: Account, path: str, form: bytes | None, status: int) -> None:
    headers = {"Authorization": "Bearer sk_test_x"}
    asked = urllib.request.Request(f"{account.base}{path}", form, headers)
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(asked, timeout=5)
    with caught.value as refused:
        assert refused.status == status
        assert refused.headers["Request-Id"]
        approve(check_error(json.load(refused)), path)
