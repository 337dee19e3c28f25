"""Letting go on what was parked, after a person looked: compared afresh, and refused with the reason.

Nothing is charged here. The work goes on by its own jobs, which look at everything once more, and park
again what they cannot do.
"""

from uuid import UUID

from billing.errors import Conflict, UnderWay
from gateway import translate
from gateway.errors import Refused
from gateway.translate import InvoiceFacts, SubscriptionFacts
from models import billing_queries, change_queries, invariants
from models.invoices import Invoice
from models.organizations import Organization
from models.subscriptions import ProductSubscription
from tasks import audit, drafts, finishing
from tasks.context import Context, TenantUnit
from tasks.credit_notes import find_invoice

_MISSING = "resource_missing"
# Of the whole system, and no reason to keep an organization parked.
_NOT_ITS_BOOKS = "I9"


def release_invoice(context: Context, organization_id: UUID, invoice_id: UUID, actor: str) -> Invoice:
    """Go on with billing a parked invoice, if nothing stands in its way any more.

    One that we had built and that is gone at Stripe is built anew. Raises: NotFound; Conflict with the
    reason for which it stays parked; GatewayError.
    """
    with context.database.organization_lock(organization_id):
        with context.tenant(organization_id) as unit:
            invoice = _parked(unit, invoice_id)
            subscription = unit.session.get_one(
                ProductSubscription, (organization_id, invoice.subscription_id)
            )
        facts, at_stripe = _seen(context, invoice, subscription)
        why_not = _obstacle(invoice, facts, at_stripe)
        with context.tenant(organization_id) as unit:
            invoice = find_invoice(unit, invoice_id)
            if why_not is None:
                _go_on(unit, invoice, facts, actor)
            elif invoice.parked_reason != why_not:
                invoice.parked_reason = why_not
    if why_not is not None:
        raise Conflict(f"it stays parked: {why_not}")
    return invoice


def _parked(unit: TenantUnit, invoice_id: UUID) -> Invoice:
    invoice = find_invoice(unit, invoice_id)
    if invoice.parked_at is None:
        raise Conflict("the invoice is not parked")
    if unit.organization.parked_at is not None:
        raise Conflict("its organization is parked: release that first")
    if change_queries.has_unfinished_change(
        unit.session, unit.organization.id, invoice.subscription_id, unit.now
    ):
        raise UnderWay("a change of its subscription is under way; try again in a moment")
    return invoice


def _seen(
    context: Context, invoice: Invoice, subscription: ProductSubscription
) -> tuple[InvoiceFacts | None, SubscriptionFacts | None]:
    """Stripe's invoice as it is now and the subscription that made it; None where there is none."""
    if invoice.stripe_invoice_id is None:
        if invoice.kind != "cycle":
            return None, None
        made_by = str(subscription.stripe_subscription_id)
        return drafts.of_period(context, made_by, invoice.period_end_at), None
    try:
        return drafts.seen(context, invoice.stripe_invoice_id)
    except Refused as refusal:
        if refusal.code != _MISSING:
            raise
        return None, None


def _obstacle(
    invoice: Invoice, facts: InvoiceFacts | None, subscription: SubscriptionFacts | None
) -> str | None:
    """Why the invoice cannot be billed as things stand now, in a sentence; None when it can."""
    if facts is None:
        if invoice.kind in ("first", "cycle"):
            return (
                f"Stripe has no invoice for the period that ended at {invoice.period_end_at:%Y-%m-%d %H:%M}"
            )
        return None
    if invoice.rated_at is None:
        if invoice.kind == "adjustment" and "invoice_id" not in facts.metadata:
            return "Stripe made it for a period that is not ours"
        if subscription is not None and subscription.collection_paused:
            return "a person paused its collection at Stripe"
        return None
    return finishing.disagreement(invoice, facts) if invoice.pushed_at is not None else None


def _go_on(unit: TenantUnit, invoice: Invoice, facts: InvoiceFacts | None, actor: str) -> None:
    audit.note(unit, actor, "invoice.release", invoice.id, reason=invoice.parked_reason)
    invoice.parked_at = invoice.parked_reason = None
    invoice.releases += 1
    kind = "invoicing.bill"
    if facts is None:  # gone: the next one is made under a key of its own
        invoice.stripe_invoice_id = invoice.pushed_at = None
    elif invoice.stripe_invoice_id is None:
        invoice.stripe_invoice_id = facts.id
        kind = "invoicing.take_over"
    unit.session.flush()
    unit.enqueue(kind, f"{invoice.id}:release{invoice.releases}", subject_id=invoice.id)


def release_organization(context: Context, organization_id: UUID, actor: str) -> Organization:
    """Go on with everything of a parked organization, if its books are right and it has its customer.

    Raises: NotFound; Conflict with the reason for which it stays parked; GatewayError.
    """
    with context.database.organization_lock(organization_id):
        with context.tenant(organization_id) as unit:
            if unit.organization.parked_at is None:
                raise Conflict("the organization is not parked")
            breaches = invariants.check_one(
                unit.session, organization_id, unit.wall, unit.settings.dunning_policy
            )
            customer_id = unit.organization.stripe_customer_id
        for breach in breaches:
            if breach.invariant != _NOT_ITS_BOOKS:
                raise Conflict(f"it stays parked: {breach.invariant}: {breach.detail}")
        if customer_id is not None and _is_deleted(context, customer_id):
            raise Conflict(f"it stays parked: customer {customer_id} was deleted at Stripe")
        with context.tenant(organization_id) as unit:
            _wake(unit, actor)
            return unit.organization


def _is_deleted(context: Context, customer_id: str) -> bool:
    try:
        return translate.customer(context.gateway.fetch("customer", customer_id)).deleted
    except Refused as refusal:
        if refusal.code != _MISSING:
            raise
        return True


def _wake(unit: TenantUnit, actor: str) -> None:
    """The jobs that met a parked organization are done and did nothing: each is asked for again."""
    organization = unit.organization
    assert organization.parked_at is not None
    parked_at, reason = organization.parked_at, organization.parked_reason
    audit.note(unit, actor, "organization.release", organization.id, reason=reason)
    organization.parked_at = organization.parked_reason = None
    again = f"parked{parked_at:%Y%m%dT%H%M%S%f}"
    for invoice in billing_queries.unparked_drafts(unit.session, organization.id):
        due_at = max(unit.now, invoice.window_closes_at)
        unit.enqueue("invoicing.bill", f"{invoice.id}:{again}", subject_id=invoice.id, due_at=due_at)
    for invoice in billing_queries.open_invoices(unit.session, organization.id):
        case = billing_queries.dunning_case(unit.session, invoice)
        if case is None and invoice.kind != "first":  # the first one is confirmed by the customer
            unit.enqueue("payments.collect", f"{invoice.id}:{again}", subject_id=invoice.id)
        elif case is not None and case.next_attempt_at is not None and case.next_attempt_at <= unit.now:
            key = f"{case.id}:{again}:{case.retries_done + 1}"
            unit.enqueue("dunning.retry", key, subject_id=case.id)
