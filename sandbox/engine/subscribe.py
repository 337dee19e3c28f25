"""Creating a subscription: its items, its trial or first period, its first invoice and payment."""

from fractions import Fraction
from typing import Any

from .. import Doc
from ..errors import ApiError, invalid
from ..ids import new_id
from ..render import ENDED
from ..times import DAY
from ..world import World, clock_of
from . import advance, billing, discounts, standing, wallet
from .items import (
    check_items,
    items_of,
    new_item,
    note_billed,
    period_lines,
    period_of,
    rates_named,
    recurring_price,
    set_period,
)
from .proration import share_left

TRIAL_NOTICE_S = 3 * DAY
MAX_SUBSCRIPTIONS_PER_CUSTOMER_ON_A_CLOCK = 3


def create(world: World, params: dict[str, Any]) -> Doc:
    """Make the subscription that the parameters describe, with its first invoice.

    Raises: ApiError 400 for impossible terms, 402 for a failed payment with `error_if_incomplete`.
    """
    customer = world.tx.get("customer", params["customer"], param="customer")
    now = world.now_of(customer)
    currency = _currency(world, customer, params)
    _refuse_crowd(world, customer)
    subscription = _new_subscription(world, customer, params, currency, now)
    _set_trial(subscription, params, now)
    world.tx.add(subscription)
    subscription["discounts"] = discounts.put_on(world, params.get("discounts"), subscription, customer)
    for index, item_params in enumerate(params["items"]):
        new_item(world, subscription, customer, item_params, index)
    items = items_of(world, subscription)
    check_items(world, items)
    customer["currency"] = currency
    shares = _set_first_periods(world, subscription, items, params, now)
    _start(world, subscription, customer, params, shares)
    billing.next_boundary(world, subscription)
    if subscription["cancel_at"]:
        world.tx.set_timer(subscription["cancel_at"], clock_of(subscription), "cancel_at", subscription["id"])
    return subscription


def _refuse_crowd(world: World, customer: Doc) -> None:
    """Raises: ApiError 400 when a customer on a test clock has its three subscriptions already."""
    if customer["test_clock"] is None:
        return
    mine = world.tx.select("subscription", customer=customer["id"])
    if sum(doc["status"] not in ENDED for doc in mine) >= MAX_SUBSCRIPTIONS_PER_CUSTOMER_ON_A_CLOCK:
        raise invalid("A customer on a test clock can have at most 3 subscriptions.", param="customer")


def _currency(world: World, customer: Doc, params: dict[str, Any]) -> str:
    if not params.get("items"):
        raise invalid("Missing required param: items.", param="items", code="parameter_missing")
    first = recurring_price(world, params["items"][0], 0)
    currency = str(params.get("currency") or first["currency"])
    others = {
        doc["currency"]
        for doc in world.tx.select("subscription", customer=customer["id"])
        if doc["status"] not in ENDED
    }
    for used in sorted(others - {currency}):
        raise invalid(
            f"You cannot combine currencies on a single customer. This customer has an active subscription, "
            f"subscription schedule, discount, quote, or invoice item with currency {used}.",
            param="currency",
        )
    return currency


def _new_subscription(world: World, customer: Doc, params: dict[str, Any], currency: str, now: int) -> Doc:
    method = params.get("default_payment_method")
    if method:
        method = wallet.attached_method(world, method, customer, param="default_payment_method")
    settings = {
        "payment_method_options": None,
        "payment_method_types": None,
        "save_default_payment_method": "off",
    }
    subscription: Doc = dict.fromkeys(_NULL_AT_FIRST) | {
        "id": new_id("subscription"),
        "object": "subscription",
        "automatic_tax": {"disabled_reason": None, "enabled": False, "liability": None},
        "billing_cycle_anchor": now,
        "billing_mode": _billing_mode(params),
        "billing_schedules": [],
        "cancel_at_period_end": False,
        "cancellation_details": {"comment": None, "feedback": None, "reason": None},
        "collection_method": params.get("collection_method") or "charge_automatically",
        "created": now,
        "currency": currency,
        "customer": customer["id"],
        "days_until_due": params.get("days_until_due"),
        "default_payment_method": method or None,
        "description": params.get("description"),
        "discounts": [],
        "invoice_settings": {"account_tax_ids": None, "issuer": {"account": None, "type": "self"}},
        "livemode": False,
        "managed_payments": {"enabled": False},
        "metadata": params.get("metadata") or {},
        "payment_settings": settings | (params.get("payment_settings") or {}),
        "start_date": now,
        "status": "active",
        "test_clock": clock_of(customer),
        "trial_settings": _trial_settings(params),
        "_default_tax_rates": rates_named(world, params.get("default_tax_rates"), "default_tax_rates"),
        "_resumption_invoice": None,
    }
    if subscription["collection_method"] == "send_invoice" and subscription["days_until_due"] is None:
        raise invalid(
            "Missing required param: days_until_due.", param="days_until_due", code="parameter_missing"
        )
    return subscription


_NULL_AT_FIRST = (
    "application",
    "application_fee_percent",
    "billing_cycle_anchor_config",
    "billing_thresholds",
    "cancel_at",
    "canceled_at",
    "customer_account",
    "default_source",
    "ended_at",
    "latest_invoice",
    "next_pending_invoice_item_invoice",
    "on_behalf_of",
    "pause_collection",
    "pending_invoice_item_interval",
    "pending_setup_intent",
    "pending_update",
    "schedule",
    "status_details",
    "transfer_data",
    "trial_end",
    "trial_start",
)


