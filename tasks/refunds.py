"""Money that goes back: refunds and disputes of payments, mirrored whoever made them."""

import logging
from uuid import UUID

from billing.lifecycles import PAYMENT_MOVES, PaymentStatus, move
from gateway import translate
from gateway.translate import DisputeFacts, RefundFacts
from models import outflow_queries
from models.invoices import Dispute, Payment, Refund
from tasks import mirroring, notifications
from tasks.context import Context, TenantUnit

log = logging.getLogger("dunlin.refunds")

_OVER = frozenset({"won", "lost", "warning_closed", "prevented"})


def observe_refunds(context: Context, organization_id: UUID, intent_id: str) -> None:
    """Bring our refunds of one payment in step with Stripe's. The caller holds the organization's lock."""
    listed = context.gateway.list("refund", {"payment_intent": intent_id})
    found = [translate.refund(each) for each in listed]
    _learn_payment(context, organization_id, intent_id)
    with context.tenant(organization_id) as unit:
        payment = outflow_queries.payment_by_intent(unit.session, organization_id, intent_id)
        if payment is None:
            log.warning("refunds of %s: that payment is none of ours", intent_id)
            return
        for facts in found:
            _record_refund(unit, payment, facts)
        _restate(unit, payment)


def _record_refund(unit: TenantUnit, payment: Payment, facts: RefundFacts) -> None:
    row = outflow_queries.refund_by_stripe_id(unit.session, unit.organization.id, facts.id)
    if row is None:
        row = Refund(
            organization_id=unit.organization.id,
            payment_id=payment.id,
            stripe_refund_id=facts.id,
            currency=facts.currency,
            created_at=unit.now,
        )
        unit.session.add(row)
    before = row.status
    row.amount_minor = facts.amount_minor
    row.status, row.failure_reason = facts.status or "pending", facts.failure_reason
    unit.session.flush()
    told = {"succeeded": "payment.refunded", "failed": "refund.failed"}.get(row.status)
    if told is not None and row.status != before:
        content = {"amount_minor": row.amount_minor, "currency": row.currency, "payment_id": str(payment.id)}
        notifications.write(unit, told, str(row.id), content)


def _restate(unit: TenantUnit, payment: Payment) -> None:
    """A payment is refunded once all of it went back; a refund that fails later brings it back in."""
    whole = outflow_queries.refunded_minor(unit.session, payment) >= payment.amount_minor > 0
    target = PaymentStatus.refunded if whole else PaymentStatus.succeeded
    payment.status = move(PAYMENT_MOVES, PaymentStatus(payment.status), target).value


def observe_dispute(context: Context, organization_id: UUID, facts: DisputeFacts) -> None:
    """Note a dispute on its payment; staff are told when it opens and how it ended."""
    intent_id = facts.payment_intent_id or ""
    _learn_payment(context, organization_id, intent_id)
    with context.tenant(organization_id) as unit:
        payment = outflow_queries.payment_by_intent(unit.session, organization_id, intent_id)
        if payment is None:
            log.warning("dispute %s is about a payment that is none of ours", facts.id)
            return
        row = outflow_queries.dispute_by_stripe_id(unit.session, organization_id, facts.id)
        if row is None:
            row = Dispute(
                organization_id=organization_id,
                payment_id=payment.id,
                stripe_dispute_id=facts.id,
                currency=facts.currency,
                amount_minor=facts.amount_minor,
                reason=facts.reason,
                status=facts.status,
                created_at=unit.now,
            )
            unit.session.add(row)
            unit.session.flush()
            _tell(unit, "dispute.opened", row)
        row.status, row.amount_minor = facts.status, facts.amount_minor
        if facts.status in _OVER and row.closed_at is None:
            row.closed_at = unit.now
            _tell(unit, "dispute.closed", row)


def _tell(unit: TenantUnit, kind: str, dispute: Dispute) -> None:
    content = {
        "amount_minor": dispute.amount_minor,
        "currency": dispute.currency,
        "reason": dispute.reason,
        "status": dispute.status,
        "payment_id": str(dispute.payment_id),
    }
    notifications.write(unit, kind, str(dispute.id), content)


def _learn_payment(context: Context, organization_id: UUID, intent_id: str) -> None:
    """Should the word of the money coming in still be under way, read the invoice that it paid first."""
    with context.tenant(organization_id) as unit:
        known = outflow_queries.payment_by_intent(unit.session, organization_id, intent_id)
    if known is not None or not intent_id:
        return
    filters = {"payment": {"type": "payment_intent", "payment_intent": intent_id}}
    for found in context.gateway.list("invoice_payment", filters):
        invoice = context.gateway.fetch("invoice", translate.payment(found).invoice_id)
        mirroring.observe(context, organization_id, translate.invoice(invoice))
