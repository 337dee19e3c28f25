"""Invoices, lines, payments, refunds, dunning, credit balance, notifications (tenant rows)."""

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, ForeignKeyConstraint, Index, Numeric, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from models.base import TENANT, Base, Currency, Minor, TenantKey, new_id
from models.catalog import Coupon
from models.organizations import Organization, TaxRate
from models.subscriptions import ProductSubscription, SubscriptionItem


class InvoiceSequence(Base):
    """The last number given to an invoice of this organization; locked while one is finalized."""

    __tablename__ = "invoice_sequences"
    __table_args__ = ({"schema": TENANT},)
    organization_id: Mapped[TenantKey] = mapped_column(ForeignKey(Organization.id))
    last_number: Mapped[int]


class Invoice(Base):
    """One invoice; at most one per subscription, period and kind.

    kind: `first` (made by Stripe when the subscription starts), `cycle` (closes the period
    `[period_start_at, period_end_at)` and charges the next one in advance), `final` (closes a
    period that ends with the subscription), `adjustment` (late usage after that).
    A draft moves: made -> window closes -> rated -> pushed to Stripe -> compared -> finalized.
    Once `finalized_at` is set a trigger refuses every change of its substance.
    """

    __tablename__ = "invoices"
    __table_args__ = (
        ForeignKeyConstraint(
            ["organization_id", "subscription_id"],
            [ProductSubscription.organization_id, ProductSubscription.id],
        ),
        UniqueConstraint("organization_id", "subscription_id", "period_start_at", "kind"),
        UniqueConstraint("organization_id", "stripe_invoice_id"),
        UniqueConstraint("organization_id", "number"),
        CheckConstraint("kind IN ('first', 'cycle', 'final', 'adjustment')", "kind"),
        CheckConstraint("status IN ('draft', 'open', 'paid', 'void', 'uncollectible')", "status"),
        CheckConstraint("total_minor = subtotal_minor - discount_minor + tax_minor - credit_minor", "total"),
        CheckConstraint("paid_minor >= 0 AND paid_minor <= total_minor", "paid"),
        CheckConstraint("reduced_minor >= 0 AND paid_minor + reduced_minor <= total_minor", "due"),
        CheckConstraint("(status = 'draft') = (finalized_at IS NULL)", "finalized"),
        CheckConstraint("finalized_at IS NULL OR number IS NOT NULL", "numbered"),
        Index("ix_invoices_status", "organization_id", "status"),
        # Staff name a row by its id alone, and list all organizations' newest first; so below.
        Index("ix_invoices_id", "id"),
        {"schema": TENANT},
    )
    organization_id: Mapped[TenantKey] = mapped_column(ForeignKey(Organization.id))
    id: Mapped[TenantKey] = mapped_column(default=new_id)
    subscription_id: Mapped[UUID]
    kind: Mapped[str]
    period_start_at: Mapped[datetime]
    period_end_at: Mapped[datetime]
    currency: Mapped[Currency]
    status: Mapped[str] = mapped_column(default="draft")
    number: Mapped[str | None]
    subtotal_minor: Mapped[Minor] = mapped_column(default=0)
    discount_minor: Mapped[Minor] = mapped_column(default=0)
    # Exclusive tax only: inclusive tax is inside the lines and shown on them.
    tax_minor: Mapped[Minor] = mapped_column(default=0)
    credit_minor: Mapped[Minor] = mapped_column(default=0)
    total_minor: Mapped[Minor] = mapped_column(default=0)
    paid_minor: Mapped[Minor] = mapped_column(default=0)
    # What credit notes took off before payment: less is due, while the invoice itself stays as it is.
    reduced_minor: Mapped[Minor] = mapped_column(default=0)
    # The rate in force when the draft was made; what it says is copied beside it when it is rated.
    tax_rate_id: Mapped[UUID | None] = mapped_column(ForeignKey(TaxRate.id))
    tax_name: Mapped[str | None]
    tax_percentage: Mapped[Decimal | None] = mapped_column(Numeric(7, 4))
    tax_inclusive: Mapped[bool] = mapped_column(default=False)
    window_closes_at: Mapped[datetime]
    rated_at: Mapped[datetime | None]
    pushed_at: Mapped[datetime | None]
    finalized_at: Mapped[datetime | None]
    paid_at: Mapped[datetime | None]
    closed_at: Mapped[datetime | None]
    # Our figure and Stripe's differ, or an invariant broke: nobody is charged until a person looked.
    parked_at: Mapped[datetime | None]
    parked_reason: Mapped[str | None]
    # How often a person has let it go on: Stripe keeps its refusals under the keys of before.
    releases: Mapped[int] = mapped_column(default=0, server_default="0")
    content_hash: Mapped[str | None]
    stripe_invoice_id: Mapped[str | None]
    hosted_invoice_url: Mapped[str | None]
    created_at: Mapped[datetime]

    @property
    def due_minor(self) -> int:
        """What is still to be paid: the total, less credit notes before payment, less what came in."""
        return self.total_minor - self.reduced_minor - self.paid_minor


