"""Test clocks: an organization's own time, moved forward together with Stripe's.

A clock goes from one due instant to the next and rests at each until everything due has been done,
so that a quarter passes in the same sequence as it would in real time.
"""

import logging
from datetime import datetime, timedelta
from uuid import UUID

from billing.errors import BillingError, Conflict, InvalidTerms, NotFound
from billing.keys import stripe_key
from gateway import requests
from models import clock_queries, mailbox
from models.organizations import TestClock
from tasks import webhooks
from tasks.context import Context
from tasks.queue import subject_task, tick
from tasks.stripe_calls import call

log = logging.getLogger("dunlin.clocks")

# Stripe moves a clock at most two billing intervals at once; a month is the shortest of ours.
_LONGEST_STEP = timedelta(days=28)
# Bounds against a slip of the keyboard: a century of billing would run for hours.
_LONGEST_WAY = timedelta(days=731)
_FARTHEST = timedelta(days=3653)


def create(context: Context, name: str, at: datetime, clock_id: UUID) -> TestClock:
    """Make a clock that stands at `at`, here and at Stripe; a repeat finds the one of its id.

    Raises Conflict in live mode.
    """
    if context.gateway.livemode:
        raise Conflict("there are no test clocks in live mode")
    if not name.strip():
        raise InvalidTerms("must not be empty", field="name")
    if abs(at - context.wall()) > _FARTHEST:
        raise InvalidTerms("must lie within ten years of today", field="at")
    with context.database.system() as session:
        made = session.get(TestClock, clock_id)
    if made is not None:
        return made
    at = at.replace(microsecond=0)
    clock = TestClock(id=clock_id, name=name, frozen_at=at)
    request = requests.create_test_clock(int(at.timestamp()), name)
    clock.stripe_clock_id = str(call(context, request, stripe_key("clock", clock.id))["id"])
    with context.database.system() as session:
        session.add(clock)
    return clock


def get(context: Context, clock_id: UUID) -> TestClock:
    """Raises NotFound."""
    with context.database.system() as session:
        clock = session.get(TestClock, clock_id)
    if clock is None:
        raise NotFound("no such test clock")
    return clock


def advance(context: Context, clock_id: UUID, to: datetime) -> TestClock:
    """Send a clock to `to`; it has arrived when `target_at` is None again. Raises InvalidTerms, NotFound."""
    to = to.replace(microsecond=0)
    with context.system() as unit:
        clock = clock_queries.locked(unit.session, clock_id)
        if clock is None:
            raise NotFound("no such test clock")
        if to - clock.frozen_at > _LONGEST_WAY:
            raise InvalidTerms("a clock goes at most two years at once", field="to")
        if to < max(clock.frozen_at, clock.target_at or clock.frozen_at):
            raise InvalidTerms("a clock only moves forward", field="to")
        clock.target_at, clock.last_error = to, None
        unit.ring("clocks.step", str(clock_id))
    return clock


@subject_task("clocks.step", queue="clocks")
def step(context: Context, clock_id: UUID) -> None:
    """Move the clock as far as it can go now. Whoever finishes a piece of its work rings this again."""
    with context.database.named_lock(f"clock:{clock_id}"):
        while _moved(context, clock_id):
            pass


def _moved(context: Context, clock_id: UUID) -> bool:
    with context.database.system() as session:
        clock = session.get_one(TestClock, clock_id, populate_existing=True)
        if clock.target_at is None or clock_queries.has_work(session, clock_id):
            return False
        customers = clock_queries.customers(session, clock_id)
        next_at = clock_queries.next_due_at(session, clock_id)
    if not _stripe_at_rest(context, clock, customers):
        return False
    if clock.frozen_at >= clock.target_at:
        with context.database.system() as session:
            clock_queries.arrive(session, clock_id, clock.target_at)
        return False
    stop_at = min(clock.target_at, next_at or clock.target_at, clock.frozen_at + _LONGEST_STEP)
    # Stripe first: what it makes at this instant exists when our own jobs of the instant run.
    request = requests.advance_test_clock(str(clock.stripe_clock_id), int(stop_at.timestamp()))
    call(context, request, stripe_key("advance", clock_id, stop_at))
    with context.system() as unit:
        clock_queries.move(unit.session, clock_id, stop_at)
        for job_id, kind in clock_queries.due_jobs(unit.session, clock_id):
            unit.ring(kind, str(job_id))
    return True


def _stripe_at_rest(context: Context, clock: TestClock, customers: set[str]) -> bool:
    """Whether Stripe has stopped moving and has told us everything about this clock's customers."""
    if context.gateway.fetch("test_clock", str(clock.stripe_clock_id))["status"] != "ready":
        return False
    undelivered = context.gateway.list("event", {"delivery_success": False})
    told = {event["id"] for event in undelivered if event["data"]["object"].get("customer") in customers}
    with context.database.system() as session:
        return told <= mailbox.known_events(session, sorted(told))


@tick("clocks.sweep", queue="clocks")
def sweep(context: Context) -> None:
    """Go on with clocks whose ring was lost, after fetching events that were never delivered.

    One that cannot go on says why, and stops no other.
    """
    with context.database.system() as session:
        moving = clock_queries.moving(session)
    if moving:
        webhooks.import_missed(context)
    for clock_id in moving:
        try:
            step(context, clock_id)
        except BillingError as error:
            log.warning("clock %s stays where it is: %s", clock_id, error)
            with context.database.system() as session:
                clock_queries.explain(session, clock_id, f"{type(error).__name__}: {error}")
