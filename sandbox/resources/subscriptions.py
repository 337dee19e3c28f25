"""Subscriptions: create, change, cancel, pause, resume."""

from typing import Any

from .. import Doc
from ..engine import billing, change, cycle, proration, standing
from ..engine.items import items_of
from ..engine.subscribe import create
from ..errors import invalid, missing
from ..forms import ANY, BOOL, DECIMAL, HASH, INT, STR, Shape
from ..pagination import field_is, narrowed, page_of
from ..render import ENDED
from ..routing import CREATED, LISTING, Call, Page, api
from .common import AUTOMATIC_TAX, DISCOUNTS, require

PRICE_DATA: dict[str, Shape] = {
    "currency": STR,
    "product": STR,
    "product_data": {
        "name": STR,
        "description": STR,
        "metadata": HASH,
        "unit_label": STR,
        "tax_code": STR,
        "images": [STR],
    },
    "tax_behavior": STR,
    "unit_amount": INT,
    "unit_amount_decimal": DECIMAL,
}
ITEM: dict[str, Shape] = {
    "billing_thresholds": ANY,
    "discounts": DISCOUNTS,
    "metadata": HASH,
    "plan": STR,
    "price": STR,
    "price_data": {**PRICE_DATA, "recurring": {"interval": STR, "interval_count": INT}},
    "quantity": INT,
    "tax_rates": [STR],
}
CHANGED_ITEM: dict[str, Shape] = {**ITEM, "id": STR, "deleted": BOOL, "clear_usage": BOOL}
_PAYMENT_SETTINGS: Shape = {
    "payment_method_options": ANY,
    "payment_method_types": [STR],
    "save_default_payment_method": STR,
}
_CANCELLATION: Shape = {"comment": STR, "feedback": STR}
_COMMON: dict[str, Shape] = {
    "automatic_tax": AUTOMATIC_TAX,
    "cancel_at": STR,
    "cancel_at_period_end": BOOL,
    "collection_method": STR,
    "days_until_due": INT,
    "default_payment_method": STR,
    "default_tax_rates": [STR],
    "description": STR,
    "discounts": DISCOUNTS,
    "invoice_settings": ANY,
    "metadata": HASH,
    "off_session": BOOL,
    "payment_behavior": STR,
    "payment_settings": _PAYMENT_SETTINGS,
    "proration_behavior": STR,
    "trial_end": STR,
    "trial_from_plan": BOOL,
    "trial_settings": {"end_behavior": {"billing_cycle_anchor": STR, "missing_payment_method": STR}},
}
_WORDS = {
    "collection_method": {"charge_automatically", "send_invoice"},
    "payment_behavior": {
        "allow_incomplete",
        "default_incomplete",
        "error_if_incomplete",
        "pending_if_incomplete",
    },
    "proration_behavior": {"always_invoice", "create_prorations", "none"},
}


@api.on(
    "POST",
    "/v1/subscriptions",
    {
        **_COMMON,
        "backdate_start_date": INT,
        "billing_cycle_anchor": INT,
        "billing_mode": {"type": STR, "flexible": {"proration_discounts": STR}},
        "currency": STR,
        "customer": STR,
        "items": [ITEM],
        "trial_period_days": INT,
    },
)
def create_subscription(call: Call) -> Doc:
    require(call.params, "customer")
    if "backdate_start_date" in call.params:
        raise invalid("The sandbox does not backdate subscriptions.", param="backdate_start_date")
    _check(call.params)
    return create(call.world, call.params)


def _check(params: dict[str, Any]) -> None:
    """Words and the timestamps that may also be words.

    Raises: ApiError 400.
    """
    for name, words in _WORDS.items():
        if params.get(name) and params[name] not in words:
            raise invalid(f"Invalid {name}: must be one of {', '.join(sorted(words))}", param=name)
    if (params.get("automatic_tax") or {}).get("enabled"):
        raise invalid("The sandbox has no automatic tax: use tax rates.", param="automatic_tax[enabled]")
    for name, words in (("trial_end", {"now", ""}), ("cancel_at", {"min_period_end", "max_period_end", ""})):
        value = params.get(name)
        if value is None or value in words:
            continue
        if not str(value).isdigit():
            raise invalid(f"Invalid timestamp: {value}", param=name)
        params[name] = int(value)


