"""Our words to Stripe: an intention is committed before the call, its outcome after it.

The same key sends the same intention again and never does it twice. No transaction is open while
Stripe is asked.
"""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from billing.errors import BillingError
from gateway.errors import Declined, Refused, Unreachable
from gateway.requests import Request
from models import intentions
from models.ops import StripeCall
from tasks import stripe_finders
from tasks.context import Context

# Stripe may forget a key after 24 hours; an hour is left for clocks that disagree.
_KEY_LIFETIME = timedelta(hours=23)
# Each key but the first follows a failure that Stripe had stored and that had no effect.
_MOST_KEYS = 5
# Secrets that let a browser act for the customer: never stored.
_UNSTORED = frozenset({"client_secret", "confirmation_secret", "secret"})


class Unresolved(BillingError):
    """Stripe may or may not have done this, and it is too late to send it again: a person decides."""

    code = "unresolved_stripe_call"


def call(context: Context, request: Request, key: str, organization_id: UUID | None = None) -> dict[str, Any]:
    """Do `request` at Stripe exactly once under `key`. Returns Stripe's object.

    A repeat returns the stored reply (without secrets), or raises the stored refusal again.
    Raises: Declined, Refused (final); Throttled, Unreachable (the same call may be repeated);
    Unresolved; AssertionError when the key was used for another request.
    """
    for this_key in (key, *(f"{key}:again{number}" for number in range(1, _MOST_KEYS))):
        intention = _prepared(context, request, this_key, organization_id)
        if intention.state == "succeeded":
            assert intention.reply is not None
            return intention.reply
        if intention.state in ("declined", "refused"):
            raise _restored(intention)
        if intention.state != "without_effect":
            return _resolved(context, intention, request)
    raise Unresolved(f"{request.operation} {key} met {_MOST_KEYS} failures of Stripe that left no trace")


def first_said(context: Context, request: Request, key: str) -> Request:
    """The request that `key` has named since it was first used; `request` when it is new.

    For intentions that must stay one although what they are made from may have changed in between.
    """
    with context.database.system() as session:
        known = intentions.find(session, key)
    return request if known is None else Request(known.operation, known.object_id, known.params)


def is_begun(context: Context, key: str) -> bool:
    """Whether `key` names an intention already: whoever asks now repeats what was asked before."""
    with context.database.system() as session:
        return intentions.find(session, key) is not None


def refusal(context: Context, key: str) -> str | None:
    """Why Stripe refused what `key` names; None unless it did."""
    with context.database.system() as session:
        known = intentions.find(session, key)
    return str(known.error["message"]) if known and known.state == "refused" and known.error else None


def _resolved(context: Context, intention: StripeCall, request: Request) -> dict[str, Any]:
    if intention.sends > 1 and context.wall() - intention.created_at > _KEY_LIFETIME:
        found = _found(context, intention)
        if found is None:
            raise Unresolved(
                f"{intention.operation} {intention.idempotency_key} was sent on {_day(intention.created_at)} "
                "without an answer, and Stripe shows no trace of it"
            )
        return found
    try:
        return _sent(context, intention, request)
    except Unreachable as error:
        # Stripe has stored this failure under the key and will repeat it: look what really happened.
        if error.saved and (found := _found(context, intention)) is not None:
            return found
        if error.saved:
            _settle(context, intention, "without_effect", error={"message": str(error)})
        raise


def _prepared(context: Context, request: Request, key: str, organization_id: UUID | None) -> StripeCall:
    wanted = StripeCall(
        organization_id=organization_id,
        operation=request.operation,
        object_id=request.object_id,
        params=request.params,
        idempotency_key=key,
        created_at=context.wall(),
    )
    with context.database.system() as session:
        intention = intentions.prepare(session, wanted)
    same = (intention.operation, intention.object_id, intention.params) == (
        request.operation,
        request.object_id,
        request.params,
    )
    assert same, f"the key {key} already names another intention"
    return intention


def _sent(context: Context, intention: StripeCall, request: Request) -> dict[str, Any]:
    try:
        reply = context.gateway.send(request, intention.idempotency_key)
    except Declined as error:
        _settle(context, intention, "declined", error=_declined_record(error))
        raise
    except Refused as error:
        _settle(context, intention, "refused", error=_refused_record(error))
        raise
    except Unreachable as error:
        _settle(context, intention, "unknown", resolved=False, error={"message": str(error)})
        raise
    _settle(
        context, intention, "succeeded", reply=_without_secrets(reply.object), request_id=reply.request_id
    )
    return reply.object


def _settle(
    context: Context, intention: StripeCall, state: str, *, resolved: bool = True, **outcome: Any
) -> None:
    resolved_at = context.wall() if resolved else None
    with context.database.system() as session:
        intentions.settle(session, intention.id, state, resolved_at, **outcome)


def _found(context: Context, intention: StripeCall) -> dict[str, Any] | None:
    """What the call made, should it have had its effect: recorded as its success."""
    found = stripe_finders.find(context.gateway, intention)
    if found is not None:
        _settle(context, intention, "succeeded", reply=_without_secrets(found))
    return found


def _without_secrets(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_secrets(item) for key, item in value.items() if key not in _UNSTORED}
    if isinstance(value, list):
        return [_without_secrets(item) for item in value]
    return value


def _declined_record(error: Declined) -> dict[str, Any]:
    return {
        "message": error.message,
        "code": error.code,
        "decline_code": error.decline_code,
        "advice_code": error.advice_code,
        "payment_intent_id": error.payment_intent_id,
        "requires_action": error.requires_action,
        "request_id": error.request_id,
    }


def _refused_record(error: Refused) -> dict[str, Any]:
    return {
        "message": error.message,
        "code": error.code,
        "param": error.param,
        "request_id": error.request_id,
    }


def _restored(intention: StripeCall) -> Declined | Refused:
    assert intention.error is not None
    record = dict(intention.error)
    message = str(record.pop("message"))
    return Declined(message, **record) if intention.state == "declined" else Refused(message, **record)


def _day(at: datetime) -> str:
    return at.date().isoformat()
