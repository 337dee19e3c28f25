"""One API request from headers to reply: key, version, faults, idempotency, parameters, shape."""

import base64
import binascii
import json
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from . import API_VERSION, Doc, errors, idempotency
from .engine.clock import run_clock
from .errors import ApiError
from .faults import Faults
from .forms import check, parse_body
from .idempotency import InFlight, SavedReply
from .ids import random_token
from .pagination import answer
from .render import open_paths, render_expanded
from .routing import Call, Operation, Page, Rehearsal, Router
from .store import ClockBusy, Store, Tx
from .world import World

CLOCK_PATIENCE_S = 10.0


@dataclass(frozen=True)
class Request:
    """What the web server hands in. `headers` has lower-case names."""

    method: str
    path: str
    query: str
    body: str
    headers: dict[str, str]


@dataclass(frozen=True)
class Reply:
    """What goes back; `hang_up` closes the connection without a word instead."""

    status: int
    body: str
    headers: dict[str, str] = field(default_factory=dict)
    hang_up_after_s: float | None = None


class Calls:
    """How often each operation was asked for since this process began."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def count(self, operation: str) -> None:
        with self._lock:
            self._counts[operation] += 1

    def shown(self) -> dict[str, int]:
        with self._lock:
            return dict(self._counts)


@dataclass(frozen=True)
class Dispatcher:
    """The API behind HTTP: pure of any web framework."""

    store: Store
    router: Router
    faults: Faults
    wall: Callable[[], int]
    base_url: str
    in_flight: InFlight = field(default_factory=InFlight)
    calls: Calls = field(default_factory=Calls)

    def world(self, tx: Tx, request_id: str | None = None, key: str | None = None) -> World:
        return World(tx, self.wall, self.base_url, request_id, key)

    def handle(self, request: Request) -> Reply:
        """Answer a request; every refusal has Stripe's body."""
        request_id = f"req_{random_token(14)}"
        try:
            api_key = _authenticate(request.headers)
            _check_version(request.headers)
            operation, ids = self.router.match(request.method, request.path)
            self.calls.count(operation.name)
            fault = self.faults.for_request(operation.name, api_key)
            _fail_before(fault)
            if fault == "timeout_before":
                return self._silence()
            key = request.headers.get("idempotency-key") if request.method == "POST" else None
            params = parse_body(request.body if request.method == "POST" else request.query)
            with self.in_flight.claim(key):
                job = _Job(self, request, operation, ids, params, request_id, key)
                reply = job.run(forced_error=fault == "http_500_after")
            return self._silence() if fault == "timeout_after" else reply
        except ApiError as error:
            return _shaped(error.status, json.dumps(error.body(request_id)), request_id, error.headers)

    def _silence(self) -> Reply:
        return Reply(0, "", hang_up_after_s=self.faults.timeout_s)

    def start_clock(self, clock_id: str) -> None:
        """Let an advancing test clock live through its time, in a thread of its own."""
        arguments = (self.store, self.world, clock_id)
        threading.Thread(target=run_clock, args=arguments, name=f"clock-{clock_id}", daemon=True).start()


def _authenticate(headers: dict[str, str]) -> str:
    """The API key. Raises: ApiError 401 without a good one."""
    scheme, _, value = headers.get("authorization", "").partition(" ")
    key = value.strip()
    if scheme.lower() == "basic":
        try:
            key = base64.b64decode(value).decode().partition(":")[0]
        except (binascii.Error, UnicodeDecodeError):
            key = ""
    if not key:
        raise errors.unauthorized(
            "You did not provide an API key. You need to provide your API key in the "
            "Authorization header, using "
            "Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY')."
        )
    if key.startswith(("sk_live_", "rk_live_")):
        raise errors.unauthorized("This is a local sandbox: it refuses live mode keys. Use any sk_test_ key.")
    if not key.startswith(("sk_test_", "rk_test_")):
        raise errors.unauthorized(f"Invalid API Key provided: {key[:8]}****")
    return key


def _check_version(headers: dict[str, str]) -> None:
    version = headers.get("stripe-version", API_VERSION)
    if version != API_VERSION:
        raise errors.malformed(
            f"Invalid Stripe API version: {version}. The sandbox speaks {API_VERSION} only."
        )


