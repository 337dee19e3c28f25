"""Our words to Stripe: an intention is committed before the call, its outcome after it.

The same key sends the same intention again and never does it twice. No transaction is open while
Stripe is asked.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from billing.errors import BillingError
from gateway import translate
from gateway.errors import Declined, Refused, Unreachable
from gateway.requests import Request
from models import intentions
from models.ops import StripeCall
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
    found = _FINDERS.get(intention.operation, _find_object)(context, intention)
    if found is not None:
        _settle(context, intention, "succeeded", reply=_without_secrets(found))
    return found


def _find_by_metadata(
    kind: str, name: str, scope: str
) -> Callable[[Context, StripeCall], dict[str, Any] | None]:
    def find(context: Context, intention: StripeCall) -> dict[str, Any] | None:
        wanted = intention.params["metadata"][name]
        filters = {scope: intention.params[scope]}
        if "test_clock" in intention.params:
            filters["test_clock"] = intention.params["test_clock"]  # absent from lists without it
        if kind == "subscription":
            filters["status"] = "all"
        listed = context.gateway.list(kind, filters)
        return next((found for found in listed if found["metadata"].get(name) == wanted), None)

    return find


def _find_object(context: Context, intention: StripeCall) -> dict[str, Any] | None:
    """An operation on one object: its present state says whether it happened."""
    done = _DONE.get(intention.operation)
    if done is None or intention.object_id is None:
        return None
    kind = next(kind for prefix, kind in _KINDS.items() if intention.object_id.startswith(prefix))
    found = context.gateway.fetch(kind, intention.object_id)
    return found if done(found, intention.params) else None


def _find_transaction(context: Context, intention: StripeCall) -> dict[str, Any] | None:
    """An entry of the customer's balance: made twice, it would be credit that nobody gave."""
    wanted = intention.params["metadata"]["credit_entry_id"]
    listed = context.gateway.list("customer_balance_transaction", {"customer": intention.object_id})
    return next((found for found in listed if found["metadata"].get("credit_entry_id") == wanted), None)


def _has_lines(invoice: dict[str, Any], params: dict[str, Any]) -> bool:
    """All of them or none: they were sent in one request."""
    there = {line["metadata"].get("line_id") for line in invoice["lines"]["data"]}
    wanted = {line["metadata"]["line_id"] for line in params["lines"] if "metadata" in line}
    there |= {line.invoice_item_id for line in translate.invoice(invoice).lines}
    wanted |= {line["invoice_item"] for line in params["lines"] if "invoice_item" in line}
    return wanted <= there


def _has_terms(subscription: dict[str, Any], params: dict[str, Any]) -> bool:
    """Whether an update of items or of the end has come about; any other is harmless to repeat."""
    if "items" in params:
        items = {item["id"]: item for item in subscription["items"]["data"]}
        return all(_is_changed(items.get(wanted["id"]), wanted) for wanted in params["items"])
    return bool(params.get("cancel_at_period_end") is subscription["cancel_at_period_end"])


def _is_changed(item: dict[str, Any] | None, wanted: dict[str, Any]) -> bool:
    if item is None or wanted.get("deleted"):
        return item is None and bool(wanted.get("deleted"))
    return item["quantity"] == wanted["quantity"] and wanted.get("price") in (None, item["price"]["id"])


_FINDERS: dict[str, Callable[[Context, StripeCall], dict[str, Any] | None]] = {
    "create_customer": _find_by_metadata("customer", "organization_id", "email"),
    "create_subscription": _find_by_metadata("subscription", "subscription_id", "customer"),
    "create_invoice": _find_by_metadata("invoice", "invoice_id", "customer"),
    "create_balance_transaction": _find_transaction,
}

_KINDS = {
    "sub_": "subscription",
    "in_": "invoice",
    "cus_": "customer",
    "clock_": "test_clock",
    "pm_": "payment_method",
}

_DONE: dict[str, Callable[[dict[str, Any], dict[str, Any]], bool]] = {
    "add_lines": _has_lines,
    "pay_invoice": lambda invoice, _: bool(invoice["status"] == "paid"),
    "finalize_invoice": lambda invoice, _: bool(invoice["status"] != "draft"),
    "void_invoice": lambda invoice, _: bool(invoice["status"] == "void"),
    "mark_uncollectible": lambda invoice, _: bool(invoice["status"] == "uncollectible"),
    "update_invoice": lambda invoice, _: invoice["auto_advance"] is False,
    "update_subscription": _has_terms,
    "detach_payment_method": lambda method, _: method["customer"] is None,
    "pause_subscription": lambda subscription, _: bool(subscription["status"] == "paused"),
    "resume_subscription": lambda subscription, _: bool(subscription["status"] != "paused"),
    "cancel_subscription": lambda subscription, _: bool(subscription["status"] == "canceled"),
    "advance_test_clock": lambda clock, params: bool(clock["frozen_time"] >= params["frozen_time"]),
    "attach_payment_method": lambda method, params: bool(method["customer"] == params["customer"]),
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
