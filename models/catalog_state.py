"""The catalog as it stands, whole: what an export writes and a comparison starts from."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from models.catalog import (
    BundlePrice,
    BundleProduct,
    Meter,
    PlanCharge,
    PlanPrice,
    PlanTier,
    Product,
    ProductPlan,
    SubscriptionBundle,
)
from models.organizations import TaxRate


@dataclass(frozen=True, slots=True)
class CurrentPlan:
    """A plan's current version with all that hangs on it."""

    product: Product
    tier: PlanTier
    plan: ProductPlan
    prices: Sequence[PlanPrice]
    charges: Sequence[tuple[Meter, PlanCharge]]


@dataclass(frozen=True, slots=True)
class CurrentBundle:
    """A bundle with its current prices, and its members in their place."""

    bundle: SubscriptionBundle
    prices: Sequence[BundlePrice]
    members: Sequence[tuple[BundleProduct, ProductPlan]]


def tiers(session: Session) -> Sequence[PlanTier]:
    return session.execute(select(PlanTier).order_by(PlanTier.rank, PlanTier.code)).scalars().all()


def tax_rates(session: Session) -> Sequence[TaxRate]:
    return session.execute(select(TaxRate).order_by(TaxRate.code)).scalars().all()


def products(session: Session) -> Sequence[Product]:
    return session.execute(select(Product).order_by(Product.code)).scalars().all()


def meters(session: Session) -> list[tuple[Product, Meter]]:
    rows = session.execute(
        select(Product, Meter).join(Meter, Meter.product_id == Product.id).order_by(Product.code, Meter.code)
    )
    return [(product, meter) for product, meter in rows]


def plans(session: Session) -> list[CurrentPlan]:
    """The current version of each plan, by product and rank."""
    rows = session.execute(
        select(Product, PlanTier, ProductPlan)
        .join(ProductPlan, ProductPlan.product_id == Product.id)
        .join(PlanTier, PlanTier.id == ProductPlan.tier_id)
        .where(ProductPlan.superseded_at.is_(None))
        .order_by(Product.code, PlanTier.rank, PlanTier.code)
    ).all()
    prices = (
        session.execute(select(PlanPrice).order_by(PlanPrice.currency, PlanPrice.interval)).scalars().all()
    )
    charges = session.execute(
        select(Meter, PlanCharge)
        .join(PlanCharge, PlanCharge.meter_id == Meter.id)
        .order_by(Meter.code, PlanCharge.currency)
    ).all()
    return [
        CurrentPlan(
            product,
            tier,
            plan,
            [price for price in prices if price.plan_id == plan.id],
            [(meter, charge) for meter, charge in charges if charge.plan_id == plan.id],
        )
        for product, tier, plan in rows
    ]


def bundles(session: Session) -> list[CurrentBundle]:
    """Every bundle, by code."""
    rows = session.execute(select(SubscriptionBundle).order_by(SubscriptionBundle.code)).scalars().all()
    prices = (
        session.execute(
            select(BundlePrice)
            .where(BundlePrice.superseded_at.is_(None))
            .order_by(BundlePrice.currency, BundlePrice.interval)
        )
        .scalars()
        .all()
    )
    members = session.execute(
        select(BundleProduct, ProductPlan)
        .join(ProductPlan, ProductPlan.id == BundleProduct.plan_id)
        .order_by(BundleProduct.position, ProductPlan.code)
    ).all()
    return [
        CurrentBundle(
            bundle,
            [price for price in prices if price.bundle_id == bundle.id],
            [(member, plan) for member, plan in members if member.bundle_id == bundle.id],
        )
        for bundle in rows
    ]


@dataclass(frozen=True, slots=True)
class LiveSubscriptions:
    """How many subscriptions run now, per code. A bundle's count for its plans and products too."""

    of_plan: dict[str, int]
    of_product: dict[str, int]
    of_bundle: dict[str, int]


_LIVE = "s.ended_at IS NULL AND s.status NOT IN ('cancelled', 'incomplete_expired')"
_ITEMS = (
    "FROM tenant.subscription_items i "
    "JOIN tenant.product_subscriptions s "
    "ON s.organization_id = i.organization_id AND s.id = i.subscription_id "
)
_OF_PLAN = text(
    f"SELECT p.code, count(DISTINCT s.id) {_ITEMS} JOIN catalog.product_plans p ON p.id = i.plan_id "
    f"WHERE i.ended_at IS NULL AND {_LIVE} GROUP BY p.code"
)
_OF_PRODUCT = text(
    f"SELECT p.code, count(DISTINCT s.id) {_ITEMS} JOIN catalog.products p ON p.id = i.product_id "
    f"WHERE i.ended_at IS NULL AND {_LIVE} GROUP BY p.code"
)
_OF_BUNDLE = text(
    "SELECT b.code, count(*) FROM tenant.product_subscriptions s "
    f"JOIN catalog.subscription_bundles b ON b.id = s.bundle_id WHERE {_LIVE} GROUP BY b.code"
)


def live_subscriptions(session: Session) -> LiveSubscriptions:
    """Counted over all organizations: only the auditor's session sees them."""
    per_plan, per_product, per_bundle = (
        {str(row[0]): int(row[1]) for row in session.execute(query)}
        for query in (_OF_PLAN, _OF_PRODUCT, _OF_BUNDLE)
    )
    return LiveSubscriptions(per_plan, per_product, per_bundle)
