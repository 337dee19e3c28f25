"""Time: the timers of test clocks and of the wall, rung in order of time, each in its own transaction."""

import threading
import time
from collections.abc import Callable
from typing import TypeAlias

from .. import Doc
from ..errors import invalid
from ..render import ENDED
from ..store import Store, Tx
from ..times import DAY, HOUR, boundary
from ..world import World, clock_of
from . import advance, cycle, invoices, pending, standing

MakeWorld: TypeAlias = Callable[[Tx], World]

WEBHOOK_PATIENCE_S = 5.0
GIVE_UP_WAITING_S = 72 * HOUR
MAX_IDLE_ADVANCE_S = 2 * 366 * DAY


class NotDelivered(Exception):
    """An invoice may not be finalized yet: nobody has answered for its `invoice.created`."""


def ring(world: World, action: str, target_id: str) -> None:
    """Do what a timer is for. Every action looks at the object first, so that a stale bell does nothing."""
    target = world.tx.find(target_id)
    if target is None or target.get("deleted"):
        return
    _ACTIONS[action](world, target)


def _finalize(world: World, invoice: Doc) -> None:
    if invoice["status"] != "draft" or not invoice["auto_advance"]:
        return
    now = world.now_of(invoice)
    if invoice["automatically_finalizes_at"] and invoice["automatically_finalizes_at"] > now:
        return
    pending, failing = _deliveries(world, invoice["_created_event"])
    if pending and now < invoice["created"] + GIVE_UP_WAITING_S:
        raise NotDelivered
    if failing and now < invoice["created"] + GIVE_UP_WAITING_S:
        _put_off(world, invoice)
        return
    advance.advance_draft(world, invoice)


def _put_off(world: World, invoice: Doc) -> None:
    """An endpoint refused `invoice.created`: Stripe waits, up to 72 hours in all."""
    again_at = min(world.now_of(invoice) + HOUR, invoice["created"] + GIVE_UP_WAITING_S)
    invoice["automatically_finalizes_at"] = again_at
    world.tx.set_timer(again_at, clock_of(invoice), "finalize", invoice["id"])


def _deliveries(world: World, event_id: str) -> tuple[bool, bool]:
    """Whether some endpoint was not tried yet, and whether some has only failed so far."""
    rows = world.tx.execute("SELECT state, attempts FROM deliveries WHERE event = ?", (event_id,))
    untried = any(state in {"pending", "sending"} and attempts == 0 for state, attempts in rows)
    failing = any(state != "delivered" for state, _ in rows)
    return untried, failing


def _cancel(world: World, subscription: Doc) -> None:
    due = subscription["cancel_at"]
    if subscription["status"] not in ENDED and due is not None and due <= world.now_of(subscription):
        standing.end(world, subscription, reason="cancellation_requested")


def _trial_will_end(world: World, subscription: Doc) -> None:
    left = (subscription["trial_end"] or 0) - world.now_of(subscription)
    if subscription["status"] == "trialing" and left <= 3 * DAY:
        world.emit("customer.subscription.trial_will_end", subscription)


def _void_resumption(world: World, subscription: Doc) -> None:
    invoice_id = subscription.get("_resumption_invoice")
    if subscription["status"] == "paused" and invoice_id:
        invoice = world.tx.get("invoice", invoice_id)
        if invoice["status"] == "open":
            invoices.void(world, invoice)


def _resume_collection(world: World, subscription: Doc) -> None:
    pause = subscription["pause_collection"]
    if pause and pause["resumes_at"] and pause["resumes_at"] <= world.now_of(subscription):
        with world.changing(subscription, "customer.subscription.updated"):
            subscription["pause_collection"] = None


_ACTIONS: dict[str, Callable[[World, Doc], None]] = {
    "cycle": cycle.cycle,
    "finalize": _finalize,
    "collect": advance.attempt_once,
    "unattempted": advance.note_unattempted,
    "cancel_at": _cancel,
    "trial_will_end": _trial_will_end,
    "expire_incomplete": standing.expire_incomplete,
    "expire_pending": pending.expire,
    "void_resumption": _void_resumption,
    "resume_collection": _resume_collection,
}