class InvoiceLine(Base):
    """One line: what, how much, why. `explanation` recomputes to the same amount."""

    __tablename__ = "invoice_lines"
    __table_args__ = (
        ForeignKeyConstraint(["organization_id", "invoice_id"], [Invoice.organization_id, Invoice.id]),
        ForeignKeyConstraint(
            ["organization_id", "subscription_id"],
            [ProductSubscription.organization_id, ProductSubscription.id],
        ),
        ForeignKeyConstraint(
            ["organization_id", "item_id"], [SubscriptionItem.organization_id, SubscriptionItem.id]
        ),
        UniqueConstraint("organization_id", "invoice_id", "key"),
        CheckConstraint(
            "kind IN ('recurring', 'seats', 'usage', 'minimum', 'adjustment', 'proration', 'credit')", "kind"
        ),
        Index("ix_invoice_lines_usage", "organization_id", "subscription_id", "meter_id", "period_start_at"),
        {"schema": TENANT},
    )
    organization_id: Mapped[TenantKey] = mapped_column(ForeignKey(Organization.id))
    id: Mapped[TenantKey] = mapped_column(default=new_id)
    invoice_id: Mapped[UUID]
    subscription_id: Mapped[UUID]
    key: Mapped[str]
    position: Mapped[int]
    kind: Mapped[str]
    product_id: Mapped[UUID]
    item_id: Mapped[UUID | None]
    meter_id: Mapped[UUID | None]
    description: Mapped[str]
    quantity: Mapped[Decimal] = mapped_column(Numeric(36, 12))
    unit_price: Mapped[Decimal | None] = mapped_column(Numeric(24, 12))
    currency: Mapped[Currency]
    amount_minor: Mapped[Minor]
    discountable: Mapped[bool]
    discount_minor: Mapped[Minor] = mapped_column(default=0)
    tax_minor: Mapped[Minor] = mapped_column(default=0)
    period_start_at: Mapped[datetime]
    period_end_at: Mapped[datetime]
    explanation: Mapped[dict[str, Any]]


class Payment(Base):
    """One attempt to collect an invoice; `attempt` counts from 1 and names its idempotency key.

    `demanded`: a person asked for it, outside of the dunning policy's dates.
    """

    __tablename__ = "payments"
    __table_args__ = (
        ForeignKeyConstraint(["organization_id", "invoice_id"], [Invoice.organization_id, Invoice.id]),
        UniqueConstraint("organization_id", "invoice_id", "attempt"),
        CheckConstraint("status IN ('pending', 'succeeded', 'failed', 'unknown', 'refunded')", "status"),
        CheckConstraint("amount_minor >= 0", "amount"),
        Index("ix_payments_intent", "organization_id", "stripe_payment_intent_id"),
        Index("ix_payments_id", "id"),
        {"schema": TENANT},
    )
    organization_id: Mapped[TenantKey] = mapped_column(ForeignKey(Organization.id))
    id: Mapped[TenantKey] = mapped_column(default=new_id)
    invoice_id: Mapped[UUID]
    attempt: Mapped[int]
    amount_minor: Mapped[Minor]
    currency: Mapped[Currency]
    status: Mapped[str] = mapped_column(default="pending")
    demanded: Mapped[bool] = mapped_column(default=False)
    decline_code: Mapped[str | None]
    decline_message: Mapped[str | None]
    stripe_payment_intent_id: Mapped[str | None]
    attempted_at: Mapped[datetime]
    settled_at: Mapped[datetime | None]


