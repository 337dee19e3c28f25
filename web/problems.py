"""Refusals as problem documents (RFC 9457): the only place that knows status codes."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec
from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from billing.errors import (
    BillingError,
    Conflict,
    CurrencyMismatch,
    InvalidTerms,
    InvalidUsage,
    NotFound,
    RefusedTransition,
    UnderWay,
)
from billing.metering import FieldError
from gateway.errors import (
    Declined,
    InvalidSignature,
    KeyReused,
    MalformedPayload,
    Misconfigured,
    Refused,
    Throttled,
    UnknownVersion,
    Unreachable,
)
from models.database import OrganizationBusy, UnsafeDatabaseRole
from models.reading import DATABASE_AWAY
from tasks.queue import TryLater
from tasks.settings import BadSetting
from web.ratelimit import CountingAway, TooMany

log = logging.getLogger("dunlin.web")

PROBLEM_TYPE = "application/problem+json"


class BadRequest(BillingError):
    """The request cannot be read at all."""

    code = "bad_request"


class InvalidFields(BillingError):
    """The request was read, and one or more of its fields are wrong; each is named."""

    code = "invalid"

    def __init__(self, errors: Sequence[FieldError]) -> None:
        super().__init__("some fields are not valid")
        self.errors = list(errors)


class Unauthenticated(BillingError):
    """No key, or one that is unknown, expired or revoked: the three look the same."""

    code = "unauthenticated"


class Forbidden(BillingError):
    """A valid key of a kind that may not do this."""

    code = "forbidden"


class UnsupportedBody(BillingError):
    """A body in a type or encoding that is not read here."""

    code = "unsupported_body"


@dataclass(frozen=True, slots=True)
class Kind:
    """How one sort of refusal is told: its status and title; `retry_after_s` when waiting helps."""

    status: int
    title: str
    retry_after_s: int | None = None


INVALID = Kind(422, "The request is not valid")
AWAY = Kind(503, "Not available at the moment", retry_after_s=5)
BUSY = Kind(503, "Something before it is under way", retry_after_s=1)
FAILED = Kind(500, "Something went wrong here")

# The most specific class first: the first that fits tells the refusal.
_KINDS: tuple[tuple[type[BillingError], Kind], ...] = (
    (BadRequest, Kind(400, "The request cannot be read")),
    (InvalidSignature, Kind(400, "The signature is not valid")),
    (UnknownVersion, Kind(400, "The payload's version is not known")),
    (MalformedPayload, Kind(400, "The payload is malformed")),
    (Unauthenticated, Kind(401, "A valid key is required")),
    (Declined, Kind(402, "The payment was declined")),
    (Forbidden, Kind(403, "This key may not do this")),
    (NotFound, Kind(404, "Not found")),
    (UnderWay, Kind(409, "Something before it is under way", retry_after_s=1)),
    (Conflict, Kind(409, "In conflict with what is stored")),
    (RefusedTransition, Kind(409, "The current state does not allow this")),
    (UnsupportedBody, Kind(415, "The body's type or encoding is not supported")),
    (InvalidFields, INVALID),
    (InvalidUsage, INVALID),
    (InvalidTerms, INVALID),
    (CurrencyMismatch, INVALID),
    (Refused, Kind(422, "The payment provider refused the request")),
    (TooMany, Kind(429, "Too many requests")),
    (CountingAway, AWAY),
    (OrganizationBusy, BUSY),
    (TryLater, BUSY),
    (Throttled, Kind(503, "The payment provider is busy", retry_after_s=5)),
    (Unreachable, Kind(503, "The payment provider cannot be reached", retry_after_s=5)),
    (Misconfigured, Kind(502, "The payment provider refused our credentials")),
    (KeyReused, FAILED),
    (UnsafeDatabaseRole, FAILED),
    (BadSetting, FAILED),
)

# Their messages speak of our insides, or are the provider's and meant for staff.
_SILENT = (Misconfigured, KeyReused, UnsafeDatabaseRole, BadSetting, Unreachable, Throttled)


def kind_of(error: BillingError) -> Kind:
    """How a refusal is told; a refusal without a status of its own is a 422."""
    kind = next((kind for refusal, kind in _KINDS if isinstance(error, refusal)), INVALID)
    return replace(kind, retry_after_s=error.retry_after_s) if isinstance(error, TooMany) else kind


def install(app: Flask) -> None:
    """Make every refusal and failure of the API a problem document."""
    app.register_error_handler(BillingError, _refused)
    app.register_error_handler(HTTPException, _http)
    for error in DATABASE_AWAY:
        app.register_error_handler(error, _database_away)
    app.register_error_handler(Exception, _failed)


def told(error: BillingError) -> tuple[Kind, dict[str, object]]:
    """A refusal as its kind and the content of its problem document."""
    kind = kind_of(error)
    errors: list[FieldError] = list(getattr(error, "errors", ()))
    # A 404 names no field: what is unknown, malformed or another's must look exactly alike. A refusal of
    # the provider's names its own parameter, which is none of the caller's.
    if not errors and error.field is not None and kind.status != 404 and not isinstance(error, Refused):
        errors = [FieldError(error.field, str(error))]
    detail = kind.title if isinstance(error, _SILENT) else str(error)
    return kind, _content(kind, error.code, detail, errors)


def problem(kind: Kind, content: dict[str, object]) -> Response:
    """A problem document as a response."""
    response = Response(msgspec.json.encode(content), kind.status, content_type=PROBLEM_TYPE)
    if kind.retry_after_s is not None:
        response.headers["Retry-After"] = str(kind.retry_after_s)
    if kind.status == 401:
        response.headers["WWW-Authenticate"] = 'Bearer realm="dunlin"'
    return response


def _content(kind: Kind, code: str, detail: str, errors: Sequence[FieldError] = ()) -> dict[str, object]:
    content: dict[str, object] = {
        "type": f"urn:dunlin:problem:{code}",
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
    }
    if errors:
        content["errors"] = [_named(error) for error in errors]
    return content


def _named(error: FieldError) -> dict[str, object]:
    place = {} if error.index is None else {"index": error.index}
    return {**place, "field": error.field, "message": error.message}


def _refused(error: BillingError) -> Response:
    kind, content = told(error)
    if kind is BUSY:
        # The caller waits a second and asks again: nobody's failure, though many of them would be news.
        log.info("asked to come again: %s", error)
    elif kind.status >= 500:
        log.error("refused by what we depend on", exc_info=error)
    return problem(kind, content)


def _http(error: HTTPException) -> Response:
    """Flask's own refusals: unknown path, method, host, too large a body."""
    kind = Kind(error.code or 500, error.name)
    code = error.name.lower().replace(" ", "_")
    response = problem(kind, _content(kind, code, error.description or error.name))
    for name, value in error.get_headers():
        if name in ("Allow", "Retry-After"):
            response.headers[name] = value
    return response


def _database_away(error: Exception) -> Response:
    log.error("the database did not answer: %s", type(error).__name__)
    return problem(AWAY, _content(AWAY, "database_away", AWAY.title))


def _failed(error: Exception) -> Response:
    log.error("unexpected failure of %s %s", request.method, request.path, exc_info=error)
    return problem(FAILED, _content(FAILED, "internal", FAILED.title))
