"""Credit notes: corrections of issued invoices, made by us or mirrored from whoever made them at Stripe.

The arithmetic is ours (`billing.credit_notes`): Stripe is told the total and how it is settled, never asked
to split a line. The intention is committed first; it counts as credited from then on, and gets its number
when Stripe has issued it.
"""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal
from uuid import UUID

from billing import credit_notes as rules
from billing.credit_notes import Creditable, CreditedLine, Paid, Settlement, Wanted
from billing.currencies import is_too_little
from billing.errors import Conflict, InvalidTerms, NotFound, UnderWay
from billing.keys import stripe_key
from billing.money import Money, format_money
from gateway import requests, translate
from gateway.errors import Refused
from gateway.translate import CreditNoteFacts
from models import billing_queries, credit_note_queries
from models.credit_note_queries import NoteDetail
from models.credit_notes import CreditNote
from models.invoices import Invoice
from models.work import ClaimedJob
from tasks import audit, mirroring, note_rows, payments, refunds
from tasks.context import Context, TenantUnit
from tasks.queue import job
from tasks.stripe_calls import call

log = logging.getLogger("dunlin.credit_notes")

Way = Literal["refund", "credit", "out_of_band", "reduces_due"]
_MOST_REASON = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteTerms:
    """What to take back: some `lines` (by id), an `amount_minor` of the whole, or neither: all that is left.

    Amounts contain the tax. `settlement` says where a paid invoice's money goes; an open invoice's note
    lowers what is due.
    """

    reason: str
    settlement: Way | None = None
    amount_minor: int | None = None
    lines: Mapping[UUID, Wanted] = field(default_factory=dict)


def issue(
    context: Context, organization_id: UUID, invoice_id: UUID, terms: NoteTerms, key: str, *, actor: str
) -> NoteDetail:
    """Credit an issued invoice, here and at Stripe. `key` names the intention: a repeat finds the note.

    `actor` is who asked for it, for the audit log.

    Raises: NotFound, InvalidTerms; Conflict for an invoice or a rest that does not allow it; Refused when
    Stripe does not; GatewayError (a worker then goes on).
    """
    if not 0 < len(terms.reason.strip()) <= _MOST_REASON:
        raise InvalidTerms(f"must have 1 to {_MOST_REASON} characters", field="reason")
    if terms.lines and terms.amount_minor is not None:
        raise InvalidTerms("name either lines or an amount", field="amount_minor")
    with context.database.organization_lock(organization_id):
        _catch_up(context, organization_id, invoice_id)
        with context.tenant(organization_id) as unit:
            note = credit_note_queries.by_key(unit.session, organization_id, f"asked:{key}")
            if note is None:
                note = _intended(unit, find_invoice(unit, invoice_id), terms, f"asked:{key}")
                audit.note(
                    unit, actor, "invoice.credit", invoice_id, credit_note=str(note.id), **_asked(terms)
                )
            _check_same(note, invoice_id, terms)
            unit.enqueue("credit_notes.send", str(note.id), subject_id=note.id)
            rings = unit.take_rings()
        with context.ringing_at_last(rings):
            _send(context, organization_id, note.id)
    return detail(context, organization_id, note.id)


def detail(context: Context, organization_id: UUID, note_id: UUID) -> NoteDetail:
    """A note with its lines. Raises NotFound."""
    with context.tenant(organization_id) as unit:
        found = credit_note_queries.detail(unit.session, organization_id, note_id)
    if found is None:
        raise NotFound("no such credit note")
    return found


@job("credit_notes.send", queue="stripe")
def send(context: Context, claimed: ClaimedJob) -> None:
    """Go on with a note whose first sending was not answered; nothing, once it is issued or refused."""
    _send(context, claimed.organization, claimed.subject)


def observe(context: Context, organization_id: UUID, facts: CreditNoteFacts) -> None:
    """Bring our row of a credit note in step with Stripe's. The caller holds the organization's lock."""
    mirroring.observe(
        context, organization_id, translate.invoice(context.gateway.fetch("invoice", facts.invoice_id))
    )
    with context.tenant(organization_id) as unit:
        invoice = billing_queries.invoice_by_stripe_id(unit.session, organization_id, facts.invoice_id)
        if invoice is None:
            log.warning("credit note %s is about an invoice that is none of ours", facts.id)
            return
        note_rows.record(unit, invoice, facts)


def find_invoice(unit: TenantUnit, invoice_id: UUID) -> Invoice:
    """The organization's invoice. Raises NotFound."""
    found = unit.session.get(Invoice, (unit.organization.id, invoice_id), populate_existing=True)
    if found is None:
        raise NotFound("no such invoice")
    return found


def _catch_up(context: Context, organization_id: UUID, invoice_id: UUID) -> None:
    """What Stripe has now decides what is left: it may have been paid or credited there just now."""
    with context.tenant(organization_id) as unit:
        invoice = find_invoice(unit, invoice_id)
    if invoice.stripe_invoice_id is not None and invoice.finalized_at is not None:
        facts = translate.invoice(context.gateway.fetch("invoice", invoice.stripe_invoice_id))
        mirroring.observe(context, organization_id, facts)