class Refund(Base):
    """Money of a payment given back, by us or by a person in Stripe's dashboard; `status` is Stripe's."""

    __tablename__ = "refunds"
    __table_args__ = (
        ForeignKeyConstraint(["organization_id", "payment_id"], [Payment.organization_id, Payment.id]),
        UniqueConstraint("organization_id", "stripe_refund_id"),
        CheckConstraint("amount_minor > 0", "amount"),
        Index("ix_refunds_payment", "organization_id", "payment_id"),
        {"schema": TENANT},
    )
    organization_id: Mapped[TenantKey] = mapped_column(ForeignKey(Organization.id))
    id: Mapped[TenantKey] = mapped_column(default=new_id)
    payment_id: Mapped[UUID]
    stripe_refund_id: Mapped[str]
    currency: Mapped[Currency]
    amount_minor: Mapped[Minor]
    status: Mapped[str]
    failure_reason: Mapped[str | None]
    created_at: Mapped[datetime]


class Dispute(Base):
    """A cardholder's complaint at their bank about a payment; `reason` and `status` are Stripe's."""

    __tablename__ = "disputes"
    __table_args__ = (
        ForeignKeyConstraint(["organization_id", "payment_id"], [Payment.organization_id, Payment.id]),
        UniqueConstraint("organization_id", "stripe_dispute_id"),
        CheckConstraint("amount_minor > 0", "amount"),
        Index("ix_disputes_payment", "organization_id", "payment_id"),
        {"schema": TENANT},
    )
    organization_id: Mapped[TenantKey] = mapped_column(ForeignKey(Organization.id))
    id: Mapped[TenantKey] = mapped_column(default=new_id)
    payment_id: Mapped[UUID]
    stripe_dispute_id: Mapped[str]
    currency: Mapped[Currency]
    amount_minor: Mapped[Minor]
    reason: Mapped[str]
    status: Mapped[str]
    created_at: Mapped[datetime]
    closed_at: Mapped[datetime | None]


class CreditEntry(Base):
    """The credit balance's ledger: signed entries; the balance is their sum.

    An entry without an invoice is given (or taken back) by staff and told to Stripe; the others say
    what Stripe did by itself when it finalized or voided an invoice. Nothing but Stripe's id is ever
    written to an entry that stands.
    """

    __tablename__ = "credit_entries"
    __table_args__ = (
        ForeignKeyConstraint(["organization_id", "invoice_id"], [Invoice.organization_id, Invoice.id]),
        UniqueConstraint("organization_id", "key"),
        Index("ix_credit_entries_currency", "organization_id", "currency"),
        {"schema": TENANT},
    )
    organization_id: Mapped[TenantKey] = mapped_column(ForeignKey(Organization.id))
    id: Mapped[TenantKey] = mapped_column(default=new_id)
    key: Mapped[str]
    currency: Mapped[Currency]
    amount_minor: Mapped[Minor]
    reason: Mapped[str]
    invoice_id: Mapped[UUID | None]
    stripe_transaction_id: Mapped[str | None]
    created_at: Mapped[datetime]


