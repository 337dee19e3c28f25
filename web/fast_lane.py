"""Before Flask: the two busy doors, for requests that are plain in every respect.

Flask costs more than everything else of a single event's POST (docs/performance.md). What a lane does not
take - a key that must be looked up, a header or body that is less than plain, a limit used up, anything
wrong - goes to Flask whole, so that each refusal is said in one place.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec
from werkzeug.sansio.utils import host_is_trusted

from tasks.context import Context
from tasks.plain_usage import plain_events
from tasks.usage import accept_checked, body_digest
from tasks.webhooks import accept_event
from web import shapes
from web.auth import Doorkeeper
from web.calls import Route
from web.idempotency import check_key
from web.log import request_id, write_line
from web.usage import TRACK
from web.webhooks import RECEIVE

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger("dunlin.web")

_ENCODER = msgspec.json.Encoder()
_STATUS = {200: "200 OK", 202: "202 ACCEPTED"}


@dataclass(frozen=True, slots=True)
class Taken:
    """What a lane answers, and whose key it was."""

    body: msgspec.Struct
    key_id: UUID | None = None


# The request's environment and body; None: Flask's.
Lane = Callable[["WSGIEnvironment", bytes], Taken | None]


class FastLane:
    """The WSGI application in front of Flask's."""

    def __init__(
        self,
        app: "WSGIApplication",
        lanes: Mapping[str, tuple[Route, Lane]],
        headers: Mapping[str, str],
        trusted_hosts: Iterable[str],
    ) -> None:
        self._app = app
        self._lanes = lanes
        self._headers = [("Content-Type", "application/json"), *headers.items()]
        self._trusted = list(trusted_hosts)

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        found = self._lanes.get(environ["PATH_INFO"])
        if found is None or not self._is_plain(environ, found[0]):
            return self._app(environ, start_response)
        route, lane = found
        begun = time.perf_counter_ns()
        raw = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        taken = _taken(lane, environ, raw)
        if taken is None:
            return self._app({**environ, "wsgi.input": BytesIO(raw)}, start_response)
        body, own_id = _ENCODER.encode(taken.body), request_id(environ.get("HTTP_X_REQUEST_ID", ""))
        headers = [*self._headers, ("Content-Length", str(len(body))), ("X-Request-ID", own_id)]
        start_response(_STATUS[route.status], headers)
        write_line(
            {
                "request_id": own_id,
                "method": route.method,
                "path": environ["PATH_INFO"],
                "status": route.status,
                "duration_ms": (time.perf_counter_ns() - begun) // 1_000_000,
                "bytes_in": len(raw),
                "remote": environ.get("REMOTE_ADDR"),
                "key_id": taken.key_id,
            }
        )
        return [body]

    def _is_plain(self, environ: "WSGIEnvironment", route: Route) -> bool:
        length = environ.get("CONTENT_LENGTH") or ""
        return (
            environ["REQUEST_METHOD"] == route.method
            and length.isascii()
            and length.isdigit()
            and 0 < int(length) <= route.max_body
            and environ.get("CONTENT_TYPE", "").partition(";")[0] == "application/json"
            and "HTTP_CONTENT_ENCODING" not in environ
            and "HTTP_TRANSFER_ENCODING" not in environ
            and host_is_trusted(environ.get("HTTP_HOST"), self._trusted)
        )


def _taken(lane: Lane, environ: "WSGIEnvironment", raw: bytes) -> Taken | None:
    try:
        return lane(environ, raw)
    except Exception as error:  # noqa: BLE001 - Flask finds the same, and says it
        log.info("left to the slow lane: %s", type(error).__name__)
        return None


def lanes(context: Context, doorkeeper: Doorkeeper) -> dict[str, tuple[Route, Lane]]:
    """Path -> its route and lane; a missing slash at the end is as good, as in Flask."""

    def track(environ: "WSGIEnvironment", raw: bytes) -> Taken | None:
        caller = doorkeeper.recall(environ.get("HTTP_AUTHORIZATION", ""), TRACK)
        if caller is None:
            return None
        product_id = caller.product_id
        assert product_id is not None, "only a product's key comes here"
        events = plain_events(context, product_id, raw)
        if events is None or not doorkeeper.counts(caller, TRACK):
            return None
        key = environ.get("HTTP_IDEMPOTENCY_KEY")
        own_key = None if key is None else check_key(key)
        batch = accept_checked(context, product_id, events, own_key, body_digest(raw))
        return Taken(shapes.AcceptedBatch(batch.batch_id, batch.accepted), caller.key_id)

    def receive(environ: "WSGIEnvironment", raw: bytes) -> Taken:
        accept_event(context, raw, environ.get("HTTP_STRIPE_SIGNATURE", ""))
        return Taken(shapes.Received(received=True))

    ways = ((TRACK, track), (RECEIVE, receive))
    return {path: (route, lane) for route, lane in ways for path in (route.path, route.path.rstrip("/"))}
