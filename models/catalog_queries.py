"""The catalog in SQL: plans and bundles by code, the public listing, ids at Stripe."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from uuid import UUID

from sqlalchemy import and_, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from billing.bundles import saving_percent
from billing.errors import Conflict
from billing.money import Money
from models.catalog import (
    BundlePrice,
    BundleProduct,
    Coupon,
    Meter,
    PlanCharge,
    PlanPrice,
    PlanTier,
    Product,
    ProductPlan,
    SubscriptionBundle,
)
from models.ops import StripeCall
from models.organizations import TaxRate
from models.subscriptions import ProductSubscription, SubscriptionItem

StripeId = InstrumentedAttribute[str | None]


@dataclass(frozen=True, slots=True)
class PlanListing:
    """A current plan with all its prices and, per meter and currency, its usage charges."""

    product: Product
    tier: PlanTier
    plan: ProductPlan
    prices: tuple[PlanPrice, ...]
    charges: tuple[tuple[Meter, PlanCharge], ...]


@dataclass(frozen=True, slots=True)
class MemberListing:
    """A bundle's member: `quantity` units of `plan` are inside the bundle's price."""

    product: Product
    plan: ProductPlan
    quantity: int


@dataclass(frozen=True, slots=True)
class BundlePriceListing:
    """A bundle's price beside what its members cost alone, in one currency and interval."""

    price: BundlePrice
    list_price: Money

    @property
    def bundle_price(self) -> Money:
        return Money(self.price.amount_minor, self.price.currency)

    @property
    def saving(self) -> Money:
        return self.list_price - self.bundle_price

    @property
    def saving_percent(self) -> int:
        """In whole per cent, as it is shown."""
        return saving_percent(self.bundle_price, self.list_price)


@dataclass(frozen=True, slots=True)
class BundleListing:
    """A bundle with its members and prices; a price whose members lack one is left out."""

    bundle: SubscriptionBundle
    members: tuple[MemberListing, ...]
    prices: tuple[BundlePriceListing, ...]


def current_plan(session: Session, code: str) -> ProductPlan | None:
    """The version of a plan that new subscriptions get, e.g. of `autoflow-professional`."""
    return session.execute(
        select(ProductPlan).where(ProductPlan.code == code, ProductPlan.superseded_at.is_(None))
    ).scalar_one_or_none()


def plan_price(session: Session, plan_id: UUID, currency: str, interval: str) -> PlanPrice | None:
    """The recurring price of a plan version in one currency and interval."""
    return session.execute(
        select(PlanPrice).where(
            PlanPrice.plan_id == plan_id, PlanPrice.currency == currency, PlanPrice.interval == interval
        )
    ).scalar_one_or_none()


def plan_charges(session: Session, plan_id: UUID, currency: str) -> list[tuple[Meter, PlanCharge]]:
    """The usage charges of a plan version in one currency, by meter code."""
    rows = session.execute(
        select(Meter, PlanCharge)
        .join(PlanCharge, PlanCharge.meter_id == Meter.id)
        .where(PlanCharge.plan_id == plan_id, PlanCharge.currency == currency)
        .order_by(Meter.code)
    )
    return [(meter, charge) for meter, charge in rows]


def bundle_by_code(session: Session, code: str) -> SubscriptionBundle | None:
    """The bundle with this code, public or not."""
    return session.execute(
        select(SubscriptionBundle).where(SubscriptionBundle.code == code)
    ).scalar_one_or_none()


def bundle_price(session: Session, bundle_id: UUID, currency: str, interval: str) -> BundlePrice | None:
    """The price of a bundle in one currency and interval, for its listed quantities."""
    return session.execute(
        select(BundlePrice).where(
            BundlePrice.bundle_id == bundle_id,
            BundlePrice.currency == currency,
            BundlePrice.interval == interval,
            BundlePrice.superseded_at.is_(None),
        )
    ).scalar_one_or_none()


