"""Whether a call whose answer was lost had its effect: looked up at Stripe, never sent again on trust.

Every operation that `tasks.stripe_calls` may send has its way of being found here, or stands in `UNSOUGHT`
with the reason why it needs none; a test holds this against all operations of the gateway.
"""

from collections.abc import Callable, Mapping
from typing import Any

from gateway import translate
from gateway.client import StripeGateway
from gateway.errors import Refused
from models.ops import StripeCall

Found = dict[str, Any]
Params = Mapping[str, Any]
Finder = Callable[[StripeGateway, StripeCall], Found | None]

UNSOUGHT: Mapping[str, str] = {
    **dict.fromkeys(
        ("create_product", "create_price", "create_coupon", "create_tax_rate"),
        "the catalog looks for its objects by itself, before it makes them and after",
    ),
    **dict.fromkeys(
        ("update_product", "update_price", "update_tax_rate"), "said again until Stripe has it, without harm"
    ),
    **dict.fromkeys(
        ("delete_customer", "close_dispute", "void_credit_note", "confirm_setup_intent"),
        "people and browsers ask for it, never we",
    ),
    "create_setup_intent": "nobody waits for a card form that is a day old",
    "preview_invoice": "nothing is written",
    "create_webhook_endpoint": "a person makes it, and sees whether it is there",
}


def find(gateway: StripeGateway, intention: StripeCall) -> Found | None:
    """The object as it is now, if the call had its effect; None when Stripe shows no trace of it."""
    finder = _FINDERS.get(intention.operation)
    return finder(gateway, intention) if finder else None


def sought() -> frozenset[str]:
    """The operations that can be found."""
    return frozenset(_FINDERS)


def _by_metadata(kind: str, scope: str) -> Finder:
    """What was made carries our own metadata; `scope` is the parameter that lists are narrowed by."""

    def look(gateway: StripeGateway, intention: StripeCall) -> Found | None:
        params = intention.params
        wanted = (params.get("metadata") or {}).items()
        if not wanted:
            return None  # nothing tells it from another of the same amount
        filters = {scope: params[scope]}
        if "test_clock" in params:
            filters["test_clock"] = params["test_clock"]  # absent from lists without it
        if kind == "subscription":
            filters["status"] = "all"
        listed = gateway.list(kind, filters)
        return next((each for each in listed if wanted <= (each.get("metadata") or {}).items()), None)

    return look


def _balance_transaction(gateway: StripeGateway, intention: StripeCall) -> Found | None:
    wanted = intention.params["metadata"].items()
    listed = gateway.list("customer_balance_transaction", {"customer": intention.object_id})
    return next((each for each in listed if wanted <= each["metadata"].items()), None)


def _test_clock(gateway: StripeGateway, intention: StripeCall) -> Found | None:
    """A clock that nobody has moved yet: names alone may be given twice."""
    params = intention.params
    for each in gateway.list("test_clock", {}):
        if (each["name"], each["frozen_time"]) == (params["name"], params["frozen_time"]):
            return each
    return None


def _lines(gateway: StripeGateway, intention: StripeCall) -> Found | None:
    """All of them or none: they were sent in one request. An invoice shows the first ten by itself."""
    invoice = gateway.fetch("invoice", str(intention.object_id))
    listed = list(gateway.list("invoice_line", {"invoice": intention.object_id}))
    there = {line["metadata"].get("line_id") for line in listed}
    there |= {translate.invoice_line(line).invoice_item_id for line in listed}
    wanted = {
        line["invoice_item"] if "invoice_item" in line else line["metadata"]["line_id"]
        for line in intention.params["lines"]
    }
    return invoice if wanted <= there else None


def _deleted(kind: str) -> Finder:
    def look(gateway: StripeGateway, intention: StripeCall) -> Found | None:
        try:
            found = gateway.fetch(kind, str(intention.object_id))
        except Refused as refusal:
            if refusal.code != "resource_missing":
                raise
            return {"id": intention.object_id, "deleted": True}
        return found if found.get("deleted") else None

    return look


def _now(kind: str, done: Callable[[Found, Params], bool], expand: tuple[str, ...] = ()) -> Finder:
    """An operation on one object: its present state says whether it happened."""

    def look(gateway: StripeGateway, intention: StripeCall) -> Found | None:
        found = gateway.fetch(kind, str(intention.object_id), expand)
        return found if done(found, intention.params) else None

    return look


