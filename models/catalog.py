"""The catalog: products, tiers, versioned plans, prices, meters, bundles, coupons.

Shared by all organizations. Unit prices are in minor units of the currency and may hold
12 decimals of one; amounts are whole minor units.
"""

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, Numeric, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import CATALOG, Base, CreatedAt, Currency, Id, Minor

INTERVALS = ("month", "quarter", "year")
_INTERVAL_CHECK = "interval IN ('month', 'quarter', 'year')"


class Product(Base):
    __tablename__ = "products"
    __table_args__ = (
        CheckConstraint("billing_type IN ('hybrid', 'per_user', 'flat', 'usage')", "billing_type"),
        CheckConstraint("status IN ('active', 'inactive')", "status"),
        {"schema": CATALOG},
    )
    id: Mapped[Id]
    code: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    description: Mapped[str] = mapped_column(default="")
    icon: Mapped[str] = mapped_column(default="")
    color: Mapped[str] = mapped_column(default="")
    billing_type: Mapped[str]
    status: Mapped[str] = mapped_column(default="active")
    is_public: Mapped[bool] = mapped_column(default=True)
    features: Mapped[list[Any]] = mapped_column(default=list)
    stripe_product_id: Mapped[str | None] = mapped_column(unique=True)
    created_at: Mapped[CreatedAt]


class PlanTier(Base):
    """A base pricing tier (Starter, Professional, Enterprise) that each product's plan fills in."""

    __tablename__ = "plan_tiers"
    __table_args__ = ({"schema": CATALOG},)
    id: Mapped[Id]
    code: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    rank: Mapped[int]


class ProductPlan(Base):
    """One version of a product's plan; a change makes a new version, subscribers stay on theirs."""

    __tablename__ = "product_plans"
    __table_args__ = (
        UniqueConstraint("product_id", "tier_id", "version"),
        CheckConstraint("base_charge IN ('flat', 'per_seat')", "base_charge"),
        Index(
            "uq_product_plans_current",
            "product_id",
            "tier_id",
            unique=True,
            postgresql_where=text("superseded_at IS NULL"),
        ),
        {"schema": CATALOG},
    )
    id: Mapped[Id]
    product_id: Mapped[UUID] = mapped_column(ForeignKey(Product.id))
    tier_id: Mapped[UUID] = mapped_column(ForeignKey(PlanTier.id))
    version: Mapped[int] = mapped_column(default=1)
    code: Mapped[str] = mapped_column(index=True)
    name: Mapped[str]
    base_charge: Mapped[str]
    features: Mapped[list[Any]] = mapped_column(default=list)
    limits: Mapped[dict[str, Any]] = mapped_column(default=dict)
    is_public: Mapped[bool] = mapped_column(default=True)
    available_standalone: Mapped[bool] = mapped_column(default=True)
    available_in_bundles: Mapped[bool] = mapped_column(default=True)
    superseded_at: Mapped[datetime | None]
    created_at: Mapped[CreatedAt]


class PlanPrice(Base):
    """The recurring price of a plan in one currency and interval; flat, or per seat."""

    __tablename__ = "plan_prices"
    __table_args__ = (
        UniqueConstraint("plan_id", "currency", "interval"),
        CheckConstraint(_INTERVAL_CHECK, "interval"),
        CheckConstraint("amount_minor >= 0", "amount"),
        {"schema": CATALOG},
    )
    id: Mapped[Id]
    plan_id: Mapped[UUID] = mapped_column(ForeignKey(ProductPlan.id))
    currency: Mapped[Currency]
    interval: Mapped[str]
    amount_minor: Mapped[Minor]
    stripe_price_id: Mapped[str | None] = mapped_column(unique=True)


class Meter(Base):
    """What a product counts: the metric name in usage events, which of them, and how they add up.

    `filters` (property -> allowed values) say which events count, `group_by` (property names) by what
    its prices and rollups tell them apart. All of it is for ever: what a meter counts never changes.
    """

    __tablename__ = "meters"
    __table_args__ = (UniqueConstraint("product_id", "code"), {"schema": CATALOG})
    id: Mapped[Id]
    product_id: Mapped[UUID] = mapped_column(ForeignKey(Product.id))
    code: Mapped[str]
    name: Mapped[str]
    unit: Mapped[str]
    aggregation: Mapped[str]
    # The event property that `unique` counts; unused by the other aggregations.
    unique_property: Mapped[str | None]
    filters: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default=text("'{}'"))
    group_by: Mapped[list[Any]] = mapped_column(default=list, server_default=text("'[]'"))


