"""Changing a subscription: items with prorations, trials, anchors, cancellation, collection."""

from typing import Any

from .. import Doc
from ..errors import ApiError, invalid
from ..render import ENDED
from ..world import World, clock_of
from . import billing, discounts, pending, proration, wallet
from .items import (
    change_item,
    check_items,
    items_of,
    merged_metadata,
    new_item,
    period_lines,
    rates_named,
    set_period,
)

_PLAIN = ("collection_method", "days_until_due", "description")


def update(world: World, subscription: Doc, params: dict[str, Any]) -> ApiError | None:
    """Apply an update; emits one `customer.subscription.updated`.

    Returns the refusal of a payment that the update asked for, when its effects stay (`allow_incomplete`).
    Raises: ApiError 400 for impossible changes, 402 with `error_if_incomplete` (nothing is kept).
    """
    _refuse_ended(subscription, params)
    with world.changing(subscription, "customer.subscription.updated"):
        _apply_settings(world, subscription, params)
        refusal = _apply_terms(world, subscription, params)
        _apply_cancellation(world, subscription, params)
    return refusal


def _refuse_ended(subscription: Doc, params: dict[str, Any]) -> None:
    if subscription["status"] in ENDED and set(params) - {"metadata", "cancellation_details", "expand"}:
        raise invalid(
            "A canceled subscription can only update its cancellation_details and metadata.",
            code="resource_missing" if subscription["status"] == "canceled" else None,
        )


def _apply_settings(world: World, subscription: Doc, params: dict[str, Any]) -> None:
    customer = world.tx.get("customer", subscription["customer"])
    for name in _PLAIN:
        if name in params:
            subscription[name] = params[name] if params[name] != "" else None
    if "metadata" in params:
        subscription["metadata"] = merged_metadata(subscription["metadata"], params["metadata"])
    if "default_payment_method" in params:
        method = params["default_payment_method"]
        subscription["default_payment_method"] = (
            wallet.attached_method(world, method, customer, param="default_payment_method")
            if method
            else None
        )
    if "default_tax_rates" in params:
        named = rates_named(world, params["default_tax_rates"], "default_tax_rates")
        subscription["_default_tax_rates"] = named
    subscription["discounts"] = discounts.replaced(world, params, subscription, customer)
    if "payment_settings" in params:
        subscription["payment_settings"] |= params["payment_settings"] or {}
    if params.get("trial_settings"):
        subscription["trial_settings"]["end_behavior"] |= params["trial_settings"]["end_behavior"]
    if params.get("cancellation_details"):
        subscription["cancellation_details"] |= params["cancellation_details"]
    if "pause_collection" in params:
        _pause_collection(world, subscription, params["pause_collection"])


def _pause_collection(world: World, subscription: Doc, asked: Any) -> None:
    subscription["pause_collection"] = {"resumes_at": None} | asked if asked else None
    if asked and asked.get("resumes_at"):
        world.tx.set_timer(
            asked["resumes_at"], clock_of(subscription), "resume_collection", subscription["id"]
        )


def _apply_terms(world: World, subscription: Doc, params: dict[str, Any]) -> ApiError | None:
    """Items, trial end and anchor: everything that moves money."""
    behavior = params.get("payment_behavior") or "allow_incomplete"
    before = pending.terms_of(world, subscription)
    refusal = _bill_terms(world, subscription, params, attempt=behavior != "default_incomplete")
    if refusal is None:
        return None
    if behavior == "error_if_incomplete":
        refusal.keeps_effects = False
        raise refusal
    if behavior == "pending_if_incomplete":
        pending.hold_back(world, subscription, before, subscription["latest_invoice"])
    return refusal


def _bill_terms(world: World, subscription: Doc, params: dict[str, Any], *, attempt: bool) -> ApiError | None:
    """Change the terms and invoice what is to be invoiced at once: the refusal of its payment, if any."""
    now = world.now_of(subscription)
    moment = params.get("proration_date") or now
    prorate = params.get("proration_behavior") or "create_prorations"
    resets = (params.get("billing_cycle_anchor") or {}).get("type") == "now"
    ends_trial = params.get("trial_end") == "now" and subscription["status"] == "trialing"
    if params.get("items"):
        with_credit = prorate != "none" and not resets and subscription["status"] != "trialing"
        _change_items(
            world,
            subscription,
            params["items"],
            moment,
            prorate=with_credit,
            credit=resets and prorate != "none",
        )
    elif resets and prorate != "none" and subscription["status"] != "trialing":
        for item in items_of(world, subscription):
            _credit(world, subscription, item, moment)
    if ends_trial or resets:
        return _restart(world, subscription, now, attempt=attempt)
    if isinstance(params.get("trial_end"), int):
        _move_trial_end(world, subscription, params["trial_end"], now, prorate)
        return None
    billing.next_boundary(world, subscription)
    if prorate == "always_invoice" and billing.pending_for(world, subscription):
        return billing.bill_update(world, subscription, [], attempt=attempt)
    return None


def _credit(world: World, subscription: Doc, item: Doc, moment: int) -> None:
    proration.credit_unused(world, subscription, item, proration.old_terms(world, item), moment)


