"""A Stripe account to tell stories on, where all is judged: the sandbox, or Stripe's test mode."""

import itertools
import os
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import pytest

from gateway import operations, requests, translate
from gateway.client import StripeGateway
from gateway.errors import GatewayError
from gateway.requests import Request
from tests.contract.judge import check_event, check_object, check_reply, check_request

ROOT = Path(__file__).parents[2]
DAY_S = 86_400

Refusal = TypeVar("Refusal", bound=GatewayError)


class Account:
    """An account behind a gateway. Every request, reply and event that passes is held against the judge."""

    def __init__(self, door: StripeGateway, *, base: str | None, patience_s: int) -> None:
        self.door = door
        self.base = base
        self.now = int(datetime.now(UTC).timestamp())
        self.patience_s = patience_s
        self._run = uuid.uuid4().hex[:12]
        self._numbers = itertools.count(1)
        self._judged: set[str] = set()
        self.clock_ids: set[str] = set()

    @property
    def is_sandbox(self) -> bool:
        """Whether this is the local one, which can do what no API of Stripe's does."""
        return self.base is not None

    def key(self, name: str = "key") -> str:
        """An idempotency key that nobody has used."""
        return f"contract:{self._run}:{name}:{next(self._numbers)}"

    def send(self, request: Request, key: str | None = None) -> dict[str, Any]:
        """Send a request under a new key, or under `key`; its reply."""
        route = operations.OPERATIONS[request.operation]
        path = route.url(request.object_id)
        approve(check_request(route.method, path, request.params), f"request {request}")
        reply = self.door.send(request, key or self.key(request.operation))
        approve(check_reply(route.method, path, reply.object), f"reply to {request.operation}")
        assert reply.request_id is not None
        return reply.object

    def refusal(self, request: Request, kind: type[Refusal], key: str | None = None) -> Refusal:
        """Send a request that must be refused, with an error of exactly this kind."""
        with pytest.raises(kind) as caught:
            self.send(request, key)
        return caught.value

    def fetch(self, kind: str, object_id: str, expand: Sequence[str] = ()) -> dict[str, Any]:
        """An object as it is now."""
        found = self.door.fetch(kind, object_id, expand)
        approve(check_object(found), f"{kind} {object_id}")
        return found

    def rows(self, kind: str, **params: Any) -> list[dict[str, Any]]:
        """All objects of a kind that the parameters let through, newest first."""
        found = list(self.door.list(kind, params))
        for row in found:
            approve(check_object(row), f"{kind} in a list")
        return found

    def event_types(self, *object_ids: str) -> list[str]:
        """The types of the events about some objects, each event judged, oldest first."""
        found = []
        for event in self._newest_events():
            envelope = translate.event(event)
            if envelope.object_id in object_ids:
                approve(check_event(event), f"event {envelope.type}")
                found.append(envelope.type)
        return found[::-1]

    def judge_new_events(self) -> None:
        """Hold every event that was not judged yet against the judge, also those no story looks at."""
        for event in self._newest_events():
            if event["id"] not in self._judged:
                approve(check_event(event), f"event {event['type']}")
                self._judged.add(event["id"])

    def _newest_events(self) -> Iterator[dict[str, Any]]:
        # 400 suffice on an account of any age: a story makes some dozens.
        return itertools.islice(self.door.list("event"), 400)


def approve(problems: list[str], what: str) -> None:
    """Fail with every objection of the judge."""
    assert not problems, f"{what}:\n  " + "\n  ".join(problems)


def await_(ready: Callable[[], bool], patience_s: int, what: str) -> None:
    """Ask until it is so, or fail when patience ends."""
    deadline = time.monotonic() + patience_s
    while not ready():
        assert time.monotonic() < deadline, f"{what} did not happen within {patience_s} s"
        time.sleep(0.02 if patience_s < 60 else 1)