def _fail_before(fault: str | None) -> None:
    if fault == "http_429":
        raise errors.rate_limited()
    if fault == "http_409":
        raise ApiError(
            409,
            "invalid_request_error",
            "Another request is changing this object.",
            code="lock_timeout",
            saved=False,
        )
    if fault == "http_500_before":
        raise ApiError(**{**vars(errors.server_error()), "saved": False})


def _shaped(status: int, body: str, request_id: str, extra: dict[str, str] | None = None) -> Reply:
    headers = {"Content-Type": "application/json", "Request-Id": request_id, "Stripe-Version": API_VERSION}
    return Reply(status, body, headers | (extra or {}))


@dataclass(frozen=True)
class _Job:
    """One matched request."""

    owner: Dispatcher
    request: Request
    operation: Operation
    ids: tuple[str, ...]
    params: dict[str, Any]
    request_id: str
    key: str | None

    def run(self, *, forced_error: bool) -> Reply:
        """Replay a saved reply, or execute and save. `forced_error` answers 500 although it was done."""
        mark = idempotency.fingerprint(self.request.method, self.request.path, self.params)
        if (saved := self._saved(mark)) is not None:
            extra = {"Idempotent-Replayed": "true", "Original-Request": saved.request_id}
            return self._reply(saved.status, saved.body, extra)
        typed = check(self.params, self.operation.shape)
        while True:
            try:
                return self._execute(typed, mark, forced_error)
            except ClockBusy as busy:
                if not self.owner.store.wait_for_clock(busy.clock, CLOCK_PATIENCE_S):
                    raise errors.lock_timeout() from busy
                # The handler may have changed its parameters before it was stopped.
                typed = check(self.params, self.operation.shape)

    def _saved(self, mark: str) -> SavedReply | None:
        if self.key is None:
            return None
        with self.owner.store.transaction() as tx:
            return idempotency.find(tx, self.key, mark)

    def _execute(self, typed: dict[str, Any], mark: str, forced_error: bool) -> Reply:
        clocks: list[str] = []
        try:
            with self.owner.store.transaction() as tx:
                world = self.owner.world(tx, self.request_id, self.key)
                status, body = self._answer(world, typed)
                if forced_error:
                    status, body = 500, json.dumps(errors.server_error().body(self.request_id))
                self._save(tx, mark, status, body)
                clocks = world.started_clocks
        except Rehearsal as rehearsal:
            return self._reply(200, json.dumps(rehearsal.reply))
        except ApiError as error:
            if error.saved and self.key is not None:
                with self.owner.store.transaction() as tx:
                    self._save(tx, mark, error.status, json.dumps(error.body(self.request_id)))
            raise
        for clock_id in clocks:
            self.owner.start_clock(clock_id)
        return self._reply(status, body)

    def _answer(self, world: World, typed: dict[str, Any]) -> tuple[int, str]:
        """Run the handler. A refusal that keeps its effects (a decline) is an answer like any other."""
        try:
            call = Call(world, self.ids, typed)
            return 200, json.dumps(self._rendered(call, self.operation.handler(call)))
        except ApiError as error:
            if not error.keeps_effects:
                raise
            return error.status, json.dumps(error.body(self.request_id))

    def _rendered(self, call: Call, result: "Doc | Page | tuple[Doc, list[Doc]]") -> Doc:
        expand = call.params.get("expand") or []
        if isinstance(result, Page):
            return open_paths(call.world.tx, answer(call, result), expand)
        if isinstance(result, tuple):
            return open_paths(call.world.tx, result[0], expand)
        return render_expanded(call.world.tx, result, expand)

    def _save(self, tx: Tx, mark: str, status: int, body: str) -> None:
        if self.key is not None:
            reply = SavedReply(status, body, self.request_id)
            idempotency.save(tx, self.key, mark, reply, self.owner.wall())

    def _reply(self, status: int, body: str, extra: dict[str, str] | None = None) -> Reply:
        echoed = {"Idempotency-Key": self.key} if self.key else {}
        return _shaped(status, body, self.request_id, echoed | (extra or {}))
