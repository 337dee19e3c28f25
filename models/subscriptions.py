"""An organization's subscriptions, their items and its payment methods (tenant rows)."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, ForeignKeyConstraint, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import TENANT, Base, CreatedAt, Currency, Minor, TenantKey, new_id
from models.catalog import BundlePrice, PlanPrice, Product, ProductPlan, SubscriptionBundle
from models.organizations import Organization


class ProductSubscription(Base):
    """One organization's subscription to a plan or a bundle; mirrors one Stripe Subscription.

    `usage_closed_until_at`: every usage period that ends here or earlier has its invoice, so a
    usage event before it is late. It moves only together with the invoice that closes a period.
    """

    __tablename__ = "product_subscriptions"
    __table_args__ = (
        # Neither, once a member has been taken out of its bundle: then the items alone say what it is.
        CheckConstraint("product_plan_id IS NULL OR bundle_id IS NULL", "plan_or_bundle"),
        CheckConstraint(
            "status IN ('incomplete', 'incomplete_expired', 'trialing', 'active', 'past_due', 'paused', "
            "'cancelled')",
            "status",
        ),
        CheckConstraint("quantity > 0", "quantity"),
        UniqueConstraint(
            "organization_id", "stripe_subscription_id", name="product_subscriptions_stripe_idx"
        ),
        Index("product_subscriptions_org_status_idx", "organization_id", "status"),
        # Staff name a subscription by its id alone, and list all organizations' newest first.
        Index("ix_product_subscriptions_id", "id"),
        {"schema": TENANT},
    )
    organization_id: Mapped[TenantKey] = mapped_column(ForeignKey(Organization.id))
    id: Mapped[TenantKey] = mapped_column(default=new_id)
    product_plan_id: Mapped[UUID | None] = mapped_column(ForeignKey(ProductPlan.id))
    bundle_id: Mapped[UUID | None] = mapped_column(ForeignKey(SubscriptionBundle.id))
    bundle_price_id: Mapped[UUID | None] = mapped_column(ForeignKey(BundlePrice.id))
    currency: Mapped[Currency]
    interval: Mapped[str]
    quantity: Mapped[int] = mapped_column(default=1)
    # What is taken off the recurring lines of each period: the bundle's exact difference.
    discount_minor: Mapped[Minor] = mapped_column(default=0)
    status: Mapped[str] = mapped_column(default="incomplete")
    started_at: Mapped[datetime]
    trial_end_at: Mapped[datetime | None]
    anchor_at: Mapped[datetime]
    current_period_start_at: Mapped[datetime]
    current_period_end_at: Mapped[datetime]
    usage_closed_until_at: Mapped[datetime]
    cancel_at_period_end: Mapped[bool] = mapped_column(default=False)
    cancelled_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    stripe_subscription_id: Mapped[str | None]
    created_at: Mapped[CreatedAt]


class SubscriptionItem(Base):
    """One price on a subscription during `[started_at, ended_at)`: which plan version bills."""

    __tablename__ = "subscription_items"
    __table_args__ = (
        ForeignKeyConstraint(
            ["organization_id", "subscription_id"],
            [ProductSubscription.organization_id, ProductSubscription.id],
        ),
        # A changed item keeps its id at Stripe; here each stretch of the same terms is a row.
        Index(
            "uq_subscription_items_live",
            "organization_id",
            "stripe_item_id",
            unique=True,
            postgresql_where=text("ended_at IS NULL"),
        ),
        Index("product_subscriptions_prod_status_idx", "organization_id", "product_id", "started_at"),
        Index("ix_subscription_items_subscription", "organization_id", "subscription_id"),
        {"schema": TENANT},
    )
    organization_id: Mapped[TenantKey] = mapped_column(ForeignKey(Organization.id))
    id: Mapped[TenantKey] = mapped_column(default=new_id)
    subscription_id: Mapped[UUID]
    product_id: Mapped[UUID] = mapped_column(ForeignKey(Product.id))
    plan_id: Mapped[UUID] = mapped_column(ForeignKey(ProductPlan.id))
    price_id: Mapped[UUID] = mapped_column(ForeignKey(PlanPrice.id))
    quantity: Mapped[int]
    position: Mapped[int] = mapped_column(default=0)
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    stripe_item_id: Mapped[str | None]
    # What was really charged, after discounts, for the running period or what was left of it: a
    # change gives back the unused part of it.
    debited_minor: Mapped[Minor] = mapped_column(default=0)
    debited_from_at: Mapped[datetime | None]
    debited_until_at: Mapped[datetime | None]


class SubscriptionChange(Base):
    """A change of plan, seats or members, written before Stripe is told; applied once."""

    __tablename__ = "subscription_changes"
    __table_args__ = (
        ForeignKeyConstraint(
            ["organization_id", "subscription_id"],
            [ProductSubscription.organization_id, ProductSubscription.id],
        ),
        ForeignKeyConstraint(
            ["organization_id", "item_id"],
            [SubscriptionItem.organization_id, SubscriptionItem.id],
        ),
        CheckConstraint("proration IN ('prorate', 'next_period', 'none')", "proration"),
        CheckConstraint("(refused_at IS NULL) OR (applied_at IS NULL)", "one_end"),
        {"schema": TENANT},
    )
    organization_id: Mapped[TenantKey] = mapped_column(ForeignKey(Organization.id))
    id: Mapped[TenantKey] = mapped_column(default=new_id)
    subscription_id: Mapped[UUID]
    item_id: Mapped[UUID]
    # The terms to change to; without a price the item is taken out.
    price_id: Mapped[UUID | None] = mapped_column(ForeignKey(PlanPrice.id))
    # Or the version of its bundle that the whole subscription moves to.
    bundle_price_id: Mapped[UUID | None] = mapped_column(ForeignKey(BundlePrice.id))
    quantity: Mapped[int]
    proration: Mapped[str]
    changed_at: Mapped[datetime]
    applied_at: Mapped[datetime | None]
    refused_at: Mapped[datetime | None]
    refusal: Mapped[str | None]


class PendingCharge(Base):
    """A credit or charge of a change in mid-period; the next invoice takes it, once."""

    __tablename__ = "pending_charges"
    __table_args__ = (
        ForeignKeyConstraint(
            ["organization_id", "subscription_id"],
            [ProductSubscription.organization_id, ProductSubscription.id],
        ),
        ForeignKeyConstraint(
            ["organization_id", "item_id"],
            [SubscriptionItem.organization_id, SubscriptionItem.id],
        ),
        ForeignKeyConstraint(
            ["organization_id", "invoice_id"],
            [f"{TENANT}.invoices.organization_id", f"{TENANT}.invoices.id"],
        ),
        UniqueConstraint("organization_id", "key"),
        Index("ix_pending_charges_subscription", "organization_id", "subscription_id"),
        {"schema": TENANT},
    )
    organization_id: Mapped[TenantKey] = mapped_column(ForeignKey(Organization.id))
    id: Mapped[TenantKey] = mapped_column(default=new_id)
    subscription_id: Mapped[UUID]
    key: Mapped[str]
    item_id: Mapped[UUID]
    product_id: Mapped[UUID] = mapped_column(ForeignKey(Product.id))
    description: Mapped[str]
    quantity: Mapped[int]
    currency: Mapped[Currency]
    amount_minor: Mapped[Minor]
    # The stretch that is given back or charged; it begins with the change.
    period_start_at: Mapped[datetime]
    period_end_at: Mapped[datetime]
    explanation: Mapped[dict[str, Any]]
    invoice_id: Mapped[UUID | None]


class PaymentMethod(Base):
    """A card as Stripe describes it; never more than brand, last four digits and expiry."""

    __tablename__ = "payment_methods"
    __table_args__ = (
        UniqueConstraint("organization_id", "stripe_payment_method_id"),
        {"schema": TENANT},
    )
    organization_id: Mapped[TenantKey] = mapped_column(ForeignKey(Organization.id))
    id: Mapped[TenantKey] = mapped_column(default=new_id)
    stripe_payment_method_id: Mapped[str]
    brand: Mapped[str | None]
    last_four: Mapped[str | None]
    exp_month: Mapped[int | None]
    exp_year: Mapped[int | None]
    is_default: Mapped[bool] = mapped_column(default=False)
    attached_at: Mapped[datetime]
    detached_at: Mapped[datetime | None]
