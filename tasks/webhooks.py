"""Stripe's words: stored before the 2xx; then each object is fetched as it is now, and applied.

A webhook is a doorbell. Its payload names what changed, never what we record: events come twice,
late, and in any sequence.
"""

import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID
from weakref import WeakKeyDictionary

import msgspec

from gateway import translate, webhooks
from gateway.errors import (
    InvalidSignature,
    MalformedPayload,
    Misconfigured,
    Throttled,
    UnknownVersion,
    Unreachable,
)
from models import clock_queries, mailbox, organization_queries
from models.database import Database, OrganizationBusy
from models.ops import WebhookEvent
from tasks import adopting_together
from tasks.context import Context
from tasks.gathering import Gathering, shared
from tasks.observers import intent_of, observe
from tasks.queue import tick

log = logging.getLogger("dunlin.webhooks")

# Enough that a storm's events of one object are claimed together, and cost one fetch.
_MOST_EVENTS = 500
_RETRY = timedelta(seconds=5)
_BUSY = timedelta(seconds=1)
# An organization may be held while Stripe is asked for many: the others' events do not wait for that.
_WAIT = timedelta(seconds=1)
# Stripe cannot be asked now. Everything else uses up an attempt: the fifth makes an event `dead`, for people.
_PASSING = (Throttled, Unreachable, Misconfigured)


