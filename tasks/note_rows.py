"""The rows of a credit note: written as an intention, issued under our number, mirrored from Stripe."""

import logging
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

from billing import credit_notes as rules
from billing.credit_notes import Creditable, CreditedLine, Figures, Settlement
from billing.errors import BillingError
from billing.invoicing import next_number
from gateway.translate import CreditNoteFacts
from models import billing_queries, credit_note_queries
from models.credit_note_queries import Credited
from models.credit_notes import CreditNote, CreditNoteLine
from models.invoices import CreditEntry, Invoice, InvoiceLine
from tasks import notifications
from tasks.context import TenantUnit

log = logging.getLogger("dunlin.credit_notes")

_NOTHING = Credited(0, 0, 0, 0, Decimal(0))


def creditable(unit: TenantUnit, invoice: Invoice) -> list[Creditable]:
    """The invoice's lines as the rules see them, each with what earlier notes took."""
    credited = credit_note_queries.credited_by_line(unit.session, invoice)
    return [
        _creditable(line, credited.get(line.id, _NOTHING), inclusive=invoice.tax_inclusive)
        for line in billing_queries.lines(unit.session, invoice)
    ]


def _creditable(line: InvoiceLine, credited: Credited, *, inclusive: bool) -> Creditable:
    on_top = 0 if inclusive else line.tax_minor
    charged = Figures(
        line.amount_minor,
        line.discount_minor,
        line.tax_minor,
        line.amount_minor - line.discount_minor + on_top,
    )
    taken = Figures(credited.amount_minor, credited.discount_minor, credited.tax_minor, credited.total_minor)
    return Creditable(
        key=str(line.id),
        quantity=Fraction(line.quantity),
        charged=charged,
        credited=taken,
        credited_quantity=Fraction(credited.quantity),
    )


def add(
    unit: TenantUnit,
    invoice: Invoice,
    key: str,
    *,
    credited: Sequence[CreditedLine],
    settled: Settlement,
    reason: str,
    asked: dict[str, Any] | None = None,
) -> CreditNote:
    """Write a note that Stripe is still to issue, or has issued under `key`, with its lines."""
    sums = sum((line.figures for line in credited), Figures())
    total = settled.reduces_due + settled.refund + settled.credit + settled.out_of_band
    note = CreditNote(
        organization_id=unit.organization.id,
        invoice_id=invoice.id,
        key=key,
        state="pending",
        currency=invoice.currency,
        # A note of Stripe's that fits no line of ours stands for itself.
        subtotal_minor=sums.amount if credited else total,
        discount_minor=sums.discount,
        tax_minor=sums.tax,
        amount_minor=total,
        reduces_due_minor=settled.reduces_due,
        refund_minor=settled.refund,
        credit_minor=settled.credit,
        out_of_band_minor=settled.out_of_band,
        reason=reason,
        asked=asked,
        created_at=unit.now,
    )
    unit.session.add(note)
    unit.session.flush()
    unit.session.add_all(_line(note, line) for line in credited)
    unit.session.flush()
    return note


def _line(note: CreditNote, credited: CreditedLine) -> CreditNoteLine:
    quantity = credited.quantity
    return CreditNoteLine(
        organization_id=note.organization_id,
        credit_note_id=note.id,
        invoice_line_id=UUID(credited.key),
        quantity=round(Decimal(quantity.numerator) / Decimal(quantity.denominator), 12),
        currency=note.currency,
        amount_minor=credited.figures.amount,
        discount_minor=credited.figures.discount,
        tax_minor=credited.figures.tax,
        total_minor=credited.figures.total,
    )


def record(unit: TenantUnit, invoice: Invoice, facts: CreditNoteFacts) -> CreditNote:
    """Bring our row of one of Stripe's notes in step with it, whoever made it. Repeatable."""
    note = credit_note_queries.by_stripe_id(unit.session, unit.organization.id, facts.id)
    if note is None and "credit_note_id" in facts.metadata:
        key = (unit.organization.id, UUID(facts.metadata["credit_note_id"]))
        note = unit.session.get(CreditNote, key)
    if note is None:
        note = _mirrored(unit, invoice, facts)
    if note.state == "pending":
        _issue(unit, invoice, note, facts)
    if facts.status == "void" and note.state == "issued":
        _void(unit, invoice, note)
    return note


def _mirrored(unit: TenantUnit, invoice: Invoice, facts: CreditNoteFacts) -> CreditNote:
    """A note that a person made at Stripe: its total goes over our lines as one by amount does."""
    settled = Settlement(
        reduces_due=facts.reduces_due_minor,
        refund=facts.refund_minor,
        credit=facts.credit_minor,
        out_of_band=facts.out_of_band_minor,
    )
    credited: list[CreditedLine] = []
    try:
        lines = creditable(unit, invoice)
        credited = rules.by_amount(lines, invoice.currency, facts.total_minor, facts.total_minor)
    except BillingError as error:
        log.error("credit note %s of invoice %s fits no line: %s", facts.id, invoice.number, error)
    reason = facts.reason or "made at Stripe"
    return add(unit, invoice, f"stripe:{facts.id}", credited=credited, settled=settled, reason=reason)


def _issue(unit: TenantUnit, invoice: Invoice, note: CreditNote, facts: CreditNoteFacts) -> None:
    """Stripe has issued it: it gets our next number, and from here on it does not change."""
    sequence = credit_note_queries.next_number(unit.session, unit.organization.id)
    note.number = next_number(f"{unit.organization.slug.upper()}-CN", sequence)
    note.stripe_credit_note_id, note.stripe_number = facts.id, facts.number
    note.issued_at, note.state = unit.now, "issued"
    unit.session.flush()
    invoice.reduced_minor += note.reduces_due_minor
    if note.credit_minor:
        _add_to_balance(unit, note)
    unit.session.flush()
    notifications.write(unit, "credit_note.issued", str(note.id), content(invoice, note))


def _void(unit: TenantUnit, invoice: Invoice, note: CreditNote) -> None:
    note.voided_at, note.state = unit.now, "void"
    invoice.reduced_minor -= note.reduces_due_minor
    unit.session.flush()


def _add_to_balance(unit: TenantUnit, note: CreditNote) -> None:
    """Stripe has moved its balance with the note, so it is not told again."""
    unit.session.add(
        CreditEntry(
            organization_id=note.organization_id,
            key=f"credit_note:{note.stripe_credit_note_id}",
            currency=note.currency,
            amount_minor=note.credit_minor,
            reason=f"credit note {note.number}",
            invoice_id=note.invoice_id,
            created_at=unit.now,
        )
    )


def content(invoice: Invoice, note: CreditNote) -> dict[str, Any]:
    """What mails and outbound webhooks say of a note."""
    return {
        "credit_note_id": str(note.id),
        "number": note.number,
        "invoice_id": str(note.invoice_id),
        "invoice_number": invoice.number,
        "currency": note.currency,
        "amount_minor": note.amount_minor,
        "reduces_due_minor": note.reduces_due_minor,
        "refund_minor": note.refund_minor,
        "credit_minor": note.credit_minor,
        "out_of_band_minor": note.out_of_band_minor,
        "reason": note.reason,
    }
