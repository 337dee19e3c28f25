"""Before Flask: usage POSTs that are plain in every respect are stored and answered here.

Flask costs more than everything else of a single event's POST (docs/performance.md). What the lane does
not take - another key, a header or body that is less than plain, a limit used up, anything wrong - goes to
Flask whole, so that each refusal is said in one place.
"""

import time
from collections.abc import Iterable, Mapping
from io import BytesIO
from typing import TYPE_CHECKING, Any

import msgspec
from werkzeug.sansio.utils import host_is_trusted

from billing.errors import BillingError
from tasks.context import Context
from tasks.keys import Caller
from tasks.plain_usage import plain_events
from tasks.usage import AcceptedBatch, accept_checked, body_digest
from web import shapes
from web.auth import Doorkeeper
from web.idempotency import check_key
from web.log import request_id, write_line
from web.usage import TRACK

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_PATHS = frozenset((TRACK.path, TRACK.path.rstrip("/")))
_ENCODER = msgspec.json.Encoder()


class FastLane:
    """The WSGI application in front of Flask's."""

    def __init__(
        self,
        app: "WSGIApplication",
        context: Context,
        doorkeeper: Doorkeeper,
        headers: Mapping[str, str],
        trusted_hosts: Iterable[str],
    ) -> None:
        self._app = app
        self._context = context
        self._doorkeeper = doorkeeper
        self._headers = [("Content-Type", "application/json"), *headers.items()]
        self._trusted = list(trusted_hosts)

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        if environ["PATH_INFO"] not in _PATHS or not self._is_plain(environ):
            return self._app(environ, start_response)
        begun = time.perf_counter_ns()
        caller = self._doorkeeper.recall(environ.get("HTTP_AUTHORIZATION", ""), TRACK)
        if caller is None:
            return self._app(environ, start_response)
        raw = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        batch = self._accepted(caller, raw, environ.get("HTTP_IDEMPOTENCY_KEY"))
        if batch is None:
            return self._app({**environ, "wsgi.input": BytesIO(raw)}, start_response)
        line = {
            "bytes_in": len(raw),
            "duration_ms": (time.perf_counter_ns() - begun) // 1_000_000,
            "key_id": caller.key_id,
        }
        return self._answer(environ, start_response, batch, line)

    def _is_plain(self, environ: "WSGIEnvironment") -> bool:
        length = environ.get("CONTENT_LENGTH") or ""
        return (
            environ["REQUEST_METHOD"] == "POST"
            and length.isascii()
            and length.isdigit()
            and 0 < int(length) <= TRACK.max_body
            and environ.get("CONTENT_TYPE") == "application/json"
            and "HTTP_CONTENT_ENCODING" not in environ
            and "HTTP_TRANSFER_ENCODING" not in environ
            and host_is_trusted(environ.get("HTTP_HOST"), self._trusted)
        )

    def _accepted(self, caller: Caller, raw: bytes, key: str | None) -> AcceptedBatch | None:
        product_id = caller.product_id
        assert product_id is not None, "only a product's key comes here"
        events = plain_events(self._context, product_id, raw)
        if events is None or not self._doorkeeper.counts(caller, TRACK):
            return None
        try:
            own_key = None if key is None else check_key(key)
            return accept_checked(self._context, product_id, events, own_key, body_digest(raw))
        except BillingError:
            return None  # Flask finds the same, and says it

    def _answer(
        self,
        environ: "WSGIEnvironment",
        start_response: "StartResponse",
        batch: AcceptedBatch,
        line: dict[str, Any],
    ) -> Iterable[bytes]:
        body = _ENCODER.encode(shapes.AcceptedBatch(batch.batch_id, batch.accepted))
        own_id = request_id(environ.get("HTTP_X_REQUEST_ID", ""))
        start_response(
            "202 ACCEPTED",
            [*self._headers, ("Content-Length", str(len(body))), ("X-Request-ID", own_id)],
        )
        write_line(
            {
                "request_id": own_id,
                "method": "POST",
                "path": environ["PATH_INFO"],
                "status": 202,
                "remote": environ.get("REMOTE_ADDR"),
                **line,
            }
        )
        return [body]
