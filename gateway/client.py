"""One client of Stripe: sends stored requests under stored keys, and reads objects as plain dicts."""

import json
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

import stripe

from gateway.errors import GatewayError, Refused, Throttled
from gateway.operations import FETCHES, LISTS, NESTED_LISTS, OPERATIONS, Route
from gateway.refusals import sorted_out
from gateway.requests import Request

# The version whose shapes the installed SDK is generated for; endpoints are created with it too.
API_VERSION: str = stripe.api_version or ""

_NETWORK_RETRIES = 2  # the SDK's own default of a client is 0, and of its module 2
# What the SDK does not repeat is a 429: nothing was done, and a moment later it mostly is. Seconds between
# tries, halved at random so that many callers do not come back together; beyond that the caller waits.
_THROTTLED_PAUSES_S = (0.5, 1.5)
_TIMEOUTS_S = (5, 20)  # connect, read; the SDK's default is 80, longer than a job's lease allows
_PAGE_SIZE = 100
_MAX_KEY_LENGTH = 255


class Limiter(Protocol):
    """What keeps us inside Stripe's rate limits: see gateway.ratelimit.RateLimiter."""

    def acquire(self, endpoint: str) -> None:
        """Return when a call to `endpoint` may be made. Raises Throttled when that would take too long."""


@dataclass(frozen=True, slots=True)
class Reply:
    """Stripe's answer: `object` as plain JSON (decimals are strings), `request_id` for its support."""

    object: dict[str, Any]
    request_id: str | None


@dataclass(frozen=True, slots=True)
class ConnectionReport:
    """Whose account answers, in which mode, in which API version, and how fast."""

    account_id: str
    livemode: bool
    api_version: str
    latency_ms: int