def _intended(unit: TenantUnit, invoice: Invoice, terms: NoteTerms, key: str) -> CreditNote:
    _check_creditable(unit, invoice, terms)
    lines = note_rows.creditable(unit, invoice)
    if invoice.status == "paid":
        credited = _credited(terms, lines, invoice, sum(line.left.total for line in lines))
        total = Money(sum(line.figures.total for line in credited), invoice.currency)
        settled = rules.settle(total, str(terms.settlement), _paid(unit, invoice))
    else:
        credited = _credited(terms, lines, invoice, invoice.due_minor)
        settled = Settlement(reduces_due=sum(line.figures.total for line in credited))
        if is_too_little(rest := invoice.due_minor - settled.reduces_due, invoice.currency):
            left = format_money(Money(rest, invoice.currency))
            raise Conflict(f"{left} would stay due, which no card is charged: credit that too")
    return note_rows.add(
        unit,
        invoice,
        key,
        credited=credited,
        settled=settled,
        reason=terms.reason.strip(),
        asked=_asked(terms),
    )


def _check_creditable(unit: TenantUnit, invoice: Invoice, terms: NoteTerms) -> None:
    if invoice.status in ("draft", "void"):
        raise Conflict(f"the invoice is {invoice.status}: only what has been issued can be credited")
    if unit.organization.parked_at is not None:
        raise Conflict("the organization is parked: a person must look first")
    if credit_note_queries.pending_of(unit.session, invoice) is not None:
        raise UnderWay("another credit note of this invoice is under way")
    if invoice.status == "paid":
        if terms.settlement not in ("refund", "credit", "out_of_band"):
            raise InvalidTerms(
                "a paid invoice's note needs one of refund, credit, out_of_band", field="settlement"
            )
    elif terms.settlement not in (None, "reduces_due"):
        raise Conflict("nothing has been paid: a note lowers what is due", field="settlement")
    elif payments.unfinished(unit, invoice):
        raise UnderWay("a payment attempt is under way; try again in a moment")


def _credited(terms: NoteTerms, lines: list[Creditable], invoice: Invoice, limit: int) -> list[CreditedLine]:
    if terms.lines:
        wanted = {str(line_id): want for line_id, want in terms.lines.items()}
        return rules.by_line(lines, invoice.currency, wanted, limit)
    if terms.amount_minor is not None:
        return rules.by_amount(lines, invoice.currency, terms.amount_minor, limit)
    return rules.whole(lines, invoice.currency, limit)


def _paid(unit: TenantUnit, invoice: Invoice) -> Paid:
    given = credit_note_queries.credit_given_minor(unit.session, invoice)
    return Paid(
        refundable=credit_note_queries.refundable_minor(unit.session, invoice),
        credit_used=max(0, invoice.credit_minor - given),
    )


def _asked(terms: NoteTerms) -> dict[str, Any]:
    return {
        "reason": terms.reason.strip(),
        "settlement": terms.settlement,
        "amount_minor": terms.amount_minor,
        "lines": {str(line_id): _texts(want) for line_id, want in terms.lines.items()},
    }


def _texts(want: Wanted) -> dict[str, str | None]:
    return {name: None if value is None else str(value) for name, value in asdict(want).items()}


def _check_same(note: CreditNote, invoice_id: UUID, terms: NoteTerms) -> None:
    if (note.invoice_id, note.asked) != (invoice_id, _asked(terms)):
        raise Conflict("this key asked for another credit note", field="Idempotency-Key")
    if note.state == "refused":
        raise Conflict(f"this credit note was refused: {note.refusal}")


def _send(context: Context, organization_id: UUID, note_id: UUID) -> None:
    """Have Stripe issue a pending note, then take over what it did to the invoice and the payment."""
    with context.tenant(organization_id) as unit:
        note = unit.session.get_one(CreditNote, (organization_id, note_id))
        invoice = unit.session.get_one(Invoice, (organization_id, note.invoice_id))
    if note.state != "pending":
        return
    request = requests.create_credit_note(
        str(invoice.stripe_invoice_id),
        amount_minor=note.amount_minor,
        refund_minor=note.refund_minor or None,
        credit_minor=note.credit_minor or None,
        out_of_band_minor=note.out_of_band_minor or None,
        memo=note.reason,
        metadata={"credit_note_id": note.id},
    )
    try:
        reply = call(context, request, stripe_key("credit_note", note.id), organization_id)
    except Refused as refusal:
        with context.tenant(organization_id) as unit:
            refused = unit.session.get_one(CreditNote, (organization_id, note_id))
            refused.state, refused.refusal = "refused", refusal.message
        raise
    observe(context, organization_id, translate.credit_note(reply))
    for intent_id in _refunded_intents(context, organization_id, invoice) if note.refund_minor else ():
        refunds.observe_refunds(context, organization_id, intent_id)


def _refunded_intents(context: Context, organization_id: UUID, invoice: Invoice) -> list[str]:
    with context.tenant(organization_id) as unit:
        made = billing_queries.payments(unit.session, invoice)
    return [
        row.stripe_payment_intent_id
        for row in made
        if row.status == "succeeded" and row.stripe_payment_intent_id is not None
    ]
