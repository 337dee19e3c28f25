"""Credit notes: corrections of issued invoices, mirrored whoever made them."""

import logging
from uuid import UUID

from billing.errors import Conflict
from gateway import translate
from gateway.translate import CreditNoteFacts
from models import billing_queries, outflow_queries
from models.invoices import CreditEntry, CreditNote
from tasks import mirroring, notifications
from tasks.context import Context, TenantUnit

log = logging.getLogger("dunlin.credit_notes")


def observe(context: Context, organization_id: UUID, facts: CreditNoteFacts) -> None:
    """Bring our row of a credit note in step with Stripe's. The caller holds the organization's lock.

    Raises: Conflict for a note that was split between several ways: those are booked by a person.
    """
    mirroring.observe(
        context, organization_id, translate.invoice(context.gateway.fetch("invoice", facts.invoice_id))
    )
    with context.tenant(organization_id) as unit:
        invoice = billing_queries.invoice_by_stripe_id(unit.session, organization_id, facts.invoice_id)
        if invoice is None:
            log.warning("credit note %s is about an invoice that is none of ours", facts.id)
            return
        row = outflow_queries.credit_note_by_stripe_id(unit.session, organization_id, facts.id)
        if row is None:
            row = _made(unit, invoice.id, facts)
        if facts.status == "void" and row.voided_at is None:
            row.voided_at = unit.now


def _made(unit: TenantUnit, invoice_id: UUID, facts: CreditNoteFacts) -> CreditNote:
    if len(facts.settled_by) != 1:
        raise Conflict(f"credit note {facts.id} was settled by {', '.join(facts.settled_by) or 'nothing'}")
    (settlement,) = facts.settled_by
    row = CreditNote(
        organization_id=unit.organization.id,
        invoice_id=invoice_id,
        number=facts.number or facts.id,
        currency=facts.currency,
        amount_minor=facts.total_minor,
        settlement=settlement,
        reason=facts.reason or "made at Stripe",
        stripe_credit_note_id=facts.id,
        created_at=unit.now,
    )
    unit.session.add(row)
    unit.session.flush()
    if settlement == "credit":
        _add_to_balance(unit, row)
    content = {"number": row.number, "amount_minor": row.amount_minor, "currency": row.currency}
    notifications.write(unit, "credit_note.issued", str(row.id), content)
    return row


def _add_to_balance(unit: TenantUnit, note: CreditNote) -> None:
    """Stripe has moved its balance with the note, so it is not told again."""
    unit.session.add(
        CreditEntry(
            organization_id=note.organization_id,
            key=f"credit_note:{note.stripe_credit_note_id}",
            currency=note.currency,
            amount_minor=note.amount_minor,
            reason=f"credit note {note.number}",
            invoice_id=note.invoice_id,
            created_at=note.created_at,
        )
    )
