"""A sandbox in its own process, asked through Stripe's own client; whatever it said is judged at the end."""

import json
import queue
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import stripe

from tests.contract.judge import check_event, check_object

ROOT = Path(__file__).parents[3]
KEY = "sk_test_local"
LISTS = (
    "products",
    "prices",
    "coupons",
    "tax_rates",
    "customers",
    "subscriptions",
    "invoices",
    "invoiceitems",
    "invoice_payments",
    "payment_intents",
    "charges",
    "refunds",
    "disputes",
    "credit_notes",
    "setup_intents",
    "webhook_endpoints",
    "test_helpers/test_clocks",
    "checkout/sessions",
)


def at(text: str) -> int:
    """Unix seconds of an ISO date or instant, UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def await_(ready: Callable[[], bool], what: str, patience_s: float = 10.0) -> None:
    """Ask until it is so, or fail when patience ends."""
    deadline = time.monotonic() + patience_s
    while not ready():
        assert time.monotonic() < deadline, f"{what} did not happen within {patience_s} s"
        threading.Event().wait(0.005)


@dataclass
class Local:
    """One running sandbox."""

    base: str
    process: "subprocess.Popen[bytes]"

    @property
    def api(self) -> Any:
        """Stripe's client, without retries of its own."""
        return stripe.StripeClient(KEY, base_addresses={"api": self.base}).v1

    def ask(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, Any, dict[str, str]]:
        """A bare request: status, JSON and headers. A dict goes out as JSON, a string as a form."""
        given = json.dumps(body).encode() if isinstance(body, dict | list) else (body or "").encode() or None
        request = urllib.request.Request(self.base + path, data=given, method=method)
        request.add_header("Authorization", f"Bearer {KEY}")
        for name, value in headers.items():
            request.add_header(name.replace("_", "-"), value)
        try:
            with urllib.request.urlopen(request, timeout=20) as reply:
                return reply.status, json.loads(reply.read()), dict(reply.headers)
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code, json.loads(refusal.read()), dict(refusal.headers)

    def read(self, path: str) -> Any:
        status, found, _ = self.ask("GET", path)
        assert status == 200, found
        return found

    def fault(self, **wanted: Any) -> None:
        assert self.ask("POST", "/_sandbox/faults", wanted)[0] == 200

    def settle(self) -> None:
        """Wait until nothing is on its way any more."""

        def quiet() -> bool:
            state = self.read("/_sandbox/state")
            return not state["pending_deliveries"] and not state["advancing_clocks"]

        await_(quiet, "quiet")

    def advance(self, clock: str, to: str | int) -> None:
        """Move a test clock and wait until it is there."""
        moment = at(to) if isinstance(to, str) else to
        self.api.test_helpers.test_clocks.advance(clock, {"frozen_time": moment})
        await_(lambda: self.api.test_helpers.test_clocks.retrieve(clock).status == "ready", "the advance")

    def events(self, **filters: str) -> list[dict[str, Any]]:
        """Every event, oldest first."""
        found: list[dict[str, Any]] = []
        while True:
            cursor = f"&starting_after={found[-1]['id']}" if found else ""
            extra = "".join(f"&{name}={value}" for name, value in filters.items())
            page = self.read(f"/v1/events?limit=100{cursor}{extra}")
            found += page["data"]
            if not page["has_more"]:
                return found[::-1]

    def told_about(self, *ids: str) -> list[str]:
        """The types of the events whose object is, or belongs to, one of these."""

        def concerns(event: dict[str, Any]) -> bool:
            about = event["data"]["object"]
            return bool({about.get("id"), about.get("customer"), about.get("invoice")} & set(ids))

        return [event["type"] for event in self.events() if concerns(event)]

    def problems(self) -> list[str]:
        """What Stripe's own types have against anything that this sandbox holds."""
        found = [f"{event['type']}: {problem}" for event in self.events() for problem in check_event(event)]
        for path in LISTS:
            for customer in ["", *(f"&customer={doc['id']}" for doc in self._customers())]:
                if customer and path in {
                    "products",
                    "prices",
                    "coupons",
                    "tax_rates",
                    "webhook_endpoints",
                    "refunds",
                }:
                    continue
                status, page, _ = self.ask("GET", f"/v1/{path}?limit=100{customer}")
                rows = page["data"] if status == 200 else []
                found += [f"{row['id']}: {problem}" for row in rows for problem in check_object(row)]
        return sorted(set(found))

    def _customers(self) -> list[dict[str, Any]]:
        clocks = [clock["id"] for clock in self.read("/v1/test_helpers/test_clocks?limit=100")["data"]]
        filters = ["", *(f"&test_clock={clock}" for clock in clocks)]
        return [row for extra in filters for row in self.read(f"/v1/customers?limit=100{extra}")["data"]]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(*arguments: str, port: int | None = None) -> Local:
    """Start a sandbox and wait for its word that it is ready."""
    chosen = port or free_port()
    command = [sys.executable, "-m", "sandbox", "--port", str(chosen), *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    local = Local(f"http://127.0.0.1:{chosen}", process)

    def answers() -> bool:
        assert process.poll() is None, "the sandbox ended at its start"
        try:
            return local.ask("GET", "/_sandbox/ready")[0] == 200
        except OSError:
            return False

    await_(answers, "the start")
    return local


@contextmanager
def sandbox(*arguments: str) -> Iterator[Local]:
    """A sandbox for the block."""
    local = start(*arguments)
    try:
        yield local
    finally:
        local.process.terminate()
        local.process.wait(timeout=10)


@contextmanager
def receiver(*answers: int) -> Iterator[tuple[str, "queue.Queue[tuple[bytes, str]]"]]:
    """An endpoint that gives these answers in turn, then 200 always, and keeps (body, signature)."""
    box: queue.Queue[tuple[bytes, str]] = queue.Queue()
    script = list(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            box.put((body, self.headers["Stripe-Signature"]))
            self.send_response(script.pop(0) if script else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

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