@contextmanager
def sandbox_account(*arguments: str) -> Iterator[Account]:
    """The local Stripe on a free port with an empty memory, in a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    base = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "sandbox", "--port", str(port), "--state", ":memory:", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        await_(lambda: process.poll() is not None or _answers(f"{base}/_sandbox/ready"), 20, "a start")
        assert process.poll() is None, "the sandbox ended at its start"
        door = StripeGateway("sk_test_contract", api_base=base, wall=lambda: datetime.now(UTC), limiter=None)
        yield Account(door, base=base, patience_s=20)
    finally:
        process.terminate()
        process.wait(timeout=10)


@contextmanager
def stripe_account() -> Iterator[Account]:
    """Stripe's test mode under STRIPE_TEST_KEY; a story skips without it and refuses a live key."""
    key = os.environ.get("STRIPE_TEST_KEY", "")
    if not key:
        pytest.skip("STRIPE_TEST_KEY is not set")
    assert key.startswith(("sk_test_", "rk_test_")), "STRIPE_TEST_KEY must be a test-mode key"
    door = StripeGateway(key, api_base=None, wall=lambda: datetime.now(UTC), limiter=None)
    account = Account(door, base=None, patience_s=240)
    yield account
    # An account holds a limited number of clocks; a clock takes all that is on it with it.
    for clock_id in account.clock_ids:
        door.send(requests.delete_test_clock(clock_id), account.key("tidy"))


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


class Clocked:
    """A customer of an account on a test clock, and the acts that the stories are made of."""

    def __init__(self, account: Account, card: str | None = "pm_card_visa") -> None:
        self.account = account
        clock = account.send(requests.create_test_clock(account.now, "contract"))
        self.clock_id: str = clock["id"]
        account.clock_ids.add(self.clock_id)
        customer = account.send(
            requests.create_customer("o-1", "Acme (Pty) Ltd", "billing@acme.example", self.clock_id)
        )
        self.id: str = customer["id"]
        if card:
            self.takes_card(card)

    def takes_card(self, card: str) -> str:
        """Attach a card and make it the default."""
        method = self.account.send(requests.attach_payment_method(card, self.id))
        self.account.send(requests.set_default_payment_method(self.id, method["id"]))
        return str(method["id"])

    def advances(self, to: int) -> None:
        """Move the clock and wait until everything due by then has happened."""
        self.account.send(requests.advance_test_clock(self.clock_id, to))
        await_(
            lambda: self.account.fetch("test_clock", self.clock_id)["status"] == "ready",
            self.account.patience_s,
            "the end of an advance",
        )

    def subscribes(self, *prices: str, quantity: int = 1, **terms: Any) -> translate.SubscriptionFacts:
        """Subscribe to some prices with the saved card, charged now."""
        terms = {"payment_behavior": "allow_incomplete", "off_session": True, **terms}
        items: list[requests.Item] = [{"price": price, "quantity": quantity} for price in prices]
        terms = {"metadata": {"subscription_id": "s-1"}, **terms}
        request = requests.create_subscription(self.id, items, **terms)
        return translate.subscription(self.account.send(request))

    def subscription(self, subscription_id: str) -> translate.SubscriptionFacts:
        """A subscription as it is now."""
        return translate.subscription(self.account.fetch("subscription", subscription_id))

    def invoices(self, **params: Any) -> list[translate.InvoiceFacts]:
        """The customer's invoices, newest first."""
        return [translate.invoice(row) for row in self.account.rows("invoice", customer=self.id, **params)]

    def invoice(self, invoice_id: str | None) -> translate.InvoiceFacts:
        """An invoice as it is now."""
        assert invoice_id is not None
        return translate.invoice(self.account.fetch("invoice", invoice_id))

    def owes(self, amount_minor: int, description: str = "usage") -> translate.InvoiceFacts:
        """An open invoice of one line that we built ourselves."""
        draft = self.account.send(requests.create_invoice(self.id, "USD", {"invoice_id": "i-1"}))
        line = a_line(description, amount_minor, self.account.now)
        self.account.send(requests.add_lines(draft["id"], [line]))
        return translate.invoice(self.account.send(requests.finalize_invoice(draft["id"])))


def a_line(description: str, amount_minor: int, at: int, **more: Any) -> requests.Line:
    """A line over the day before `at`."""
    line: requests.Line = {
        "description": description,
        "amount_minor": amount_minor,
        "period_start": at - DAY_S,
        "period_end": at,
    }
    return line | more  # type: ignore[return-value]


def a_price(account: Account, amount_minor: int, *, product: str | None = None, currency: str = "USD") -> str:
    """A monthly price of a product, of a new one unless it is named."""
    product = product or a_product(account)
    request = requests.create_price(product, currency, "month", amount_minor, lookup_key=account.key("plan"))
    return str(account.send(request)["id"])


def a_product(account: Account, name: str = "AutoFlow AI") -> str:
    """A product."""
    return str(account.send(requests.create_product("autoflow", name, "Workflows", "seat"))["id"])