class PlanCharge(Base):
    """Plan x meter x currency -> how a quantity becomes money (`billing.groups.GroupedTerms`)."""

    __tablename__ = "plan_charges"
    __table_args__ = (UniqueConstraint("plan_id", "meter_id", "currency"), {"schema": CATALOG})
    id: Mapped[Id]
    plan_id: Mapped[UUID] = mapped_column(ForeignKey(ProductPlan.id))
    meter_id: Mapped[UUID] = mapped_column(ForeignKey(Meter.id))
    currency: Mapped[Currency]
    terms: Mapped[dict[str, Any]]


class SubscriptionBundle(Base):
    __tablename__ = "subscription_bundles"
    __table_args__ = ({"schema": CATALOG},)
    id: Mapped[Id]
    code: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    description: Mapped[str] = mapped_column(default="")
    is_public: Mapped[bool] = mapped_column(default=True)
    is_featured: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[CreatedAt]


class BundlePrice(Base):
    """A bundle's price in one currency and interval, for its listed quantities.

    Versioned like a plan: the coupon's amount is fixed, and who subscribed keeps price and coupon.
    """

    __tablename__ = "bundle_prices"
    __table_args__ = (
        UniqueConstraint("bundle_id", "currency", "interval", "version"),
        Index(
            "uq_bundle_prices_current",
            "bundle_id",
            "currency",
            "interval",
            unique=True,
            postgresql_where=text("superseded_at IS NULL"),
        ),
        CheckConstraint(_INTERVAL_CHECK, "interval"),
        CheckConstraint("amount_minor >= 0", "amount"),
        {"schema": CATALOG},
    )
    id: Mapped[Id]
    bundle_id: Mapped[UUID] = mapped_column(ForeignKey(SubscriptionBundle.id))
    currency: Mapped[Currency]
    interval: Mapped[str]
    amount_minor: Mapped[Minor]
    version: Mapped[int] = mapped_column(default=1)
    superseded_at: Mapped[datetime | None]
    # The exact difference between list price and bundle price, as a Stripe coupon.
    stripe_coupon_id: Mapped[str | None] = mapped_column(unique=True)


class BundleProduct(Base):
    """A member of a bundle: one plan, at its listed quantity."""

    __tablename__ = "bundle_products"
    __table_args__ = (
        UniqueConstraint("bundle_id", "plan_id"),
        CheckConstraint("quantity > 0", "quantity"),
        {"schema": CATALOG},
    )
    id: Mapped[Id]
    bundle_id: Mapped[UUID] = mapped_column(ForeignKey(SubscriptionBundle.id))
    plan_id: Mapped[UUID] = mapped_column(ForeignKey(ProductPlan.id))
    quantity: Mapped[int] = mapped_column(default=1)
    position: Mapped[int] = mapped_column(default=0)


class Coupon(Base):
    """Something off the recurring charges of a subscription, for a time.

    `redeem_by_at` and `max_redemptions` are kept here alone: Stripe's coupon has no limits, so that
    what we have promised is never refused there.
    """

    __tablename__ = "coupons"
    __table_args__ = (
        CheckConstraint("(percent_off IS NULL) <> (amount_off_minor IS NULL)", "one_kind"),
        CheckConstraint("(amount_off_minor IS NULL) = (currency IS NULL)", "currency"),
        CheckConstraint("duration IN ('once', 'repeating', 'forever')", "duration"),
        CheckConstraint("(duration = 'repeating') = (duration_in_months IS NOT NULL)", "months"),
        CheckConstraint("percent_off > 0 AND percent_off <= 100", "percent"),
        CheckConstraint("amount_off_minor > 0", "amount"),
        CheckConstraint("times_redeemed >= 0 AND times_redeemed <= max_redemptions", "redemptions"),
        {"schema": CATALOG},
    )
    id: Mapped[Id]
    code: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    percent_off: Mapped[Decimal | None] = mapped_column(Numeric(7, 4))
    amount_off_minor: Mapped[Minor | None]
    currency: Mapped[Currency | None]
    duration: Mapped[str]
    duration_in_months: Mapped[int | None]
    active: Mapped[bool] = mapped_column(default=True)
    redeem_by_at: Mapped[datetime | None]
    max_redemptions: Mapped[int | None]
    times_redeemed: Mapped[int] = mapped_column(default=0)
    stripe_coupon_id: Mapped[str | None] = mapped_column(unique=True)
    created_at: Mapped[CreatedAt]


class CouponProduct(Base):
    """A product that a coupon covers; a coupon without any covers all."""

    __tablename__ = "coupon_products"
    __table_args__ = ({"schema": CATALOG},)
    coupon_id: Mapped[UUID] = mapped_column(ForeignKey(Coupon.id), primary_key=True)
    product_id: Mapped[UUID] = mapped_column(ForeignKey(Product.id), primary_key=True)
