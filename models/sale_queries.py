"""What can be sold now: a plan or a bundle by code, in one currency and interval."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from models.catalog import BundlePrice, BundleProduct, PlanPrice, Product, ProductPlan, SubscriptionBundle


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

    @property
    def awaits_sync(self) -> bool:
        """Whether Stripe lacks a price or the coupon; a bundle that saves nothing needs no coupon."""
        if any(member.price.stripe_price_id is None for member in self.members):
            return True
        if self.bundle_price is None or self.bundle_price.stripe_coupon_id is not None:
            return False
        alone = sum(member.price.amount_minor * member.quantity for member in self.members)
        return alone > self.bundle_price.amount_minor


def plan_offer(
    session: Session, code: str, currency: str, interval: str, *, private: bool = False
) -> Offer | None:
    """The current version of a plan that is sold alone; None when there is none.

    `private`: also one that the public does not see.
    """
    statement = (
        select(ProductPlan, PlanPrice)
        .join(PlanPrice, PlanPrice.plan_id == ProductPlan.id)
        .join(Product, Product.id == ProductPlan.product_id)
        .where(
            ProductPlan.code == code,
            ProductPlan.superseded_at.is_(None),
            ProductPlan.available_standalone,
            Product.status == "active",
            PlanPrice.currency == currency,
            PlanPrice.interval == interval,
        )
    )
    if not private:
        statement = statement.where(ProductPlan.is_public, Product.is_public)
    row = session.execute(statement).one_or_none()
    return Offer([OfferedPlan(row[0], row[1], 1)]) if row else None


def bundle_offer(
    session: Session, code: str, currency: str, interval: str, *, private: bool = False
) -> Offer | None:
    """A bundle with its price and its members' list prices; None when it is not sold so.

    One whose member lost its price, its availability or its product is not sold at all.
    """
    statement = (
        select(SubscriptionBundle, BundlePrice)
        .join(BundlePrice, BundlePrice.bundle_id == SubscriptionBundle.id)
        .where(
            SubscriptionBundle.code == code,
            BundlePrice.currency == currency,
            BundlePrice.interval == interval,
            BundlePrice.superseded_at.is_(None),
        )
    )
    if not private:
        statement = statement.where(SubscriptionBundle.is_public)
    row = session.execute(statement).one_or_none()
    if row is None:
        return None
    bundle, bundle_price = row
    members = _sold_members(session, bundle.id, currency, interval)
    listed = select(func.count()).select_from(BundleProduct).where(BundleProduct.bundle_id == bundle.id)
    if len(members) < session.execute(listed).scalar_one():
        return None
    return Offer(members, bundle, bundle_price)


def bundle_version(session: Session, bundle_price_id: UUID) -> Offer | None:
    """What a version of a bundle's price sells; None when it is sold no more."""
    price = session.get_one(BundlePrice, bundle_price_id)
    code = session.get_one(SubscriptionBundle, price.bundle_id).code
    offer = bundle_offer(session, code, price.currency, price.interval, private=True)
    return offer if offer is not None and offer.bundle_price is price else None


def _sold_members(session: Session, bundle_id: UUID, currency: str, interval: str) -> list[OfferedPlan]:
    rows = session.execute(
        select(ProductPlan, PlanPrice, BundleProduct.quantity)
        .select_from(BundleProduct)
        .join(ProductPlan, ProductPlan.id == BundleProduct.plan_id)
        .join(Product, Product.id == ProductPlan.product_id)
        .join(PlanPrice, PlanPrice.plan_id == ProductPlan.id)
        .where(
            BundleProduct.bundle_id == bundle_id,
            ProductPlan.available_in_bundles,
            Product.status == "active",
            PlanPrice.currency == currency,
            PlanPrice.interval == interval,
        )
        .order_by(BundleProduct.position)
    )
    return [OfferedPlan(*row) for row in rows]


def bundle_coupon(session: Session, bundle_price_id: UUID | None) -> str | None:
    """The Stripe coupon that carries a bundle's discount; None for no bundle, or one without saving."""
    if bundle_price_id is None:
        return None
    return session.get_one(BundlePrice, bundle_price_id).stripe_coupon_id
