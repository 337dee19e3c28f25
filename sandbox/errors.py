"""Stripe's error bodies: one exception, and constructors for the refusals that occur often."""

from dataclasses import dataclass, field
from typing import Any

from . import Doc

DOC_URL = "https://stripe.com/docs/error-codes"


@dataclass
class ApiError(Exception):
    """A refusal with Stripe's status and body.

    `keeps_effects` says that what the request did so far stays done (a declined payment is recorded);
    otherwise the transaction is rolled back. `saved` says whether an idempotency key remembers it.
    """

    status: int
    type: str
    message: str
    code: str | None = None
    param: str | None = None
    extra: Doc = field(default_factory=dict)
    keeps_effects: bool = False
    saved: bool = True
    headers: dict[str, str] = field(default_factory=dict)

    def body(self, request_id: str) -> dict[str, Any]:
        error: Doc = {"type": self.type, "message": self.message}
        if self.code:
            error["code"] = self.code
            error["doc_url"] = f"{DOC_URL}/{self.code.replace('_', '-')}"
        if self.param:
            error["param"] = self.param
        error |= self.extra
        error["request_log_url"] = f"https://dashboard.stripe.com/test/logs/{request_id}"
        return {"error": error}


def invalid(message: str, *, param: str | None = None, code: str | None = None) -> ApiError:
    """400: the request is well formed, but may not be done."""
    return ApiError(400, "invalid_request_error", message, code=code, param=param)


def malformed(message: str, *, param: str | None = None, code: str | None = None) -> ApiError:
    """400 before anything ran: no idempotency key remembers it."""
    return ApiError(400, "invalid_request_error", message, code=code, param=param, saved=False)


def missing(kind: str, object_id: str, *, param: str = "id", status: int = 404) -> ApiError:
    """The object does not exist: 404 in the path, 400 when a parameter names it."""
    noun = kind.rpartition(".")[2].replace("_", " ")
    return ApiError(
        status,
        "invalid_request_error",
        f"No such {noun}: '{object_id}'",
        code="resource_missing",
        param=param,
    )


def unauthorized(message: str) -> ApiError:
    return ApiError(401, "invalid_request_error", message, saved=False)


def key_reused(key: str) -> ApiError:
    return ApiError(
        400,
        "idempotency_error",
        f"Keys for idempotent requests can only be used with the same parameters they were first used with. "
        f"Try using a key other than '{key}' if you meant to execute a different request.",
        saved=False,
    )


def key_in_use(key: str) -> ApiError:
    return ApiError(
        409,
        "idempotency_error",
        f"There is currently another in-progress request using this Idempotent Key '{key}' (that probably "
        f"means you submitted twice, and the other request is still going through): please try again later.",
        code="idempotency_key_in_use",
        saved=False,
    )


def rate_limited() -> ApiError:
    return ApiError(
        429,
        "invalid_request_error",
        "Request rate limit exceeded. You can learn more about rate limits here "
        "https://stripe.com/docs/rate-limits.",
        code="rate_limit",
        saved=False,
    )


def lock_timeout() -> ApiError:
    return ApiError(
        429,
        "invalid_request_error",
        "This object cannot be accessed right now because another API request or Stripe process is currently "
        "accessing it. If you see this error intermittently, retry the request.",
        code="lock_timeout",
        saved=False,
    )


def server_error() -> ApiError:
    return ApiError(
        500,
        "api_error",
        "Sorry! There was an error while talking to one of our backends. Support is notified.",
    )