class CouponRedemption(Base):
    """A coupon on a subscription; how long it lasts follows from the coupon and the subscription's start."""

    __tablename__ = "coupon_redemptions"
    __table_args__ = (
        ForeignKeyConstraint(
            ["organization_id", "subscription_id"],
            [ProductSubscription.organization_id, ProductSubscription.id],
        ),
        ForeignKeyConstraint(
            ["organization_id", "spent_by_invoice_id"], [Invoice.organization_id, Invoice.id]
        ),
        UniqueConstraint("organization_id", "subscription_id", "coupon_id"),
        {"schema": TENANT},
    )
    organization_id: Mapped[TenantKey] = mapped_column(ForeignKey(Organization.id))
    id: Mapped[TenantKey] = mapped_column(default=new_id)
    subscription_id: Mapped[UUID]
    coupon_id: Mapped[UUID] = mapped_column(ForeignKey(Coupon.id))
    redeemed_at: Mapped[datetime]
    # The first invoice that a `once` coupon lowered: there is no second.
    spent_by_invoice_id: Mapped[UUID | None]


class DunningCase(Base):
    """The pursuit of one unpaid invoice: retries, grace, and how it ended."""

    __tablename__ = "dunning_cases"
    __table_args__ = (
        ForeignKeyConstraint(["organization_id", "invoice_id"], [Invoice.organization_id, Invoice.id]),
        ForeignKeyConstraint(
            ["organization_id", "subscription_id"],
            [ProductSubscription.organization_id, ProductSubscription.id],
        ),
        UniqueConstraint("organization_id", "invoice_id"),
        CheckConstraint("state IN ('open', 'recovered', 'stopped')", "state"),
        CheckConstraint("(state = 'open') = (closed_at IS NULL)", "closed"),
        Index("ix_dunning_cases_id", "id"),
        {"schema": TENANT},
    )
    organization_id: Mapped[TenantKey] = mapped_column(ForeignKey(Organization.id))
    id: Mapped[TenantKey] = mapped_column(default=new_id)
    invoice_id: Mapped[UUID]
    subscription_id: Mapped[UUID]
    state: Mapped[str] = mapped_column(default="open")
    first_failed_at: Mapped[datetime]
    grace_until_at: Mapped[datetime]
    retries_done: Mapped[int] = mapped_column(default=0)
    next_attempt_at: Mapped[datetime | None]
    decline_code: Mapped[str | None]
    closed_at: Mapped[datetime | None]


class DunningStep(Base):
    """The timeline of a case: what happened when, as finance and the customer see it."""

    __tablename__ = "dunning_steps"
    __table_args__ = (
        ForeignKeyConstraint(["organization_id", "case_id"], [DunningCase.organization_id, DunningCase.id]),
        UniqueConstraint("organization_id", "case_id", "key"),
        {"schema": TENANT},
    )
    organization_id: Mapped[TenantKey] = mapped_column(ForeignKey(Organization.id))
    id: Mapped[TenantKey] = mapped_column(default=new_id)
    case_id: Mapped[UUID]
    # What names the step within its case, so that writing it twice is the same as once.
    key: Mapped[str]
    at: Mapped[datetime]
    kind: Mapped[str]
    detail: Mapped[str]


class Notification(Base):
    """A mail to the customer or an outbound webhook to the products, written with its cause.

    state: `queued` (to be sent), `sent`, `failed` (refused for good), `kept` (nobody is told: no mail
    server is set).
    """

    __tablename__ = "notifications"
    __table_args__ = (
        UniqueConstraint("organization_id", "key"),
        CheckConstraint("channel IN ('mail', 'webhook')", "channel"),
        CheckConstraint("state IN ('queued', 'sent', 'kept', 'failed')", "state"),
        Index("ix_notifications_id", "id"),
        {"schema": TENANT},
    )
    organization_id: Mapped[TenantKey] = mapped_column(ForeignKey(Organization.id))
    id: Mapped[TenantKey] = mapped_column(default=new_id)
    key: Mapped[str]
    channel: Mapped[str]
    kind: Mapped[str]
    recipient: Mapped[str]
    subject: Mapped[str]
    content: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(default="queued")
    created_at: Mapped[datetime]
    sent_at: Mapped[datetime | None]
    # Why a mail server refused it for good.
    error: Mapped[str | None]