def bundle_members(session: Session, bundle_id: UUID) -> list[MemberListing]:
    """The members of a bundle, in their place."""
    rows = session.execute(
        select(Product, ProductPlan, BundleProduct.quantity)
        .select_from(BundleProduct)
        .join(ProductPlan, BundleProduct.plan_id == ProductPlan.id)
        .join(Product, ProductPlan.product_id == Product.id)
        .where(BundleProduct.bundle_id == bundle_id)
        .order_by(BundleProduct.position, ProductPlan.code)
    )
    return [MemberListing(product, plan, quantity) for product, plan, quantity in rows]


def public_products(session: Session) -> Sequence[Product]:
    """What is sold, by code."""
    return (
        session.execute(
            select(Product).where(Product.is_public, Product.status == "active").order_by(Product.code)
        )
        .scalars()
        .all()
    )


def public_plans(session: Session, product_code: str) -> list[PlanListing]:
    """The plans of a product that the public can have by themselves, from the lowest tier up."""
    rows = session.execute(
        select(Product, PlanTier, ProductPlan)
        .select_from(ProductPlan)
        .join(Product, ProductPlan.product_id == Product.id)
        .join(PlanTier, ProductPlan.tier_id == PlanTier.id)
        .where(
            Product.code == product_code,
            Product.is_public,
            Product.status == "active",
            ProductPlan.is_public,
            ProductPlan.available_standalone,
            ProductPlan.superseded_at.is_(None),
        )
        .order_by(PlanTier.rank)
    ).all()
    plan_ids = [plan.id for _, _, plan in rows]
    prices = _prices_by_plan(session, plan_ids)
    charges = _charges_by_plan(session, plan_ids)
    return [
        PlanListing(product, tier, plan, prices.get(plan.id, ()), charges.get(plan.id, ()))
        for product, tier, plan in rows
    ]


def public_bundles(session: Session) -> list[BundleListing]:
    """What is sold together, from the cheapest up, with the saving against the members' prices."""
    bundles = session.execute(select(SubscriptionBundle).where(SubscriptionBundle.is_public)).scalars().all()
    listings = [bundle_listing(session, bundle) for bundle in bundles]
    sold = [
        listing
        for listing in listings
        if all(
            member.plan.available_in_bundles and member.product.status == "active"
            for member in listing.members
        )
    ]
    return sorted(sold, key=lambda listing: [entry.price.amount_minor for entry in listing.prices])


def bundle_listing(session: Session, bundle: SubscriptionBundle) -> BundleListing:
    """A bundle, its members, and each price beside the members' list price at listed quantities."""
    members = bundle_members(session, bundle.id)
    alone = _prices_by_plan(session, [member.plan.id for member in members])
    prices = session.execute(
        select(BundlePrice)
        .where(BundlePrice.bundle_id == bundle.id, BundlePrice.superseded_at.is_(None))
        .order_by(BundlePrice.currency, BundlePrice.interval)
    ).scalars()
    listed = [(price, list_price_of(price, members, alone)) for price in prices]
    return BundleListing(
        bundle,
        tuple(members),
        tuple(BundlePriceListing(price, total) for price, total in listed if total is not None),
    )


def list_price_of(
    price: BundlePrice, members: Sequence[MemberListing], alone: dict[UUID, tuple[PlanPrice, ...]]
) -> Money | None:
    """What the members cost without the bundle; None when one of them has no such price."""
    total = Money.zero(price.currency)
    for member in members:
        match = [
            each
            for each in alone.get(member.plan.id, ())
            if (each.currency, each.interval) == (price.currency, price.interval)
        ]
        if not match:
            return None
        total += Money(match[0].amount_minor, price.currency).scaled(member.quantity)
    return total


def _prices_by_plan(session: Session, plan_ids: Sequence[UUID]) -> dict[UUID, tuple[PlanPrice, ...]]:
    rows = session.execute(
        select(PlanPrice)
        .where(PlanPrice.plan_id.in_(plan_ids))
        .order_by(PlanPrice.plan_id, PlanPrice.currency, PlanPrice.interval)
    ).scalars()
    return {plan_id: tuple(prices) for plan_id, prices in groupby(rows, key=lambda price: price.plan_id)}


