"""Credit notes: corrections of issued invoices, with their lines and their numbers (tenant rows)."""

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, ForeignKeyConstraint, Index, Numeric, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from models.base import TENANT, Base, Currency, Minor, TenantKey, new_id
from models.invoices import Invoice, InvoiceLine
from models.organizations import Organization


class CreditNoteSequence(Base):
    """The last number given to a credit note of this organization; locked while one is issued."""

    __tablename__ = "credit_note_sequences"
    __table_args__ = ({"schema": TENANT},)
    organization_id: Mapped[TenantKey] = mapped_column(ForeignKey(Organization.id))
    last_number: Mapped[int]


class CreditNote(Base):
    """What of an issued invoice is taken back, by us or by a person in Stripe's dashboard.

    state: `pending` (Stripe has not answered yet: it counts as credited, and has no number), `issued`
    (numbered; a trigger refuses every change of its substance), `void` (taken back before payment),
    `refused` (Stripe said no; kept for the record, without a number).
    amount = subtotal - discount + tax (tax within prices adds nothing), and the four ways of settlement
    add up to it.
    """

    __tablename__ = "credit_notes"
    __table_args__ = (
        ForeignKeyConstraint(["organization_id", "invoice_id"], [Invoice.organization_id, Invoice.id]),
        UniqueConstraint("organization_id", "key"),
        UniqueConstraint("organization_id", "number"),
        UniqueConstraint("organization_id", "stripe_credit_note_id"),
        CheckConstraint("amount_minor > 0", "amount"),
        CheckConstraint("state IN ('pending', 'issued', 'void', 'refused')", "state"),
        CheckConstraint("(state IN ('issued', 'void')) = (issued_at IS NOT NULL)", "issued"),
        CheckConstraint("(issued_at IS NULL) = (number IS NULL)", "numbered"),
        CheckConstraint("(state = 'void') = (voided_at IS NOT NULL)", "voided"),
        CheckConstraint(
            "reduces_due_minor >= 0 AND refund_minor >= 0 AND credit_minor >= 0 AND out_of_band_minor >= 0 "
            "AND reduces_due_minor + refund_minor + credit_minor + out_of_band_minor = amount_minor",
            "settled",
        ),
        Index("ix_credit_notes_invoice", "organization_id", "invoice_id"),
        # Staff name a row by its id alone, and list all organizations' newest first.
        Index("ix_credit_notes_id", "id"),
        {"schema": TENANT},
    )
    organization_id: Mapped[TenantKey] = mapped_column(ForeignKey(Organization.id))
    id: Mapped[TenantKey] = mapped_column(default=new_id)
    invoice_id: Mapped[UUID]
    # Names the intention: who asked, or Stripe's id of a note that was made there.
    key: Mapped[str]
    state: Mapped[str] = mapped_column(default="pending")
    number: Mapped[str | None]
    currency: Mapped[Currency]
    subtotal_minor: Mapped[Minor] = mapped_column(default=0)
    discount_minor: Mapped[Minor] = mapped_column(default=0)
    tax_minor: Mapped[Minor] = mapped_column(default=0)
    amount_minor: Mapped[Minor]
    reduces_due_minor: Mapped[Minor] = mapped_column(default=0)
    refund_minor: Mapped[Minor] = mapped_column(default=0)
    credit_minor: Mapped[Minor] = mapped_column(default=0)
    out_of_band_minor: Mapped[Minor] = mapped_column(default=0)
    reason: Mapped[str]
    # What was asked for, as it was asked; None for a note that was made at Stripe.
    asked: Mapped[dict[str, Any] | None]
    stripe_credit_note_id: Mapped[str | None]
    # Stripe numbers its notes by invoice, with gaps that are none of ours: kept to find the note there.
    stripe_number: Mapped[str | None]
    created_at: Mapped[datetime]
    issued_at: Mapped[datetime | None]
    voided_at: Mapped[datetime | None]
    refusal: Mapped[str | None]


class CreditNoteLine(Base):
    """What a note takes back of one invoice line, with its share of the line's discount and tax."""

    __tablename__ = "credit_note_lines"
    __table_args__ = (
        ForeignKeyConstraint(
            ["organization_id", "credit_note_id"], [CreditNote.organization_id, CreditNote.id]
        ),
        ForeignKeyConstraint(
            ["organization_id", "invoice_line_id"], [InvoiceLine.organization_id, InvoiceLine.id]
        ),
        UniqueConstraint("organization_id", "credit_note_id", "invoice_line_id"),
        CheckConstraint("quantity >= 0", "quantity"),
        Index("ix_credit_note_lines_line", "organization_id", "invoice_line_id"),
        {"schema": TENANT},
    )
    organization_id: Mapped[TenantKey] = mapped_column(ForeignKey(Organization.id))
    id: Mapped[TenantKey] = mapped_column(default=new_id)
    credit_note_id: Mapped[UUID]
    invoice_line_id: Mapped[UUID]
    # 0 where an amount was credited, and not a number of units.
    quantity: Mapped[Decimal] = mapped_column(Numeric(36, 12), default=0)
    currency: Mapped[Currency]
    amount_minor: Mapped[Minor]
    discount_minor: Mapped[Minor]
    tax_minor: Mapped[Minor]
    total_minor: Mapped[Minor]