def accept_event(context: Context, payload: bytes, signature: str) -> None:
    """Verify and store one delivery; a repeat changes nothing. Raises InvalidSignature."""
    webhooks.verify(payload, signature, context.settings.stripe_webhook_secrets, context.wall())
    try:
        decoded = msgspec.json.decode(payload, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise InvalidSignature("the signed payload is no event") from error
    _gathering(context.database).give(_row(decoded, "delivered"))
    context.bell.ring("webhooks.drain")


_gatherings: WeakKeyDictionary[Database, Gathering[WebhookEvent, None]] = WeakKeyDictionary()


def _gathering(database: Database) -> Gathering[WebhookEvent, None]:
    """Deliveries that come at the same time share one commit."""
    return shared(_gatherings, database, mailbox.store_events)


def _row(payload: dict[str, Any], source: str) -> WebhookEvent:
    """The row of an event. One whose version or shape we have not learnt is parked, never guessed at.

    Raises: MalformedPayload for what has not even an id and a type.
    """
    try:
        envelope = translate.event(payload)
    except (UnknownVersion, MalformedPayload) as unknown:
        if not all(isinstance(payload.get(name), str) for name in ("id", "type")):
            raise MalformedPayload("this is no event of Stripe", field="id") from unknown
        log.error("event %s is parked: %s", payload["id"], unknown)
        version = payload.get("api_version")
        return WebhookEvent(
            event_id=str(payload["id"]),
            type=str(payload["type"]),
            api_version=version if isinstance(version, str) else None,
            payload=payload,
            source=source,
            state="dead",
            last_error=str(unknown),
        )
    return WebhookEvent(
        event_id=envelope.id,
        type=envelope.type,
        api_version=envelope.api_version,
        object_id=envelope.object_id,
        customer_id=envelope.customer_id,
        payload=payload,
        source=source,
        state="queued",
    )


@tick("webhooks.drain", queue="webhooks")
def drain(context: Context) -> None:
    """Apply every stored event that nobody has claimed; rung for, and swept for."""
    while True:
        with context.database.system() as session:
            mailbox.bury_exhausted(session)
            claimed = mailbox.claim(session, context.settings.lease, _MOST_EVENTS)
        rest = _adopted_first(context, claimed)
        for customer_id, events in _by_customer(context, rest).items():
            _apply_customer(context, customer_id, events)
        if len(claimed) < _MOST_EVENTS:
            return  # what came meanwhile has rung again


def _adopted_first(context: Context, claimed: Sequence[WebhookEvent]) -> Sequence[WebhookEvent]:
    """Adopt together the drafts of a cycle that Stripe tells of. Returns the events that are left."""
    try:
        adopted = adopting_together.adopt_told(context, claimed)
    except Exception:
        # One that cannot be read must not keep the others: alone it goes to its own customer.
        log.exception("drafts could not be adopted together")
        return claimed
    done = [event for event, _ in adopted]
    if done:
        _settle(context, done)
        with context.database.system() as session:
            clock_ids = clock_queries.clocks_of(session, [organization_id for _, organization_id in adopted])
        for clock_id in clock_ids:
            context.bell.ring("clocks.step", str(clock_id))
    settled = {event.id for event in done}
    return [event for event in claimed if event.id not in settled]


def _by_customer(context: Context, claimed: Sequence[WebhookEvent]) -> dict[str | None, list[WebhookEvent]]:
    """The events of each customer; those whose customer cannot be told now go back."""
    found: dict[str | None, list[WebhookEvent]] = {}
    for event in claimed:
        try:
            found.setdefault(_customer_of(context, event), []).append(event)
        except _PASSING as error:
            _put_back(context, [event], _RETRY, f"{type(error).__name__}: {error}", failed=False)
        except Exception as error:
            # One that cannot be read must not keep the others that were claimed with it.
            log.exception("the customer of event %s cannot be told", event.event_id)
            _put_back(context, [event], _RETRY, f"{type(error).__name__}: {error}", failed=True)
    return found


def _customer_of(context: Context, event: WebhookEvent) -> str | None:
    """Refunds and disputes do not name their customer: their payment does."""
    if event.customer_id is not None:
        return event.customer_id
    envelope = translate.event(event.payload)
    if envelope.customer_id is None and envelope.object_type in ("refund", "dispute"):
        intent_id = intent_of(envelope.raw_object)
        if intent_id is not None:
            intent = translate.payment_intent(context.gateway.fetch("payment_intent", intent_id))
            return intent.customer_id
    return envelope.customer_id


def _apply_customer(context: Context, customer_id: str | None, events: Sequence[WebhookEvent]) -> None:
    """Apply one customer's events under its organization's lock: several of one object cost one fetch."""
    with context.database.system() as session:
        organization = organization_queries.by_customer(session, customer_id) if customer_id else None
    clock_ids = _clocks_of(context, events)
    if organization is None:
        _settle(context, events)
    else:
        if organization.test_clock_id is not None:
            clock_ids.add(organization.test_clock_id)
        try:
            with context.database.organization_lock(organization.id, _WAIT):
                _apply_objects(context, organization.id, events)
        except OrganizationBusy as busy:
            _put_back(context, events, _BUSY, str(busy), failed=False)
    for clock_id in clock_ids:
        context.bell.ring("clocks.step", str(clock_id))


def _apply_objects(context: Context, organization_id: UUID, events: Sequence[WebhookEvent]) -> None:
    for object_id in dict.fromkeys(event.object_id for event in events):
        same = [event for event in events if event.object_id == object_id]
        try:
            observe(context, organization_id, [translate.event(event.payload) for event in same])
        except _PASSING as error:
            log.warning("%s waits: %s", object_id, type(error).__name__)
            _put_back(context, same, _RETRY, f"{type(error).__name__}: {error}", failed=False)
        except Exception as error:
            log.exception("events of %s could not be applied", object_id)
            _put_back(context, same, _RETRY, f"{type(error).__name__}: {error}", failed=True)
        else:
            _settle(context, same)


def _clocks_of(context: Context, events: Sequence[WebhookEvent]) -> set[UUID]:
    """Our clocks whose Stripe clock has just arrived somewhere."""
    stripe_ids = {event.object_id for event in events if event.type.startswith("test_helpers.test_clock.")}
    if not stripe_ids:
        return set()
    with context.database.system() as session:
        found = [organization_queries.clock_by_stripe_id(session, str(stripe_id)) for stripe_id in stripe_ids]
    return {clock.id for clock in found if clock is not None}


def _settle(context: Context, events: Sequence[WebhookEvent]) -> None:
    with context.database.system() as session:
        mailbox.settle(session, [event.id for event in events], context.wall())


def _put_back(
    context: Context, events: Sequence[WebhookEvent], delay: timedelta, reason: str, *, failed: bool
) -> None:
    with context.database.system() as session:
        mailbox.put_back(session, [event.id for event in events], delay, reason, failed=failed)
    context.bell.ring("webhooks.drain", after=delay)


@tick("webhooks.import_missed", queue="webhooks")
def import_missed(context: Context) -> None:
    """Fetch what Stripe could not deliver, and store it as if it had come. Returns when all is here."""
    undelivered = list(context.gateway.list("event", {"delivery_success": False}))
    with context.system() as unit:
        known = mailbox.known_events(unit.session, [event["id"] for event in undelivered])
        missed = [event for event in undelivered if event["id"] not in known]
        if missed:
            mailbox.store_events(
                unit.session.connection(), [_row(payload, "imported") for payload in reversed(missed)]
            )
            log.warning("%d events were never delivered; imported", len(missed))
            unit.ring("webhooks.drain")
