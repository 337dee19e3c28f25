"""The boundary of a period: cancel, end the trial, or move the items on and draft the next invoice."""

from .. import Doc
from ..errors import invalid
from ..ids import new_id
from ..render import ENDED
from ..world import World
from . import advance, billing, discounts, proration, standing, wallet
from .items import items_of, note_billed, period_lines, set_period

_STANDING_STILL = frozenset({"paused", *ENDED})


def cycle(world: World, subscription: Doc) -> None:
    """Do what is due at a boundary; a bell that rings early, late or twice does nothing more."""
    now = world.now_of(subscription)
    due = [item for item in items_of(world, subscription) if item["current_period_end"] <= now]
    if not due or subscription["status"] in _STANDING_STILL:
        return
    if subscription["cancel_at"] is not None and subscription["cancel_at"] <= now:
        standing.end(world, subscription, reason="cancellation_requested")
        return
    closed = (
        min(item["current_period_start"] for item in due),
        max(item["current_period_end"] for item in due),
    )
    if subscription["status"] == "trialing" and _stops_at_trial_end(world, subscription):
        return
    with world.changing(subscription, "customer.subscription.updated"):
        subscription["status"] = "active" if subscription["status"] == "trialing" else subscription["status"]
        _move_on(world, subscription, due, closed)
        billing.next_boundary(world, subscription)


def _move_on(world: World, subscription: Doc, due: list[Doc], closed: tuple[int, int]) -> None:
    now = world.now_of(subscription)
    subscription["discounts"] = discounts.live(world, subscription["discounts"], now)
    for item in due:
        set_period(world, subscription, item, closed[1])
        item["discounts"] = discounts.live(world, item["discounts"], now)
    invoice_id = new_id("invoice")
    pending = billing.take_pending(world, billing.pending_for(world, subscription), invoice_id)
    lines = [line for item in due for line in period_lines(world, subscription, item, invoice_id)]
    pause = subscription["pause_collection"]
    invoice = billing.subscription_draft(
        world,
        subscription,
        reason="subscription_cycle",
        period=closed,
        lines=[*pending, *lines],
        invoice_id=invoice_id,
        auto_advance=not (pause and pause["behavior"] == "keep_as_draft"),
    )
    note_billed(invoice, due)
    subscription["latest_invoice"] = invoice["id"]


def _stops_at_trial_end(world: World, subscription: Doc) -> bool:
    """Cancel or pause a trial that ends without a payment method, if its settings say so: whether they do."""
    customer = world.tx.get("customer", subscription["customer"])
    behavior = subscription["trial_settings"]["end_behavior"]["missing_payment_method"]
    collects = subscription["collection_method"] == "charge_automatically"
    if (
        not collects
        or wallet.default_for(world, customer, subscription) is not None
        or behavior == "create_invoice"
    ):
        return False
    if behavior == "cancel":
        standing.end(world, subscription, reason=None)
        return True
    with world.changing(subscription, "customer.subscription.updated"):
        _become_paused(world, subscription, "trial_end_without_payment_method")
    return True


def _become_paused(world: World, subscription: Doc, why: str) -> None:
    now = world.now_of(subscription)
    subscription["status"] = "paused"
    subscription["status_details"] = {
        "paused": {"subscription": {"type": why}, "transitioned_at": now, "type": "subscription"}
    }
    world.emit("customer.subscription.paused", subscription)


def pause(world: World, subscription: Doc, *, credit_from: str, invoice_now: bool) -> None:
    """Stop service and invoices until resumed. `credit_from`: `now`, `item_current_period_start` or `none`.

    Raises: ApiError 400 unless it is active, trialing or past due, in flexible billing.
    """
    if subscription["status"] not in {"active", "trialing", "past_due"}:
        raise invalid(f"You cannot pause a subscription with status `{subscription['status']}`.")
    if subscription["billing_mode"]["type"] != "flexible":
        raise invalid("Only subscriptions with `billing_mode[type]=flexible` can be paused.")
    now = world.now_of(subscription)
    with world.changing(subscription, "customer.subscription.updated"):
        for item in items_of(world, subscription):
            moment = now if credit_from == "now" else item["current_period_start"]
            if credit_from != "none":
                old = proration.old_terms(world, item)
                proration.credit_unused(world, subscription, item, old, moment)
            item["_billed"] = None
        _become_paused(world, subscription, "pause_requested")
        if invoice_now and billing.pending_for(world, subscription):
            billing.bill_update(world, subscription, [], attempt=True)


def resume(world: World, subscription: Doc, *, anchor: str, behavior: str) -> None:
    """Go on from a pause, with a whole new period from now (`anchor` now) or the old rhythm (`unchanged`).

    `behavior`: `resume_on_payment_attempt` is active at once; `resume_on_payment_success` waits for the
    money, and its invoice is voided after 23 hours.
    """
    if subscription["status"] != "paused":
        raise invalid("You can only resume a subscription with status `paused`.")
    now = world.now_of(subscription)
    with world.changing(subscription, "customer.subscription.updated"):
        if anchor == "now":
            subscription["billing_cycle_anchor"] = now
        items = items_of(world, subscription)
        lines = []
        for item in items:
            set_period(world, subscription, item, now)
            share = proration.share_left((item["current_period_start"], item["current_period_end"]), now)
            lines += period_lines(world, subscription, item, None, share=share)
        invoice = billing.bill_now(
            world, subscription, reason="subscription_update", lines=lines, invoice_id=new_id("invoice")
        )
        note_billed(invoice, items)
        subscription["_resumption_invoice"] = invoice["id"]
        _resume_by(world, subscription, invoice, behavior)
        billing.next_boundary(world, subscription)


def _resume_by(world: World, subscription: Doc, invoice: Doc, behavior: str) -> None:
    if invoice["status"] == "open":
        if behavior == "resume_on_payment_attempt":
            standing.resume_now(world, subscription)
        advance.collect_automatically(world, invoice)
    elif subscription["status"] == "paused":
        standing.resume_now(world, subscription)
    if subscription["status"] == "paused":
        due = world.now_of(subscription) + standing.INCOMPLETE_LIVES_S
        world.tx.set_timer(due, subscription["test_clock"], "void_resumption", subscription["id"])
