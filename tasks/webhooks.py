"""Stripe's words: stored before the 2xx; then each object is fetched as it is now, and applied.

A webhook is a doorbell. Its payload names what changed, never what we record: events come twice,
late, and in any sequence.
"""

import logging
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec

from billing.keys import stripe_key
from gateway import requests, translate, webhooks
from gateway.errors import GatewayError, InvalidSignature
from gateway.translate import EventEnvelope
from models import mailbox, organization_queries
from models.database import OrganizationBusy
from models.ops import WebhookEvent
from tasks import mirroring, payment_methods, subscriptions
from tasks.context import Context
from tasks.queue import tick
from tasks.stripe_calls import call

log = logging.getLogger("dunlin.webhooks")

_MOST_EVENTS = 100
_RETRY = timedelta(seconds=5)
_BUSY = timedelta(seconds=1)


def accept_event(context: Context, payload: bytes, signature: str) -> None:
    """Verify and store one delivery; a repeat changes nothing. Raises InvalidSignature."""
    webhooks.verify(payload, signature, context.settings.stripe_webhook_secrets, context.wall())
    try:
        decoded = msgspec.json.decode(payload, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise InvalidSignature("the signed payload is no event") from error
    with context.system() as unit:
        mailbox.store_event(unit.session, _row(decoded, "delivered"))
        unit.ring("webhooks.drain")


def _row(payload: dict[str, Any], source: str) -> WebhookEvent:
    envelope = translate.event(payload)
    return WebhookEvent(
        event_id=envelope.id,
        type=envelope.type,
        api_version=envelope.api_version,
        object_id=envelope.object_id,
        customer_id=envelope.customer_id,
        payload=payload,
        source=source,
    )


@tick("webhooks.drain", queue="webhooks")
def drain(context: Context) -> None:
    """Apply every stored event that nobody has claimed; rung for, and swept for."""
    context.bell.answered("webhooks.drain")
    while True:
        with context.database.system() as session:
            mailbox.bury_exhausted(session, WebhookEvent)
            claimed: Sequence[WebhookEvent] = mailbox.claim(
                session, WebhookEvent, context.settings.lease, _MOST_EVENTS
            )
        if not claimed:
            return
        for customer_id in dict.fromkeys(event.customer_id for event in claimed):
            _apply_customer(
                context, customer_id, [event for event in claimed if event.customer_id == customer_id]
            )


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
            with context.database.organization_lock(organization.id):
                _apply_objects(context, organization.id, events)
        except OrganizationBusy as busy:
            _put_back(context, events, _BUSY, str(busy), failed=False)
    for clock_id in clock_ids:
        context.bell.ring("clocks.step", str(clock_id))


def _apply_objects(context: Context, organization_id: UUID, events: Sequence[WebhookEvent]) -> None:
    for object_id in dict.fromkeys(event.object_id for event in events):
        same = [event for event in events if event.object_id == object_id]
        try:
            _apply(context, organization_id, [translate.event(event.payload) for event in same])
        except GatewayError as error:
            log.warning("%s waits: %s", object_id, type(error).__name__)
            _put_back(context, same, _RETRY, f"{type(error).__name__}: {error}", failed=False)
        except Exception as error:
            log.exception("events of %s could not be applied", object_id)
            _put_back(context, same, _RETRY, f"{type(error).__name__}: {error}", failed=True)
        else:
            _settle(context, same)


def _apply(context: Context, organization_id: UUID, envelopes: Sequence[EventEnvelope]) -> None:
    """Fetch the object once and apply what it is now; object types that change nothing here are done."""
    latest = envelopes[-1]
    observer = _OBSERVERS.get(latest.object_type)
    if observer is not None and latest.object_id is not None:
        observer(context, organization_id, envelopes)


def _observe_subscription(
    context: Context, organization_id: UUID, envelopes: Sequence[EventEnvelope]
) -> None:
    fetched = context.gateway.fetch("subscription", str(envelopes[-1].object_id))
    subscriptions.observe(context, organization_id, translate.subscription(fetched))


def _observe_invoice(context: Context, organization_id: UUID, envelopes: Sequence[EventEnvelope]) -> None:
    if any(envelope.type == "invoice.deleted" for envelope in envelopes):
        return
    fetched = context.gateway.fetch("invoice", str(envelopes[-1].object_id))
    mirroring.observe(context, organization_id, translate.invoice(fetched))


def _observe_payment_method(
    context: Context, organization_id: UUID, envelopes: Sequence[EventEnvelope]
) -> None:
    facts = translate.payment_method(context.gateway.fetch("payment_method", str(envelopes[-1].object_id)))
    with context.tenant(organization_id) as unit:
        if facts.customer_id is None:
            payment_methods.record_detached(unit, facts.id)
        else:
            payment_methods.record_attached(unit, facts)


def _observe_setup_intent(
    context: Context, organization_id: UUID, envelopes: Sequence[EventEnvelope]
) -> None:
    """A card was saved in the browser: make it the one that invoices are collected with."""
    facts = translate.setup_intent(context.gateway.fetch("setup_intent", str(envelopes[-1].object_id)))
    if facts.status != "succeeded" or facts.payment_method_id is None or facts.customer_id is None:
        return
    request = requests.set_default_payment_method(facts.customer_id, facts.payment_method_id)
    call(context, request, stripe_key("default_card", facts.id), organization_id)
    method = translate.payment_method(context.gateway.fetch("payment_method", facts.payment_method_id))
    with context.tenant(organization_id) as unit:
        payment_methods.make_default(unit, payment_methods.record_attached(unit, method))


def _observe_customer(context: Context, organization_id: UUID, envelopes: Sequence[EventEnvelope]) -> None:
    """The default card may have been changed by a person in Stripe's dashboard."""
    facts = translate.customer(context.gateway.fetch("customer", str(envelopes[-1].object_id)))
    if facts.deleted or facts.default_payment_method_id is None:
        return
    method = translate.payment_method(
        context.gateway.fetch("payment_method", facts.default_payment_method_id)
    )
    with context.tenant(organization_id) as unit:
        payment_methods.make_default(unit, payment_methods.record_attached(unit, method))


_OBSERVERS: dict[str, Callable[[Context, UUID, Sequence[EventEnvelope]], None]] = {
    "subscription": _observe_subscription,
    "invoice": _observe_invoice,
    "payment_method": _observe_payment_method,
    "setup_intent": _observe_setup_intent,
    "customer": _observe_customer,
}


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
        mailbox.settle(session, WebhookEvent, [event.id for event in events], context.wall())


def _put_back(
    context: Context, events: Sequence[WebhookEvent], delay: timedelta, reason: str, *, failed: bool
) -> None:
    with context.database.system() as session:
        mailbox.put_back(session, WebhookEvent, [event.id for event in events], delay, reason, failed=failed)


@tick("webhooks.import_missed", queue="webhooks")
def import_missed(context: Context) -> None:
    """Fetch what Stripe could not deliver, and store it as if it had come. Returns when all is here."""
    undelivered = list(context.gateway.list("event", {"delivery_success": False}))
    with context.system() as unit:
        known = mailbox.known_events(unit.session, [event["id"] for event in undelivered])
        missed = [event for event in undelivered if event["id"] not in known]
        for payload in reversed(missed):
            mailbox.store_event(unit.session, _row(payload, "imported"))
        if missed:
            log.warning("%d events were never delivered; imported", len(missed))
            unit.ring("webhooks.drain")