class StripeGateway:
    """A door to one Stripe account. Thread-safe; build it once per process, after the fork.

    `api_base` None is Stripe itself; another address is a local Stripe. `wall` is the clock that latencies
    are measured by. `limiter` None means that no rate limit is kept (a local Stripe).
    """

    def __init__(
        self,
        api_key: str,
        *,
        api_base: str | None,
        wall: Callable[[], datetime],
        limiter: Limiter | None,
    ) -> None:
        if not api_key.strip():
            raise ValueError("the Stripe API key is empty")
        # Global in the SDK: no metrics headers, and no id written under the user's home folder.
        stripe.enable_telemetry = False
        self._livemode = api_key.startswith(("sk_live_", "rk_live_"))
        self._wall = wall
        self._limiter = limiter
        self._client = stripe.StripeClient(
            api_key,
            max_network_retries=_NETWORK_RETRIES,
            base_addresses={"api": api_base.rstrip("/")} if api_base else {},
            http_client=stripe.RequestsClient(timeout=_TIMEOUTS_S),
        )

    @property
    def livemode(self) -> bool:
        """Whether the key moves real money."""
        return self._livemode

    def send(self, request: Request, idempotency_key: str) -> Reply:
        """Do `request` once, however often it is sent with the same `idempotency_key`.

        Raises: a child of GatewayError; after Unreachable the effect may or may not have happened.
        Stripe keeps no key for DELETE, so a repeated deletion or cancellation that finds its work done
        answers with the state it found.
        """
        if not 0 < len(idempotency_key) <= _MAX_KEY_LENGTH:
            raise ValueError(f"an idempotency key has 1 to {_MAX_KEY_LENGTH} characters")
        route = OPERATIONS[request.operation]
        try:
            return self._call(request.operation, route, request.object_id, request.params, idempotency_key)
        except Refused as refusal:
            if route.method != "delete" or refusal.code != "resource_missing":
                raise
            return self._already_gone(request, refusal)

    def fetch(self, kind: str, object_id: str, expand: Sequence[str] = ()) -> dict[str, Any]:
        """The current state of one object; embedded lists (lines, items) are completed past their first page.

        `kind` is a key of operations.FETCHES; an "account" ignores `object_id`.
        Raises: Refused with code resource_missing when there is no such object.
        """
        params = {"expand": list(expand)} if expand else {}
        found = self._call(f"fetch_{kind}", FETCHES[kind], object_id, params).object
        for name in ("lines", "items"):
            page = found.get(name)
            if isinstance(page, dict) and page.get("has_more"):
                page["data"] = list(self._pages(f"list_{kind}_{name}", Route("get", page["url"]), None, {}))
                page["has_more"] = False
        return found

    def list(self, kind: str, params: Mapping[str, Any] | None = None) -> Iterator[dict[str, Any]]:
        """Every object of `kind` that `params` let through, newest first, page by page as it is read.

        `kind` is a key of operations.LISTS or NESTED_LISTS; nested ones need their parent's id in `params`.
        """
        rest = dict(params or {})
        if kind in NESTED_LISTS:
            parent, route = NESTED_LISTS[kind]
            return self._pages(f"list_{kind}", route, str(rest.pop(parent)), rest)
        return self._pages(f"list_{kind}", LISTS[kind], None, rest)

    def test_connection(self) -> ConnectionReport:
        """Ask Stripe who we are. Raises Misconfigured for a bad key, Unreachable for no answer."""
        started_at = self._wall()
        account = self._call("fetch_account", FETCHES["account"], None, {}).object
        took = self._wall() - started_at
        return ConnectionReport(
            account_id=str(account["id"]),
            livemode=self._livemode,
            api_version=API_VERSION,
            latency_ms=took // timedelta(milliseconds=1),
        )

    def _pages(
        self, endpoint: str, route: Route, object_id: str | None, params: dict[str, Any]
    ) -> Iterator[dict[str, Any]]:
        asked = {"limit": _PAGE_SIZE, **params}
        while True:
            page = self._call(endpoint, route, object_id, asked).object
            yield from page["data"]
            if not page["has_more"] or not page["data"]:
                return
            asked = {**asked, "starting_after": page["data"][-1]["id"]}

    def _already_gone(self, request: Request, refusal: Refused) -> Reply:
        if request.operation != "cancel_subscription":
            return Reply({"id": request.object_id, "deleted": True}, refusal.request_id)
        found = self.fetch("subscription", str(request.object_id))
        if found["status"] not in ("canceled", "incomplete_expired"):
            raise refusal
        return Reply(found, refusal.request_id)

    def _call(
        self,
        endpoint: str,
        route: Route,
        object_id: str | None,
        params: Mapping[str, Any],
        idempotency_key: str | None = None,
    ) -> Reply:
        for pause_s in _THROTTLED_PAUSES_S:
            try:
                return self._call_once(endpoint, route, object_id, params, idempotency_key)
            except Throttled as refusal:
                if refusal.retry_after_s is not None and refusal.retry_after_s > pause_s:
                    raise
                time.sleep(pause_s * random.uniform(0.5, 1))  # noqa: S311 - spreads load, hides nothing
        return self._call_once(endpoint, route, object_id, params, idempotency_key)

    def _call_once(
        self,
        endpoint: str,
        route: Route,
        object_id: str | None,
        params: Mapping[str, Any],
        idempotency_key: str | None,
    ) -> Reply:
        url = route.url(object_id)
        if self._limiter is not None:
            self._limiter.acquire(endpoint)
        # A parameter named like one of the SDK's options would be taken for the option.
        options = {"idempotency_key": idempotency_key} if idempotency_key and route.method == "post" else {}
        failure: GatewayError
        try:
            response = self._client.raw_request(route.method, url, **params, **options)
        except stripe.StripeError as refusal:
            failure = sorted_out(refusal)
        else:
            return Reply(json.loads(response.body), response.headers.get("request-id"))
        # Raised out here, so that the SDK's exception (headers, body) is not chained to ours.
        raise failure
