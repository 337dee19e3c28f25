"""Pending updates: a change that waits for its invoice to be paid, 23 hours at most."""

import copy
from dataclasses import dataclass

from .. import Doc
from ..render import render
from ..times import HOUR
from ..world import World, clock_of
from . import invoices

LIVES_S = 23 * HOUR
_MOVES = ("billing_cycle_anchor", "status", "trial_end", "discounts")


@dataclass(frozen=True)
class Terms:
    """The part of a subscription that a change may move, as it was at one moment."""

    fields: Doc
    items: list[Doc]


def terms_of(world: World, subscription: Doc) -> Terms:
    """A copy of the subscription's terms."""
    items = world.tx.select("subscription_item", subscription=subscription["id"])
    return Terms({name: copy.deepcopy(subscription[name]) for name in _MOVES}, copy.deepcopy(items))


def hold_back(world: World, subscription: Doc, before: Terms, invoice_id: str) -> None:
    """Undo a change whose payment failed, and keep it for when `invoice_id` is paid."""
    after = terms_of(world, subscription)
    _put(world, subscription, before)
    expires_at = world.now_of(subscription) + LIVES_S
    subscription["pending_update"] = {
        "billing_cycle_anchor": after.fields["billing_cycle_anchor"],
        "cancel_at_period_end": None,
        "discount": None,
        "discounts": None,
        "expires_at": expires_at,
        "metadata": None,
        "subscription_items": [render(world.tx, item) for item in after.items],
        "trial_end": after.fields["trial_end"],
        "trial_from_plan": None,
    }
    subscription["_pending"] = {
        "invoice": invoice_id,
        "fields": after.fields | {"status": "active"},
        "items": after.items,
    }
    world.tx.set_timer(expires_at, clock_of(subscription), "expire_pending", subscription["id"])


def _put(world: World, subscription: Doc, terms: Terms) -> None:
    subscription |= copy.deepcopy(terms.fields)
    wanted = {item["id"]: item for item in terms.items}
    for item in world.tx.select("subscription_item", subscription=subscription["id"]):
        kept = wanted.pop(item["id"], None)
        if kept is None:
            world.tx.remove(item)
        else:
            item.clear()
            item.update(copy.deepcopy(kept))
    for item in wanted.values():
        world.tx.add(copy.deepcopy(item))


def apply_if_paid(world: World, subscription: Doc, invoice: Doc) -> bool:
    """Let a waiting change come into force when its invoice is paid; whether it did."""
    waiting = subscription.get("_pending")
    if not waiting or waiting["invoice"] != invoice["id"]:
        return False
    with world.changing(subscription, "customer.subscription.updated"):
        _put(world, subscription, Terms(waiting["fields"], waiting["items"]))
        subscription |= {"pending_update": None, "_pending": None}
    world.emit("customer.subscription.pending_update_applied", subscription)
    return True


def expire(world: World, subscription: Doc) -> None:
    """The invoice was not paid in time: the change is dropped and its invoice voided."""
    waiting = subscription.get("_pending")
    if not waiting or subscription["pending_update"]["expires_at"] > world.now_of(subscription):
        return
    with world.changing(subscription, "customer.subscription.updated"):
        subscription |= {"pending_update": None, "_pending": None}
    invoice = world.tx.get("invoice", waiting["invoice"])
    if invoice["status"] == "open":
        invoices.void(world, invoice)
    world.emit("customer.subscription.pending_update_expired", subscription)
