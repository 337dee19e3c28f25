"""What can be sold now: a plan or a bundle by code, in one currency and interval."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from models.catalog import BundlePrice, BundleProduct, PlanPrice, ProductPlan, SubscriptionBundle


@dataclass(frozen=True, slots=True)
class OfferedPlan:
    """A plan with its price; `quantity` is what a bundle lists of it."""

    plan: ProductPlan
    price: PlanPrice
    quantity: int


@dataclass(frozen=True, slots=True)
class Offer:
    """A plan alone, or a bundle with its members in the bundle's own sequence."""

    members: list[OfferedPlan]
    bundle: SubscriptionBundle | None = None
    bundle_price: BundlePrice | None = None


def plan_offer(session: Session, code: str, currency: str, interval: str) -> Offer | None:
    """The current version of a plan that is sold alone; None when there is none."""
    row = session.execute(
        select(ProductPlan, PlanPrice)
        .join(PlanPrice, PlanPrice.plan_id == ProductPlan.id)
        .where(
            ProductPlan.code == code,
            ProductPlan.superseded_at.is_(None),
            ProductPlan.available_standalone,
            PlanPrice.currency == currency,
            PlanPrice.interval == interval,
        )
    ).one_or_none()
    return Offer([OfferedPlan(row[0], row[1], 1)]) if row else None


def bundle_offer(session: Session, code: str, currency: str, interval: str) -> Offer | None:
    """A bundle with its price and its members' list prices; None when it is not sold so."""
    row = session.execute(
        select(SubscriptionBundle, BundlePrice)
        .join(BundlePrice, BundlePrice.bundle_id == SubscriptionBundle.id)
        .where(
            SubscriptionBundle.code == code,
            BundlePrice.currency == currency,
            BundlePrice.interval == interval,
        )
    ).one_or_none()
    if row is None:
        return None
    bundle, bundle_price = row
    members = session.execute(
        select(ProductPlan, PlanPrice, BundleProduct.quantity)
        .join(BundleProduct, BundleProduct.plan_id == ProductPlan.id)
        .join(PlanPrice, PlanPrice.plan_id == ProductPlan.id)
        .where(
            BundleProduct.bundle_id == bundle.id,
            PlanPrice.currency == currency,
            PlanPrice.interval == interval,
        )
        .order_by(BundleProduct.position)
    )
    return Offer([OfferedPlan(*member) for member in members], bundle, bundle_price)


def bundle_coupon(session: Session, bundle_price_id: UUID | None) -> str | None:
    """The Stripe coupon that carries a bundle's discount; None for no bundle, or one without saving."""
    if bundle_price_id is None:
        return None
    return session.get_one(BundlePrice, bundle_price_id).stripe_coupon_id
