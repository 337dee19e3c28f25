"""Our words to Stripe: an intention is committed before the call, its outcome after it.

The same key sends the same intention again and never does it twice. No transaction is open while
Stripe is asked.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from billing.errors import BillingError
from gateway.errors import Declined, GatewayError, Refused, Throttled
from gateway.requests import Request
from models import intentions
from models.ops import StripeCall
from tasks.context import Context

# Stripe may forget a key after 24 hours; an hour is left for clocks that disagree.
_KEY_LIFETIME = timedelta(hours=23)
# Secrets that let a browser act for the customer: never stored.
_UNSTORED = frozenset({"client_secret", "confirmation_secret", "secret"})


class Unresolved(BillingError):
    """Stripe may or may not have done this, and it is too late to send it again: a person decides."""

    code = "unresolved_stripe_call"


def call(context: Context, request: Request, key: str, organization_id: UUID | None = None) -> dict[str, Any]:
    """Do `request` at Stripe exactly once under `key`. Returns Stripe's object.

    A repeat returns the stored reply (without secrets), or raises the stored refusal again.
    Raises: Declined, Refused (final); Throttled (the same call may be repeated);
    Unresolved; AssertionError when the key was used for another request.
    """
    intention = _prepared(context, request, key, organization_id)
    if intention.state == "succeeded":
        assert intention.reply is not None
        return intention.reply
    if intention.state in ("declined", "refused"):
        raise _restored(intention)
    if intention.sends > 1 and context.wall() - intention.created_at > _KEY_LIFETIME:
        return _looked_up(context, intention)
    return _sent(context, intention, request)


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
    except Throttled:
        raise
    except GatewayError as error:
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


def _looked_up(context: Context, intention: StripeCall) -> dict[str, Any]:
    """Past the key's lifetime: find what the call made, instead of making it again."""
    finder = _FINDERS.get(intention.operation, _find_object)
    found = finder(context, intention)
    if found is None:
        raise Unresolved(
            f"{intention.operation} {intention.idempotency_key} was sent on {_day(intention.created_at)} "
            "without an answer, and Stripe shows no trace of it"
        )
    _settle(context, intention, "succeeded", reply=_without_secrets(found))
    return found


def _find_by_metadata(
    kind: str, name: str, scope: str
) -> Callable[[Context, StripeCall], dict[str, Any] | None]:
    def find(context: Context, intention: StripeCall) -> dict[str, Any] | None:
        wanted = intention.params["metadata"][name]
        filters = {scope: intention.params[scope]}
        if kind == "subscription":
            filters["status"] = "all"
        listed = context.gateway.list(kind, filters)
        return next((found for found in listed if found["metadata"].get(name) == wanted), None)

    return find


def _find_object(context: Context, intention: StripeCall) -> dict[str, Any] | None:
    """An operation on one object: its present state says whether it happened."""
    if intention.object_id is None:
        return None
    kind = "subscription" if intention.object_id.startswith("sub_") else "invoice"
    found = context.gateway.fetch(kind, intention.object_id)
    done = _DONE.get(intention.operation)
    return found if done is not None and done(found) else None


_FINDERS: dict[str, Callable[[Context, StripeCall], dict[str, Any] | None]] = {
    "create_customer": _find_by_metadata("customer", "organization_id", "email"),
    "create_subscription": _find_by_metadata("subscription", "subscription_id", "customer"),
    "create_invoice": _find_by_metadata("invoice", "invoice_id", "customer"),
}

_DONE: dict[str, Callable[[dict[str, Any]], bool]] = {
    "pay_invoice": lambda invoice: bool(invoice["status"] == "paid"),
    "finalize_invoice": lambda invoice: bool(invoice["status"] != "draft"),
    "void_invoice": lambda invoice: bool(invoice["status"] == "void"),
    "mark_uncollectible": lambda invoice: bool(invoice["status"] == "uncollectible"),
    "update_invoice": lambda invoice: invoice["auto_advance"] is False,
    "cancel_subscription": lambda subscription: bool(subscription["status"] == "canceled"),
}


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
