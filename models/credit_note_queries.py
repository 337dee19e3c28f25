"""Credit notes of one organization, inside its transaction: what they took, and what is left."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from models.catalog import Product
from models.credit_notes import CreditNote, CreditNoteLine
from models.invoices import Invoice, InvoiceLine, Payment, Refund

# A pending note counts: Stripe may have issued it already.
_COUNTED = ("pending", "issued")


@dataclass(frozen=True, slots=True)
class Credited:
    """What notes have taken of one invoice line."""

    amount_minor: int
    discount_minor: int
    tax_minor: int
    total_minor: int
    quantity: Decimal


@dataclass(frozen=True, slots=True)
class NoteDetail:
    """A note with its invoice's number and its lines, each with what it is a part of."""

    note: CreditNote
    invoice_number: str | None
    lines: list[tuple[CreditNoteLine, InvoiceLine, Product]]


def next_number(session: Session, organization_id: UUID) -> int:
    """The next place in the organization's sequence of notes; locked until this transaction ends."""
    return int(
        session.execute(
            text(
                "INSERT INTO tenant.credit_note_sequences (organization_id, last_number) "
                "VALUES (:organization_id, 1) "
                "ON CONFLICT (organization_id) "
                "DO UPDATE SET last_number = credit_note_sequences.last_number + 1 "
                "RETURNING last_number"
            ),
            {"organization_id": organization_id},
        ).scalar_one()
    )


def by_key(session: Session, organization_id: UUID, key: str) -> CreditNote | None:
    return session.execute(
        select(CreditNote).where(CreditNote.organization_id == organization_id, CreditNote.key == key)
    ).scalar_one_or_none()


def by_stripe_id(session: Session, organization_id: UUID, stripe_id: str) -> CreditNote | None:
    return session.execute(
        select(CreditNote).where(
            CreditNote.organization_id == organization_id, CreditNote.stripe_credit_note_id == stripe_id
        )
    ).scalar_one_or_none()


def of_invoice(session: Session, invoice: Invoice) -> Sequence[CreditNote]:
    """The invoice's notes that count or did count, the oldest first; refused ones are left out."""
    return (
        session.execute(
            select(CreditNote)
            .where(
                CreditNote.organization_id == invoice.organization_id,
                CreditNote.invoice_id == invoice.id,
                CreditNote.state != "refused",
            )
            .order_by(CreditNote.id)
        )
        .scalars()
        .all()
    )


def pending_of(session: Session, invoice: Invoice) -> CreditNote | None:
    """A note of this invoice that Stripe has not answered yet."""
    return session.execute(
        select(CreditNote)
        .where(
            CreditNote.organization_id == invoice.organization_id,
            CreditNote.invoice_id == invoice.id,
            CreditNote.state == "pending",
        )
        .limit(1)
    ).scalar_one_or_none()


def credited_by_line(session: Session, invoice: Invoice) -> dict[UUID, Credited]:
    """What notes have taken, by invoice line; lines that none touched are left out."""
    sums = [
        func.sum(column)
        for column in (
            CreditNoteLine.amount_minor,
            CreditNoteLine.discount_minor,
            CreditNoteLine.tax_minor,
            CreditNoteLine.total_minor,
        )
    ]
    rows = session.execute(
        select(CreditNoteLine.invoice_line_id, *sums, func.sum(CreditNoteLine.quantity))
        .join(
            CreditNote,
            (CreditNote.organization_id == CreditNoteLine.organization_id)
            & (CreditNote.id == CreditNoteLine.credit_note_id),
        )
        .where(
            CreditNote.organization_id == invoice.organization_id,
            CreditNote.invoice_id == invoice.id,
            CreditNote.state.in_(_COUNTED),
        )
        .group_by(CreditNoteLine.invoice_line_id)
    )
    found: dict[UUID, Credited] = {}
    for line_id, *amounts, quantity in (tuple(row) for row in rows):
        amount, discount, tax, total = map(int, amounts)
        found[line_id] = Credited(amount, discount, tax, total, quantity)
    return found


def credited_minor(session: Session, invoice: Invoice) -> int:
    """What notes have taken of the whole invoice."""
    return int(
        session.execute(
            select(func.coalesce(func.sum(CreditNote.amount_minor), 0)).where(
                CreditNote.organization_id == invoice.organization_id,
                CreditNote.invoice_id == invoice.id,
                CreditNote.state.in_(_COUNTED),
            )
        ).scalar_one()
    )


def credit_given_minor(session: Session, invoice: Invoice) -> int:
    """What notes of this invoice have put on the credit balance."""
    return int(
        session.execute(
            select(func.coalesce(func.sum(CreditNote.credit_minor), 0)).where(
                CreditNote.organization_id == invoice.organization_id,
                CreditNote.invoice_id == invoice.id,
                CreditNote.state.in_(_COUNTED),
            )
        ).scalar_one()
    )


def refundable_minor(session: Session, invoice: Invoice) -> int:
    """What cards brought for this invoice and have not got back; refunds under way count as back."""
    received = session.execute(
        select(func.coalesce(func.sum(Payment.amount_minor), 0)).where(
            Payment.organization_id == invoice.organization_id,
            Payment.invoice_id == invoice.id,
            Payment.status.in_(("succeeded", "refunded")),
            Payment.stripe_payment_intent_id.is_not(None),
        )
    ).scalar_one()
    back = session.execute(
        select(func.coalesce(func.sum(Refund.amount_minor), 0))
        .join(
            Payment, (Payment.organization_id == Refund.organization_id) & (Payment.id == Refund.payment_id)
        )
        .where(
            Payment.organization_id == invoice.organization_id,
            Payment.invoice_id == invoice.id,
            Refund.status.in_(("succeeded", "pending", "requires_action")),
        )
    ).scalar_one()
    pending = session.execute(
        select(func.coalesce(func.sum(CreditNote.refund_minor), 0)).where(
            CreditNote.organization_id == invoice.organization_id,
            CreditNote.invoice_id == invoice.id,
            CreditNote.state == "pending",
        )
    ).scalar_one()
    return int(received) - int(back) - int(pending)


def detail(session: Session, organization_id: UUID, note_id: UUID) -> NoteDetail | None:
    """A note with its lines, in the invoice's sequence; None for an unknown one."""
    head = session.execute(
        select(CreditNote, Invoice.number)
        .join(
            Invoice,
            (Invoice.organization_id == CreditNote.organization_id) & (Invoice.id == CreditNote.invoice_id),
        )
        .where(CreditNote.organization_id == organization_id, CreditNote.id == note_id)
    ).one_or_none()
    if head is None:
        return None
    lines = session.execute(
        select(CreditNoteLine, InvoiceLine, Product)
        .join(
            InvoiceLine,
            (InvoiceLine.organization_id == CreditNoteLine.organization_id)
            & (InvoiceLine.id == CreditNoteLine.invoice_line_id),
        )
        .join(Product, Product.id == InvoiceLine.product_id)
        .where(CreditNoteLine.organization_id == organization_id, CreditNoteLine.credit_note_id == note_id)
        .order_by(InvoiceLine.position, InvoiceLine.id)
    )
    return NoteDetail(head[0], head[1], [(line, source, product) for line, source, product in lines])
