"""What each of Stripe's objects changes here, once it has been fetched as it is now.

Every observer may run twice, late and in any sequence: it compares what is with what we have. The
caller holds the organization's lock.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from uuid import UUID

from billing.keys import stripe_key
from gateway import requests, translate
from gateway.errors import Refused
from gateway.translate import CustomerFacts, EventEnvelope, InvoiceFacts
from models import billing_queries, parking
from tasks import credit_notes, following, invoice_rows, mirroring, payment_methods, refunds, subscriptions
from tasks.context import Context, TenantUnit
from tasks.stripe_calls import call

log = logging.getLogger("dunlin.observers")

Envelopes = Sequence[EventEnvelope]
Observer = Callable[[Context, UUID, Envelopes], None]

_MISSING = "resource_missing"
# Of these Stripe has to be asked, whatever our row says: what failed there is not in it.
_ALWAYS_NEWS = frozenset(
    (
        "invoice.finalization_failed",
        "invoice.payment_failed",
        "invoice.payment_action_required",
        "invoice.payment_attempt_required",
    )
)


def _subscription(context: Context, organization_id: UUID, envelopes: Envelopes) -> None:
    facts = translate.subscription(context.gateway.fetch("subscription", _id(envelopes)))
    subscriptions.observe(context, organization_id, facts)
    following.follow(context, organization_id, facts)


def _invoice(context: Context, organization_id: UUID, envelopes: Envelopes) -> None:
    types = {envelope.type for envelope in envelopes}
    if "invoice.deleted" in types:
        _park_draft(context, organization_id, _id(envelopes), "its draft was deleted at Stripe")
        return
    if not types & _ALWAYS_NEWS:
        with context.tenant(organization_id) as unit:
            if all(_is_known(unit, translate.invoice(envelope.raw_object)) for envelope in envelopes):
                return
    facts = translate.invoice(context.gateway.fetch("invoice", _id(envelopes)))
    mirroring.observe(context, organization_id, facts)
    if "invoice.finalization_failed" in types:
        _note_failed_finalization(context, organization_id, facts)


def _is_known(unit: TenantUnit, told: InvoiceFacts) -> bool:
    """Whether our row says already what an event tells: then there is nothing to look for.

    What has become of the invoice since is the subject of other events. A draft of ours moves on by its own
    job, whatever is told of it.
    """
    invoice = billing_queries.invoice_by_stripe_id(unit.session, unit.organization.id, told.id)
    if invoice is None or told.credited_minor:
        return False
    if invoice.status == "draft" or told.status == "draft":
        return True
    # Of an open one every attempt is ours, but for those that have an event of their own.
    return told.status in ("open", invoice.status)


def _note_failed_finalization(context: Context, organization_id: UUID, facts: InvoiceFacts) -> None:
    """Without this the subscription would stay active and bring no money."""
    if facts.status == "draft" and facts.finalization_error is not None:
        reason = f"Stripe could not finalize it: {facts.finalization_error}"
        _park_draft(context, organization_id, facts.id, reason)


def _park_draft(context: Context, organization_id: UUID, stripe_invoice_id: str, reason: str) -> None:
    with context.tenant(organization_id) as unit:
        invoice = billing_queries.invoice_by_stripe_id(unit.session, organization_id, stripe_invoice_id)
        if invoice is not None and invoice.status == "draft" and invoice.parked_at is None:
            invoice_rows.park(unit, invoice, reason)


def _payment_method(context: Context, organization_id: UUID, envelopes: Envelopes) -> None:
    facts = translate.payment_method(context.gateway.fetch("payment_method", _id(envelopes)))
    with context.tenant(organization_id) as unit:
        if facts.customer_id != unit.organization.stripe_customer_id:
            payment_methods.record_detached(unit, facts.id)
        else:
            payment_methods.record_attached(unit, facts)


def _setup_intent(context: Context, organization_id: UUID, envelopes: Envelopes) -> None:
    """A card was saved in the browser: it becomes the default, once; a repeat undoes no newer choice."""
    facts = translate.setup_intent(context.gateway.fetch("setup_intent", _id(envelopes)))
    if facts.status != "succeeded" or facts.payment_method_id is None or facts.customer_id is None:
        return
    request = requests.set_default_payment_method(facts.customer_id, facts.payment_method_id)
    call(context, request, stripe_key("default_card", facts.id), organization_id)
    _follow_default(
        context, organization_id, translate.customer(context.gateway.fetch("customer", facts.customer_id))
    )


def _customer(context: Context, organization_id: UUID, envelopes: Envelopes) -> None:
    """The default card may have been changed, and the customer deleted, by a person in Stripe's dashboard."""
    facts = translate.customer(context.gateway.fetch("customer", _id(envelopes)))
    if not facts.deleted:
        _follow_default(context, organization_id, facts)
        return
    reason = f"customer {facts.id} was deleted at Stripe: nothing can be charged there any more"
    with context.system() as unit:
        if parking.park(unit.session, organization_id, context.wall(), reason, actor="stripe"):
            log.error("organization %s is parked: %s", organization_id, reason)