@api.on("GET", "/v1/subscriptions/{id}")
def retrieve_subscription(call: Call) -> Doc:
    return call.world.tx.get("subscription", call.ids[0])


@api.on(
    "POST",
    "/v1/subscriptions/{id}",
    {
        **_COMMON,
        "billing_cycle_anchor": {"type": STR},
        "cancellation_details": _CANCELLATION,
        "items": [CHANGED_ITEM],
        "pause_collection": {"behavior": STR, "resumes_at": INT},
        "proration_date": INT,
    },
)
def update_subscription(call: Call) -> Doc:
    subscription = call.world.tx.get("subscription", call.ids[0])
    _check(call.params)
    change.update(call.world, subscription, call.params)
    return subscription


@api.on(
    "DELETE",
    "/v1/subscriptions/{id}",
    {"invoice_now": BOOL, "prorate": BOOL, "cancellation_details": _CANCELLATION},
)
def cancel_subscription(call: Call) -> Doc:
    world, subscription = call.world, call.world.tx.get("subscription", call.ids[0])
    if subscription["status"] in ENDED:
        raise missing("subscription", subscription["id"])
    if call.params.get("prorate") and subscription["status"] not in {"trialing", "incomplete"}:
        now = world.now_of(subscription)
        for item in items_of(world, subscription):
            proration.credit_unused(world, subscription, item, proration.old_terms(world, item), now)
    if call.params.get("invoice_now") and billing.pending_for(world, subscription):
        billing.bill_update(world, subscription, [], attempt=True)
    standing.end(
        world, subscription, reason="cancellation_requested", comment=call.params.get("cancellation_details")
    )
    return subscription


@api.on(
    "POST",
    "/v1/subscriptions/{id}/pause",
    {
        "type": STR,
        "invoicing_behavior": STR,
        "bill_for": {"outstanding_usage_through": {"type": STR}, "unused_time_from": {"type": STR}},
    },
)
def pause_subscription(call: Call) -> Doc:
    subscription = call.world.tx.get("subscription", call.ids[0])
    unused = ((call.params.get("bill_for") or {}).get("unused_time_from") or {}).get("type") or "now"
    invoice_now = call.params.get("invoicing_behavior") == "invoice"
    cycle.pause(call.world, subscription, credit_from=unused, invoice_now=invoice_now)
    return subscription


@api.on(
    "POST",
    "/v1/subscriptions/{id}/resume",
    {
        "billing_cycle_anchor": {"type": STR},
        "payment_behavior": STR,
        "proration_behavior": STR,
        "proration_date": INT,
    },
)
def resume_subscription(call: Call) -> Doc:
    subscription = call.world.tx.get("subscription", call.ids[0])
    anchor = (call.params.get("billing_cycle_anchor") or {}).get("type") or "now"
    behavior = call.params.get("payment_behavior") or "resume_on_payment_success"
    cycle.resume(call.world, subscription, anchor=anchor, behavior=behavior)
    return subscription


_LIST: dict[str, Shape] = {
    **LISTING,
    "collection_method": STR,
    "created": CREATED,
    "customer": STR,
    "price": STR,
    "status": STR,
    "test_clock": STR,
    "current_period_end": CREATED,
    "current_period_start": CREATED,
}


@api.on("GET", "/v1/subscriptions", _LIST)
def list_subscriptions(call: Call) -> Page:
    """Without `status` the canceled ones are left out; `all` shows all, `ended` those that are over."""
    params = call.params
    page = page_of(
        call,
        "subscription",
        "/v1/subscriptions",
        customer=params.get("customer"),
        clock=params.get("test_clock"),
    )
    status = params.get("status")
    over = "json_extract(doc, '$.status') IN ('canceled', 'incomplete_expired')"
    if status == "ended":
        page = Page(page.url, f"{page.where} AND {over}", page.values)
    elif not status:
        page = Page(page.url, f"{page.where} AND NOT {over}", page.values)
    elif status != "all":
        page = narrowed(page, field_is("status", status))
    if params.get("collection_method"):
        page = narrowed(page, field_is("collection_method", params["collection_method"]))
    if params.get("price"):
        held = (
            "id IN (SELECT subscription FROM objects WHERE kind = 'subscription_item' "
            "AND json_extract(doc, '$._price') = ?)"
        )
        page = narrowed(page, (held, params["price"]))
    return page