# -- test clocks ---------------------------------------------------------------------


def furthest(world: World, clock: Doc) -> int:
    """How far the clock may be advanced in one go: two intervals of its shortest price, else two years."""
    ends = []
    for subscription in world.tx.select("subscription", clock=clock["id"]):
        if subscription["status"] in ENDED:
            continue
        for item in world.tx.select("subscription_item", subscription=subscription["id"]):
            recurring = world.tx.get("price", item["_price"])["recurring"]
            ends.append(boundary(clock["frozen_time"], recurring["interval"], recurring["interval_count"], 2))
    return min(ends, default=clock["frozen_time"] + MAX_IDLE_ADVANCE_S)


def start_advance(world: World, clock: Doc, target: int) -> None:
    """Set the clock on its way; `run_clock` does the rest.

    Raises: ApiError 400 backwards, too far, or while it is advancing already.
    """
    if clock["status"] != "ready":
        raise invalid("This test clock is already advancing.", code="test_clock_advancing")
    if target <= clock["frozen_time"]:
        raise invalid("The new frozen time must be after the current frozen time.", param="frozen_time")
    if target > furthest(world, clock):
        raise invalid(
            "You cannot advance a test clock by more than two intervals of its shortest "
            "subscription in one request.",
            param="frozen_time",
        )
    clock |= {"status": "advancing", "status_details": {"advancing": {"target_frozen_time": target}}}
    world.emit("test_helpers.test_clock.advancing", clock)
    world.started_clocks.append(clock["id"])


def run_clock(store: Store, make_world: MakeWorld, clock_id: str) -> None:
    """Ring the clock's timers up to its target, in order; waits for webhooks where Stripe would."""
    while _ring_next(store, make_world, clock_id):
        pass


def _ring_next(store: Store, make_world: MakeWorld, clock_id: str) -> bool:
    """One timer, or the end of the journey (false)."""
    deadline = time.monotonic() + WEBHOOK_PATIENCE_S
    while True:
        try:
            with store.transaction(advancing=clock_id) as tx:
                return _step(make_world(tx), clock_id)
        except NotDelivered:
            if time.monotonic() > deadline:
                with store.transaction(advancing=clock_id) as tx:
                    _put_off_next(make_world(tx), clock_id)
                return True
            with store.changed:
                store.changed.wait(0.05)


def _step(world: World, clock_id: str) -> bool:
    clock = world.tx.find(clock_id)
    if clock is None or clock["status"] != "advancing":
        return False
    target = clock["status_details"]["advancing"]["target_frozen_time"]
    timer = world.tx.take_timer(clock_id, target)
    if timer is not None:
        clock["_now"] = max(clock["_now"], timer[0])
        ring(world, timer[1], timer[2])
        return True
    clock |= {"_now": target, "frozen_time": target, "status": "ready", "status_details": {}}
    world.emit("test_helpers.test_clock.ready", clock)
    return False


def _put_off_next(world: World, clock_id: str) -> None:
    clock = world.tx.get("test_helpers.test_clock", clock_id)
    timer = world.tx.take_timer(clock_id, clock["status_details"]["advancing"]["target_frozen_time"])
    if timer is not None:
        clock["_now"] = max(clock["_now"], timer[0])
        _put_off(world, world.tx.get("invoice", timer[2]))


# -- the wall -------------------------------------------------------------------------


class WallTicker(threading.Thread):
    """Rings the timers of everything that is on no test clock, once a second."""

    def __init__(self, store: Store, make_world: MakeWorld, wall: Callable[[], int]) -> None:
        super().__init__(name="wall-ticker", daemon=True)
        self._store = store
        self._make_world = make_world
        self._wall = wall
        self._stopping = threading.Event()

    def run(self) -> None:
        while not self._stopping.wait(1.0):
            while self._ring_next():
                pass

    def stop(self) -> None:
        self._stopping.set()

    def _ring_next(self) -> bool:
        try:
            with self._store.transaction() as tx:
                timer = tx.take_timer(None, self._wall())
                if timer is not None:
                    ring(self._make_world(tx), timer[1], timer[2])
                return timer is not None
        except NotDelivered:
            # Left where it is: the next second tries again.
            return False
