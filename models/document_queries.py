"""What an invoice's document shows, in one read; and which invoices have one."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from models import credit_note_queries
from models.catalog import Meter, Product, SubscriptionBundle
from models.credit_note_queries import NoteDetail
from models.credit_notes import CreditNote
from models.invoices import Invoice, InvoiceLine, Payment
from models.organizations import Organization
from models.subscriptions import ProductSubscription


@dataclass(frozen=True, slots=True)
class DocumentLine:
    """An invoice line with the product that it charges for and, for usage, what was counted."""

    line: InvoiceLine
    product: Product
    meter: Meter | None


@dataclass(frozen=True, slots=True)
class InvoiceDocument:
    """An invoice and all that is printed with it; `bundle` when it was bought as one."""

    invoice: Invoice
    organization: Organization
    bundle: SubscriptionBundle | None
    lines: Sequence[DocumentLine]
    payments: Sequence[Payment]
    credit_notes: Sequence[CreditNote] = ()


@dataclass(frozen=True, slots=True)
class NoteDocument:
    """A credit note with its lines, the invoice that it corrects, and whose it is."""

    found: NoteDetail
    invoice: Invoice
    organization: Organization


def invoice_document(session: Session, organization_id: UUID, invoice_id: UUID) -> InvoiceDocument | None:
    """The content of one invoice's document; None for an unknown one. Lines in their place."""
    head = session.execute(
        select(Invoice, Organization, SubscriptionBundle)
        .join(Organization, Organization.id == Invoice.organization_id)
        .join(
            ProductSubscription,
            (ProductSubscription.organization_id == Invoice.organization_id)
            & (ProductSubscription.id == Invoice.subscription_id),
        )
        .outerjoin(SubscriptionBundle, SubscriptionBundle.id == ProductSubscription.bundle_id)
        .where(Invoice.organization_id == organization_id, Invoice.id == invoice_id)
    ).one_or_none()
    if head is None:
        return None
    payments = session.execute(
        select(Payment)
        .where(Payment.organization_id == organization_id, Payment.invoice_id == invoice_id)
        .order_by(Payment.attempt)
    ).scalars()
    invoice, organization, bundle = head
    notes = [note for note in credit_note_queries.of_invoice(session, invoice) if note.number is not None]
    lines = _lines(session, organization_id, invoice_id)
    return InvoiceDocument(invoice, organization, bundle, lines, payments.all(), notes)


def note_document(session: Session, organization_id: UUID, note_id: UUID) -> NoteDocument | None:
    """The content of one credit note's document; None for an unknown one."""
    found = credit_note_queries.detail(session, organization_id, note_id)
    if found is None:
        return None
    invoice = session.get_one(Invoice, (organization_id, found.note.invoice_id))
    return NoteDocument(found, invoice, session.get_one(Organization, organization_id))


def finalized_invoices(session: Session) -> list[tuple[UUID, str, UUID]]:
    """(organization id, its slug, invoice id) of every invoice that has a number; all organizations'."""
    rows = session.execute(
        select(Organization.id, Organization.slug, Invoice.id)
        .join(Invoice, Invoice.organization_id == Organization.id)
        .where(Invoice.finalized_at.is_not(None))
        .order_by(Organization.slug, Invoice.number)
    )
    return [(organization_id, slug, invoice_id) for organization_id, slug, invoice_id in rows]


def issued_notes(session: Session) -> list[tuple[UUID, str, UUID]]:
    """(organization id, its slug, note id) of every credit note that has a number; all organizations'."""
    rows = session.execute(
        select(Organization.id, Organization.slug, CreditNote.id)
        .join(CreditNote, CreditNote.organization_id == Organization.id)
        .where(CreditNote.number.is_not(None))
        .order_by(Organization.slug, CreditNote.number)
    )
    return [(organization_id, slug, note_id) for organization_id, slug, note_id in rows]


def _lines(session: Session, organization_id: UUID, invoice_id: UUID) -> list[DocumentLine]:
    rows = session.execute(
        select(InvoiceLine, Product, Meter)
        .join(Product, Product.id == InvoiceLine.product_id)
        .outerjoin(Meter, Meter.id == InvoiceLine.meter_id)
        .where(InvoiceLine.organization_id == organization_id, InvoiceLine.invoice_id == invoice_id)
        .order_by(InvoiceLine.position, InvoiceLine.key)
    )
    return [DocumentLine(line, product, meter) for line, product, meter in rows]