def _follow_default(context: Context, organization_id: UUID, facts: CustomerFacts) -> None:
    """Ours is the default that Stripe's customer has; none, when it has none."""
    if facts.default_payment_method_id is None:
        with context.tenant(organization_id) as unit:
            payment_methods.clear_default(unit)
        return
    method = translate.payment_method(
        context.gateway.fetch("payment_method", facts.default_payment_method_id)
    )
    with context.tenant(organization_id) as unit:
        payment_methods.make_default(unit, payment_methods.record_attached(unit, method))


def _refund(context: Context, organization_id: UUID, envelopes: Envelopes) -> None:
    """A refund and the charge that it is of both name the payment, whose refunds are read as they are now."""
    if all(each.object_type == "charge" and not each.raw_object.get("amount_refunded") for each in envelopes):
        return  # a refund that is made of it later has an event of its own
    intent_id = intent_of(envelopes[-1].raw_object)
    if intent_id is not None:
        refunds.observe_refunds(context, organization_id, intent_id)


def _dispute(context: Context, organization_id: UUID, envelopes: Envelopes) -> None:
    facts = translate.dispute(context.gateway.fetch("dispute", _id(envelopes)))
    refunds.observe_dispute(context, organization_id, facts)


def _credit_note(context: Context, organization_id: UUID, envelopes: Envelopes) -> None:
    facts = translate.credit_note(context.gateway.fetch("credit_note", _id(envelopes)))
    credit_notes.observe(context, organization_id, facts)


def intent_of(raw_object: Mapping[str, object]) -> str | None:
    """The payment intent that a refund, charge or dispute is about."""
    return translate.reference(raw_object.get("payment_intent"))


def _id(envelopes: Envelopes) -> str:
    return str(envelopes[-1].object_id)


# By the object's type, not the event's: all events of one object are one question to Stripe.
OBSERVERS: Mapping[str, Observer] = {
    "subscription": _subscription,
    "invoice": _invoice,
    "payment_method": _payment_method,
    "setup_intent": _setup_intent,
    "customer": _customer,
    "charge": _refund,
    "refund": _refund,
    "dispute": _dispute,
    "credit_note": _credit_note,
}


def observe(context: Context, organization_id: UUID, envelopes: Envelopes) -> None:
    """Fetch the object of these events once and apply what it is now.

    Object types that change nothing here are done, and so is an object that is at Stripe no more: what
    became of it is the subject of another event. Raises: GatewayError.
    """
    latest = envelopes[-1]
    observer = OBSERVERS.get(latest.object_type)
    if observer is None or latest.object_id is None:
        return
    try:
        observer(context, organization_id, envelopes)
    except Refused as refusal:
        if refusal.code != _MISSING:
            raise
        log.warning("%s %s is at Stripe no more", latest.object_type, latest.object_id)
