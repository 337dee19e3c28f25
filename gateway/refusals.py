"""Stripe's exceptions -> ours. The texts are scrubbed: an SDK message can quote the key it was given."""

import re

import stripe

from gateway.errors import (
    Declined,
    GatewayError,
    KeyReused,
    Misconfigured,
    Refused,
    Throttled,
    Unreachable,
)

# Keys and secrets in every form that Stripe writes them, the half-masked ones of its 401 text included.
_SECRET = re.compile(r"\b(?:[spr]k_(?:live|test)|whsec|mk_\w+?|\w+_secret)_[\w*]+")

# Codes that say "the customer must act", whatever the HTTP status (docs.stripe.com/error-codes).
_ACTION_CODES = frozenset(
    {
        "authentication_required",
        "invoice_payment_intent_requires_action",
        "subscription_payment_intent_requires_action",
    }
)


def scrubbed(text: str | None) -> str:
    """`text` without keys, secrets or client secrets, and of a length that fits a row."""
    return _SECRET.sub("[secret]", text or "no message")[:1000]


def sorted_out(refusal: stripe.StripeError) -> GatewayError:
    """The child of GatewayError that tells the caller what to do about `refusal`.

    Status codes decide, the SDK's classes only where there was no answer: a proxy's 502 page, a 200 that
    is no JSON and a cut connection are the same to us, the outcome is unknown.
    """
    request_id = refusal.request_id
    message = scrubbed(refusal.user_message)
    status = refusal.http_status
    if isinstance(refusal, stripe.RateLimitError):
        return Throttled(message, retry_after_s=_retry_after_s(refusal), request_id=request_id)
    if isinstance(refusal, stripe.APIConnectionError) or status is None or not _is_final(status):
        return Unreachable(
            message, saved=_header(refusal, "idempotent-replayed") == "true", request_id=request_id
        )
    if isinstance(refusal, (stripe.AuthenticationError, stripe.PermissionError)):
        return Misconfigured(_misconfigured_text(status), request_id=request_id)
    if isinstance(refusal, stripe.IdempotencyError):
        return KeyReused(message, request_id=request_id)
    if isinstance(refusal, stripe.CardError) or _word(refusal, "code") in _ACTION_CODES:
        return _declined(refusal, message)
    return Refused(
        message,
        code=_word(refusal, "code") or ("resource_missing" if status == 404 else "invalid_request"),
        param=_word(refusal, "param"),
        request_id=request_id,
    )


def _is_final(status: int) -> bool:
    # 409: the first call with this key is still running, so neither its answer nor its effect is known.
    return 400 <= status < 500 and status != 409


def _declined(refusal: stripe.StripeError, message: str) -> Declined:
    code = _word(refusal, "code") or "card_declined"
    decline_code = _word(refusal, "decline_code")
    intent = getattr(refusal.error, "payment_intent", None)
    return Declined(
        message,
        code=code,
        decline_code=decline_code,
        advice_code=_word(refusal, "advice_code"),
        payment_intent_id=intent if isinstance(intent, str) else getattr(intent, "id", None),
        requires_action=code in _ACTION_CODES or decline_code in _ACTION_CODES,
        request_id=refusal.request_id,
    )


def _word(refusal: stripe.StripeError, name: str) -> str | None:
    # The exception's own `code` is None for some classes; the error body always has it.
    value = getattr(refusal.error, name, None) or getattr(refusal, name, None)
    return value if isinstance(value, str) else None


def _retry_after_s(refusal: stripe.StripeError) -> int | None:
    value = _header(refusal, "retry-after")
    return int(value) if value is not None and value.isdecimal() else None


def _misconfigured_text(status: int) -> str:
    if status == 401:
        return "Stripe does not accept this API key"
    return "this API key is not allowed to do that; a restricted key needs the permission"


def _header(refusal: stripe.StripeError, name: str) -> str | None:
    return next((value for key, value in (refusal.headers or {}).items() if key.lower() == name), None)
