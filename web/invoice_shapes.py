"""An invoice whole, its credit notes, and what a payment on demand came to: the JSON that goes out."""

from datetime import datetime
from uuid import UUID

from msgspec import Struct

from web.shapes import Invoice, InvoiceLine, Payment


class CreditNote(Struct, kw_only=True):
    """state: pending (Stripe has not answered yet), issued, or void.

    amount = subtotal - discount + tax; where prices contain the tax, subtotal - discount, and `tax_minor` is
    what that contains. The four ways of settlement add up to it.
    """

    id: UUID
    organization: UUID
    invoice: UUID
    number: str | None
    state: str
    currency: str
    subtotal_minor: int
    discount_minor: int
    tax_minor: int
    amount_minor: int
    reduces_due_minor: int
    refund_minor: int
    credit_minor: int
    out_of_band_minor: int
    reason: str
    stripe_number: str | None
    created_at: datetime
    issued_at: datetime | None
    voided_at: datetime | None


class CreditNotes(Struct):
    items: list[CreditNote]
    next: str | None = None


class CreditNoteLine(Struct, kw_only=True):
    """What is taken back of an invoice line: total = amount - discount + tax; an amount has `quantity` 0."""

    line: UUID
    product: str
    description: str
    quantity: str
    amount_minor: int
    discount_minor: int
    tax_minor: int
    total_minor: int


class CreditNoteDetail(CreditNote, kw_only=True):
    invoice_number: str | None
    lines: list[CreditNoteLine]


class PaymentResult(Struct, kw_only=True):
    """result: paid, declined (`decline_code` is the bank's) or needs_action (on `hosted_invoice_url`)."""

    result: str
    status: str
    due_minor: int
    currency: str
    decline_code: str | None
    message: str | None
    hosted_invoice_url: str | None


class InvoiceDetail(Invoice, kw_only=True):
    lines: list[InvoiceLine]
    payments: list[Payment]
    credit_notes: list[CreditNote]