def _is(status: str) -> Callable[[Found, Params], bool]:
    return lambda found, _: bool(found["status"] == status)


def _has(found: Any, wanted: Any) -> bool:
    """Whether an object holds what it was told: all that was named, and whatever else; "" clears."""
    if wanted == "":
        return not found
    if isinstance(wanted, Mapping):
        return isinstance(found, Mapping) and all(_has(found.get(key), wanted[key]) for key in wanted)
    if isinstance(wanted, list):
        return isinstance(found, list) and [translate.reference(each) for each in found] == wanted
    return bool(found == wanted)


def _attached(gateway: StripeGateway, intention: StripeCall) -> Found | None:
    """Among the customer's own: what a test token's name makes has another id."""
    listed = gateway.list("customer_payment_method", {"customer": intention.params["customer"]})
    return next((each for each in listed if each["id"] == intention.object_id), None)


def _is_sent(clock: Found, params: Params) -> bool:
    """Whether a test clock stands at an instant, or is on its way there."""
    details = clock["status_details"].get("advancing") or {}
    goes_to = details.get("target_frozen_time", clock["frozen_time"])
    return bool(max(goes_to, clock["frozen_time"]) >= params["frozen_time"])


# How a change is made, not what it comes to.
_MANNER = frozenset(
    {
        "billing_cycle_anchor",
        "expand",
        "off_session",
        "payment_behavior",
        "proration_behavior",
        "proration_date",
    }
)


def _subscription_has(found: Found, params: Params) -> bool:
    plain = {key: value for key, value in params.items() if key not in {*_MANNER, "items", "discounts"}}
    return (
        _has(found, plain)
        and _has_items(found, params.get("items", ()))
        and _has_discounts(found, params.get("discounts"))
    )


def _has_items(found: Found, wanted: list[Params]) -> bool:
    items = {each["id"]: each for each in found["items"]["data"]}
    prices = {each["price"]["id"] for each in items.values()}
    for change in wanted:
        item = items.get(change.get("id"))
        if change.get("deleted"):
            here = item is None
        elif item is None:
            here = change.get("price") in prices
        else:
            here = change.get("quantity") in (None, item["quantity"])
            here = here and change.get("price") in (None, item["price"]["id"])
        if not here:
            return False
    return True


def _has_discounts(found: Found, wanted: Any) -> bool:
    if wanted is None:
        return True
    there = translate.discounts(found)
    named = [each.get("discount") or each.get("coupon") for each in wanted or ()]
    return len(there) == len(named) and all(
        set(pair) & {name} for pair, name in zip(there, named, strict=True)
    )


_FINDERS: Mapping[str, Finder] = {
    "create_customer": _by_metadata("customer", "email"),
    "create_subscription": _by_metadata("subscription", "customer"),
    "create_invoice": _by_metadata("invoice", "customer"),
    "create_credit_note": _by_metadata("credit_note", "invoice"),
    "create_refund": _by_metadata("refund", "payment_intent"),
    "create_balance_transaction": _balance_transaction,
    "create_test_clock": _test_clock,
    "add_lines": _lines,
    "delete_invoice": _deleted("invoice"),
    "delete_test_clock": _deleted("test_clock"),
    "update_customer": _now("customer", _has),
    "update_subscription": _now("subscription", _subscription_has, ("discounts",)),
    "cancel_subscription": _now("subscription", _is("canceled")),
    "pause_subscription": _now("subscription", _is("paused")),
    "resume_subscription": _now("subscription", lambda found, _: bool(found["status"] != "paused")),
    # Rates and metadata go with it in one request.
    "update_invoice": _now("invoice", lambda found, _: found["auto_advance"] is False),
    "finalize_invoice": _now("invoice", lambda found, _: bool(found["status"] != "draft")),
    "pay_invoice": _now("invoice", _is("paid")),
    "void_invoice": _now("invoice", _is("void")),
    "mark_uncollectible": _now("invoice", _is("uncollectible")),
    "attach_payment_method": _attached,
    "detach_payment_method": _now("payment_method", lambda found, _: found["customer"] is None),
    "advance_test_clock": _now("test_clock", _is_sent),
}