def _change_items(
    world: World,
    subscription: Doc,
    changes: list[dict[str, Any]],
    moment: int,
    *,
    prorate: bool,
    credit: bool,
) -> None:
    """Apply item changes. `prorate`: credit the old, charge the new; `credit`: only "
    "the credit (new anchor)."""
    customer = world.tx.get("customer", subscription["customer"])
    for index, change in enumerate(changes):
        if "id" not in change:
            added = new_item(world, subscription, customer, change, index)
            _first_item_period(world, subscription, added, moment)
            if prorate:
                proration.charge_remaining(world, subscription, added, moment)
            continue
        item = world.tx.get("subscription_item", change["id"], param=f"items[{index}][id]")
        if item["subscription"] != subscription["id"]:
            raise invalid(
                f"The subscription item {item['id']} is not part of this subscription.",
                param=f"items[{index}][id]",
            )
        old = proration.old_terms(world, item)
        if change.get("deleted"):
            if prorate or credit:
                proration.credit_unused(world, subscription, item, old, moment)
            world.tx.remove(item)
            continue
        change_item(world, item, customer, change, index)
        _after_item_change(world, subscription, item, old, moment, prorate=prorate, credit=credit)
    remaining = items_of(world, subscription)
    check_items(world, remaining)
    if credit:
        for item in remaining:
            if item["id"] not in {change.get("id") for change in changes}:
                _credit(world, subscription, item, moment)


def _first_item_period(world: World, subscription: Doc, item: Doc, moment: int) -> None:
    if subscription["status"] == "trialing":
        item |= {"current_period_start": moment, "current_period_end": subscription["trial_end"]}
    else:
        set_period(world, subscription, item, moment)
        item["current_period_start"] = max(item["current_period_start"], subscription["start_date"])


def _after_item_change(
    world: World,
    subscription: Doc,
    item: Doc,
    old: proration.OldTerms,
    moment: int,
    *,
    prorate: bool,
    credit: bool,
) -> None:
    same = old.price["id"] == item["_price"] and old.quantity == item["quantity"]
    if not same and subscription["status"] != "trialing" and old.price["id"] != item["_price"]:
        set_period(world, subscription, item, moment)
    if same and not credit:
        return
    if prorate or credit:
        proration.credit_unused(world, subscription, item, old, moment)
    if prorate:
        proration.charge_remaining(world, subscription, item, moment)


def _restart(world: World, subscription: Doc, now: int, *, attempt: bool) -> ApiError | None:
    """A new anchor now: whole new periods for every item, invoiced at once."""
    if subscription["status"] == "trialing":
        subscription["trial_end"] = now
        subscription["status"] = "active"
    subscription["billing_cycle_anchor"] = now
    items = items_of(world, subscription)
    for item in items:
        set_period(world, subscription, item, now)
    lines = [line for item in items for line in period_lines(world, subscription, item, None)]
    refusal = billing.bill_update(world, subscription, lines, attempt=attempt)
    billing.next_boundary(world, subscription)
    return refusal


def _move_trial_end(world: World, subscription: Doc, trial_end: int, now: int, prorate: str) -> None:
    if trial_end <= now:
        raise invalid(
            "Invalid timestamp: must be an integer Unix timestamp in the future.", param="trial_end"
        )
    trialing = subscription["status"] == "trialing"
    items = items_of(world, subscription)
    for item in items:
        if not trialing:
            if prorate != "none":
                _credit(world, subscription, item, now)
            item["current_period_start"] = now
            item["_billed"] = None
        item["current_period_end"] = trial_end
    if not trialing:
        subscription |= {"status": "trialing", "trial_start": now}
    subscription |= {"trial_end": trial_end, "billing_cycle_anchor": trial_end}
    world.tx.set_timer(
        max(now, trial_end - 3 * 86_400), clock_of(subscription), "trial_will_end", subscription["id"]
    )
    billing.next_boundary(world, subscription)


def _apply_cancellation(world: World, subscription: Doc, params: dict[str, Any]) -> None:
    items = items_of(world, subscription)
    ends = [item["current_period_end"] for item in items]
    if params.get("cancel_at_period_end") is True:
        _will_cancel(world, subscription, max(ends), at_period_end=True)
    elif params.get("cancel_at") in {"min_period_end", "max_period_end"}:
        at = min(ends) if params["cancel_at"] == "min_period_end" else max(ends)
        _will_cancel(world, subscription, at, at_period_end=False)
    elif isinstance(params.get("cancel_at"), int):
        if params["cancel_at"] <= world.now_of(subscription):
            raise invalid("cancel_at must be in the future.", param="cancel_at")
        _will_cancel(world, subscription, params["cancel_at"], at_period_end=False)
    elif params.get("cancel_at_period_end") is False or params.get("cancel_at") == "":
        subscription |= {"cancel_at": None, "cancel_at_period_end": False, "canceled_at": None}
        subscription["cancellation_details"]["reason"] = None
    elif subscription["cancel_at_period_end"]:
        _will_cancel(world, subscription, max(ends), at_period_end=True)


def _will_cancel(world: World, subscription: Doc, at: int, *, at_period_end: bool) -> None:
    subscription |= {
        "cancel_at": at,
        "cancel_at_period_end": at_period_end,
        "canceled_at": subscription["canceled_at"] or world.now_of(subscription),
    }
    subscription["cancellation_details"]["reason"] = "cancellation_requested"
    world.tx.set_timer(at, clock_of(subscription), "cancel_at", subscription["id"])
