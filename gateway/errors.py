"""Stripe's refusals, sorted by what the caller must do next. No message carries a key or a secret."""

from typing import Any, Self

from billing.errors import BillingError


class GatewayError(BillingError):
    """Anything that Stripe, or the way to Stripe, refused. `request_id` is Stripe's, for its support.

    Errors: every child says in its first line what to do; `message` is safe to store and to show to staff.
    """

    code = "gateway_error"

    def __init__(self, message: str, *, request_id: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.request_id = request_id

    @classmethod
    def _restored(cls, message: str, state: dict[str, Any]) -> Self:
        error = cls.__new__(cls, message)
        error.__dict__.update(state)
        return error

    def __reduce__(self) -> tuple[Any, ...]:
        # Worker processes pickle exceptions; the default would call us without our keyword arguments.
        return type(self)._restored, (self.message, self.__dict__.copy())


class Throttled(GatewayError):
    """Wait, then send the same again under the same key: nothing was executed (HTTP 429, or our own limiter).

    `retry_after_s`: whole seconds that Stripe asks for, None when it does not say.
    A throttled dunning attempt is no attempt.
    """

    code = "throttled"

    def __init__(
        self, message: str, *, retry_after_s: int | None = None, request_id: str | None = None
    ) -> None:
        super().__init__(message, request_id=request_id)
        self.retry_after_s = retry_after_s


class Unreachable(GatewayError):
    """The outcome is unknown: send the same again under the same key, or look the object up.

    Network failure, timeout, HTTP 409 (the first call is still running) and HTTP 5xx: the effect may
    have happened. A key older than 23 hours must be looked up, never sent again: Stripe forgets keys.
    `saved` is true when Stripe repeated a stored 5xx: it will say so for a day whatever had happened,
    and only a look at the object tells.
    """

    code = "unreachable"

    def __init__(self, message: str, *, saved: bool = False, request_id: str | None = None) -> None:
        super().__init__(message, request_id=request_id)
        self.saved = saved


class Declined(GatewayError):
    """The bank said no, or wants the customer: a business result, never a blind retry (HTTP 402).

    `code`, `decline_code`, `advice_code` are Stripe's words (docs.stripe.com/declines/codes).
    `requires_action` is true when the customer has to authenticate (3-D Secure); a new try without
    the customer will be declined again.
    """

    code: str  # type: ignore[misc]  # here the machine-readable word is Stripe's, one per answer

    def __init__(
        self,
        message: str,
        *,
        code: str,
        decline_code: str | None = None,
        advice_code: str | None = None,
        payment_intent_id: str | None = None,
        requires_action: bool = False,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message, request_id=request_id)
        self.code = code
        self.decline_code = decline_code
        self.advice_code = advice_code
        self.payment_intent_id = payment_intent_id
        self.requires_action = requires_action


class Refused(GatewayError):
    """Final: the same request is refused for ever; a person or another request is needed (HTTP 400, 404)."""

    code: str  # type: ignore[misc]  # here the machine-readable word is Stripe's, one per answer

    def __init__(
        self, message: str, *, code: str, param: str | None = None, request_id: str | None = None
    ) -> None:
        super().__init__(message, request_id=request_id)
        self.code = code
        self.param = param
        self.field = param


class Misconfigured(GatewayError):
    """Page someone: the key is wrong, revoked, or not allowed to do this (HTTP 401, 403)."""

    code = "misconfigured"


class KeyReused(GatewayError):
    """A fault of ours: this idempotency key was used with other parameters. Never retried (HTTP 400)."""

    code = "idempotency_key_reused"


class InvalidSignature(BillingError):
    """A webhook whose signature, time or shape does not prove that Stripe sent it."""

    code = "invalid_signature"


class UnknownVersion(BillingError):
    """A payload in an API version whose shapes we have not learnt: park it, never guess."""

    code = "unknown_api_version"

    def __init__(self, version: str | None) -> None:
        super().__init__(f"API version {version!r} is not one whose shapes are known", field="api_version")
        self.version = version

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.version,)


class MalformedPayload(BillingError):
    """A payload that lacks what every supported version carries. `field` is the path that failed."""

    code = "malformed_payload"