def _charges_by_plan(
    session: Session, plan_ids: Sequence[UUID]
) -> dict[UUID, tuple[tuple[Meter, PlanCharge], ...]]:
    rows = session.execute(
        select(Meter, PlanCharge)
        .join(PlanCharge, and_(PlanCharge.meter_id == Meter.id, PlanCharge.plan_id.in_(plan_ids)))
        .order_by(PlanCharge.plan_id, Meter.code, PlanCharge.currency)
    )
    pairs = [(meter, charge) for meter, charge in rows]
    return {plan_id: tuple(group) for plan_id, group in groupby(pairs, key=lambda pair: pair[1].plan_id)}


def all_products(session: Session) -> Sequence[Product]:
    """Every product, by code."""
    return session.execute(select(Product).order_by(Product.code)).scalars().all()


def all_prices(session: Session) -> list[tuple[PlanPrice, ProductPlan, Product]]:
    """Every price that is sold, or that stands at Stripe, with what it prices."""
    rows = session.execute(
        select(PlanPrice, ProductPlan, Product)
        .join(ProductPlan, PlanPrice.plan_id == ProductPlan.id)
        .join(Product, ProductPlan.product_id == Product.id)
        .where(or_(ProductPlan.superseded_at.is_(None), PlanPrice.stripe_price_id.is_not(None)))
        .order_by(ProductPlan.code, ProductPlan.version, PlanPrice.currency, PlanPrice.interval)
    )
    return [(price, plan, product) for price, plan, product in rows]


def ended_prices(session: Session) -> list[tuple[PlanPrice, ProductPlan]]:
    """Prices at Stripe of plan versions that are no longer sold; for the auditor's session.

    One that a subscription is just about to start with is left for the next time: Stripe would refuse it.
    """
    starting = (
        select(SubscriptionItem.price_id)
        .join(
            ProductSubscription,
            and_(
                ProductSubscription.organization_id == SubscriptionItem.organization_id,
                ProductSubscription.id == SubscriptionItem.subscription_id,
            ),
        )
        .where(
            ProductSubscription.stripe_subscription_id.is_(None), ProductSubscription.status == "incomplete"
        )
    )
    rows = session.execute(
        select(PlanPrice, ProductPlan)
        .join(ProductPlan, PlanPrice.plan_id == ProductPlan.id)
        .where(
            ProductPlan.superseded_at.is_not(None),
            PlanPrice.stripe_price_id.is_not(None),
            PlanPrice.id.not_in(starting),
        )
        .order_by(ProductPlan.code, ProductPlan.version, PlanPrice.currency, PlanPrice.interval)
    )
    return [(price, plan) for price, plan in rows]


def all_bundles(session: Session) -> list[BundleListing]:
    """Every bundle, public or not, by code."""
    bundles = session.execute(select(SubscriptionBundle).order_by(SubscriptionBundle.code)).scalars().all()
    return [bundle_listing(session, bundle) for bundle in bundles]


def all_coupons(session: Session) -> Sequence[Coupon]:
    """Every coupon that is still given out, by code."""
    return session.execute(select(Coupon).where(Coupon.active).order_by(Coupon.code)).scalars().all()


def all_tax_rates(session: Session) -> Sequence[TaxRate]:
    """Every tax rate in use, by code."""
    return session.execute(select(TaxRate).where(TaxRate.active).order_by(TaxRate.code)).scalars().all()


def give_stripe_id(session: Session, column: StripeId, row_id: UUID, stripe_id: str) -> None:
    """Set a row's empty Stripe id. Who comes second with the same id changes nothing.

    Raises: Conflict when the row has another id: one object of ours would be two at Stripe.
    """
    row_type = column.class_
    row = session.execute(select(row_type).where(row_type.id == row_id).with_for_update()).scalar_one()
    present = getattr(row, column.key)
    if present not in (None, stripe_id):
        raise Conflict(f"{row_type.__name__} {row_id} is {present} at Stripe, and not {stripe_id}")
    setattr(row, column.key, stripe_id)


def intention_by_key(session: Session, idempotency_key: str) -> StripeCall | None:
    """What was, or is to be, said to Stripe under this key."""
    return session.execute(
        select(StripeCall).where(StripeCall.idempotency_key == idempotency_key)
    ).scalar_one_or_none()
