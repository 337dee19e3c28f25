"""From a Flask request to a view's call, and back: the guard, the caps, the decoding, the encoding."""

from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

import msgspec
from flask import Response, g, request
from werkzeug.exceptions import RequestEntityTooLarge

from billing.errors import NotFound
from billing.metering import FieldError
from models.base import new_id
from tasks.context import Context
from web import strict_json
from web.auth import Doorkeeper
from web.calls import Answer, Call, Route
from web.idempotency import answered_once, check_key, digest_of
from web.problems import InvalidFields, UnsupportedBody
from web.typed import typed


def view_of(route: Route, context: Context, doorkeeper: Doorkeeper) -> Callable[..., Response]:
    """The Flask view of a row of the route table."""
    started_at = context.wall()

    def view(**path: str) -> Response:
        # One byte more: a chunked body beyond the limit would silently be cut off at it.
        request.max_content_length = route.max_body + 1
        caller = doorkeeper.admit(request.headers.get("Authorization", ""), route, request.remote_addr or "")
        g.caller = caller
        raw = _body(route.max_body) if route.method != "GET" else b""
        call = Call(
            context=context,
            caller=caller,
            path=_storable(path),
            query=_storable_query(),
            headers=request.headers,
            raw=raw,
            body=typed(strict_json.decode(raw) if raw.strip() else {}, route.body) if route.body else None,
            started_at=started_at,
            intention=new_id(),
        )
        return _response(_answer(route, call))

    return view


def _answer(route: Route, call: Call) -> Answer:
    key = request.headers.get("Idempotency-Key")
    if key is None or not route.takes_key or not route.keeps_answer:
        return route.view(call)
    digest = digest_of(f"{route.method} {request.path.rstrip('/')}", call.raw)
    principal = call.known().principal

    def give(intention: UUID) -> Answer:
        return route.view(replace(call, intention=intention))

    return answered_once(call.context, principal, check_key(key), digest, give)


def _body(max_body: int) -> bytes:
    """The request's body, within the route's cap. Raises UnsupportedBody, and a 413 above the cap."""
    # A compressed body could unfold to any size behind the cap.
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UnsupportedBody("send the body without Content-Encoding")
    raw = request.get_data(cache=False)
    if len(raw) > max_body:
        raise RequestEntityTooLarge
    if raw and request.mimetype not in ("", "application/json"):
        raise UnsupportedBody("send the body as application/json")
    return raw


def _storable(path: dict[str, str]) -> dict[str, str]:
    """Path segments; one that no text column can hold names nothing that exists."""
    if any("\0" in value for value in path.values()):
        raise NotFound("not found")
    return path


def _storable_query() -> dict[str, str]:
    query = request.args.to_dict()
    for name, value in query.items():
        if "\0" in value or len(value) > 1_000:
            raise InvalidFields([FieldError(name, "is not a usable value")])
    return query


def _response(answer: Answer) -> Response:
    if answer.status == 204:
        response = Response(status=204)
    else:
        body = answer.body if isinstance(answer.body, bytes) else msgspec.json.encode(answer.body)
        response = Response(body, answer.status, content_type=answer.content_type)
    response.headers.update(answer.headers)
    return response