def _billing_mode(params: dict[str, Any]) -> Doc:
    mode = params.get("billing_mode") or {"type": "flexible"}
    if mode["type"] == "classic":
        return {"flexible": None, "type": "classic", "updated_at": None}
    flexible = {"proration_discounts": "included"} | (mode.get("flexible") or {})
    return {"flexible": flexible, "type": "flexible", "updated_at": None}


def _trial_settings(params: dict[str, Any]) -> Doc:
    asked = (params.get("trial_settings") or {}).get("end_behavior") or {}
    return {
        "end_behavior": {"billing_cycle_anchor": "now", "missing_payment_method": "create_invoice"} | asked
    }


def _set_trial(subscription: Doc, params: dict[str, Any], now: int) -> None:
    trial_end = params.get("trial_end")
    if params.get("trial_period_days"):
        trial_end = now + params["trial_period_days"] * DAY
    if trial_end in {None, "now"}:
        return
    if trial_end <= now:
        raise invalid(
            "Invalid timestamp: must be an integer Unix timestamp in the future.", param="trial_end"
        )
    subscription |= {
        "billing_cycle_anchor": trial_end,
        "status": "trialing",
        "trial_end": trial_end,
        "trial_start": now,
    }


def _set_first_periods(
    world: World, subscription: Doc, items: list[Doc], params: dict[str, Any], now: int
) -> dict[str, Fraction]:
    """Set the items' first periods: the share of a full period to bill for each (1 without an anchor)."""
    _set_cancellation(world, subscription, params)
    if subscription["trial_end"]:
        for item in items:
            item |= {"current_period_start": now, "current_period_end": subscription["trial_end"]}
        _settle_period_end(subscription, items)
        return {}
    anchor = params.get("billing_cycle_anchor")
    if anchor is not None:
        if anchor < now:
            raise invalid("billing_cycle_anchor cannot be in the past.", param="billing_cycle_anchor")
        subscription["billing_cycle_anchor"] = anchor
    free_stub = anchor is not None and params.get("proration_behavior") == "none"
    shares = {}
    for item in items:
        set_period(world, subscription, item, now)
        shares[item["id"]] = Fraction(0) if free_stub else share_left(period_of(item), now)
        item["current_period_start"] = now
    _settle_period_end(subscription, items)
    return shares


def _set_cancellation(world: World, subscription: Doc, params: dict[str, Any]) -> None:
    if params.get("cancel_at_period_end"):
        subscription["cancel_at_period_end"] = True
    elif isinstance(params.get("cancel_at"), int):
        subscription["cancel_at"] = params["cancel_at"]
    else:
        return
    subscription["canceled_at"] = world.now_of(subscription)
    subscription["cancellation_details"]["reason"] = "cancellation_requested"


def _settle_period_end(subscription: Doc, items: list[Doc]) -> None:
    if subscription["cancel_at_period_end"]:
        subscription["cancel_at"] = max(item["current_period_end"] for item in items)


def _start(
    world: World, subscription: Doc, customer: Doc, params: dict[str, Any], shares: dict[str, Fraction]
) -> None:
    """The first invoice, and what the payment behaviour makes of it."""
    invoice_id = new_id("invoice")
    items = items_of(world, subscription)
    trialing = subscription["status"] == "trialing"
    if trialing:
        lines = billing.trial_lines(world, subscription, invoice_id)
    else:
        lines = [
            line
            for item in items
            for line in period_lines(world, subscription, item, invoice_id, share=shares[item["id"]])
        ]
    behavior = params.get("payment_behavior") or "allow_incomplete"
    automatic = subscription["collection_method"] == "charge_automatically"
    method = wallet.default_for(world, customer, subscription)
    if automatic and not trialing:
        subscription["status"] = "incomplete"
    _announce(world, subscription, customer, automatic and method is None and trialing)
    with world.changing(subscription, "customer.subscription.updated"):
        invoice = billing.bill_now(
            world, subscription, reason="subscription_create", lines=lines, invoice_id=invoice_id
        )
        note_billed(invoice, [] if trialing else items)
        if invoice["status"] == "open" and automatic:
            _first_payment(world, subscription, invoice, method, behavior)


def _announce(world: World, subscription: Doc, customer: Doc, needs_card: bool) -> None:
    if needs_card:
        intent = standing.new_setup_intent(world, customer)
        subscription["pending_setup_intent"] = intent["id"]
    world.emit("customer.subscription.created", subscription)
    if subscription["trial_end"]:
        notice_at = subscription["trial_end"] - TRIAL_NOTICE_S
        if notice_at <= world.now_of(subscription):
            world.emit("customer.subscription.trial_will_end", subscription)
        else:
            world.tx.set_timer(notice_at, clock_of(subscription), "trial_will_end", subscription["id"])


def _first_payment(world: World, subscription: Doc, invoice: Doc, method: Doc | None, behavior: str) -> None:
    expires_at = world.now_of(subscription) + standing.INCOMPLETE_LIVES_S
    if behavior == "default_incomplete":
        world.tx.set_timer(expires_at, clock_of(subscription), "expire_incomplete", subscription["id"])
        return
    if method is None:
        raise invalid(
            "This customer has no attached payment source or default payment method. Please "
            "consider adding a "
            "default payment method. For more information, visit "
            "https://stripe.com/docs/billing/subscriptions/payment-methods-setting#payment-method-priority.",
            code="resource_missing",
        )
    refusal: ApiError | None = advance.collect_automatically(world, invoice)
    if refusal is None:
        return
    if behavior == "error_if_incomplete":
        refusal.keeps_effects = False
        raise refusal
    world.tx.set_timer(expires_at, clock_of(subscription), "expire_incomplete", subscription["id"])
