"""Coupons, tax rates and the credit ledger: what is read and written of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from models.base import new_id
from models.catalog import Coupon, CouponProduct, Product
from models.invoices import CouponRedemption, CreditEntry, Invoice
from models.organizations import TaxRate
from models.subscriptions import ProductSubscription

_ENDED = ("cancelled", "incomplete_expired")


@dataclass(frozen=True, slots=True)
class CouponListing:
    """A coupon with the codes of the products that it covers; none means all."""

    coupon: Coupon
    products: tuple[str, ...]


def add_coupon(session: Session, coupon: Coupon, products: Sequence[Product]) -> None:
    session.add(coupon)
    session.flush()
    session.add_all(CouponProduct(coupon_id=coupon.id, product_id=product.id) for product in products)
    session.flush()


def coupon_by_code(session: Session, code: str) -> Coupon | None:
    return session.execute(select(Coupon).where(Coupon.code == code)).scalar_one_or_none()


def coupons(session: Session) -> list[CouponListing]:
    """All coupons, by code."""
    return [
        listing(session, coupon) for coupon in session.execute(select(Coupon).order_by(Coupon.code)).scalars()
    ]


def listing(session: Session, coupon: Coupon) -> CouponListing:
    return CouponListing(coupon, tuple(product.code for product in covered(session, coupon.id)))


def covered(session: Session, coupon_id: UUID) -> Sequence[Product]:
    """The products that a coupon is limited to, by code; none means all."""
    return (
        session.execute(
            select(Product)
            .join(CouponProduct, CouponProduct.product_id == Product.id)
            .where(CouponProduct.coupon_id == coupon_id)
            .order_by(Product.code)
        )
        .scalars()
        .all()
    )


def products_by_code(session: Session, codes: Sequence[str]) -> dict[str, Product]:
    found = session.execute(select(Product).where(Product.code.in_(codes))).scalars()
    return {product.code: product for product in found}


def redeem(session: Session, coupon_id: UUID, at: datetime) -> bool:
    """Count one redemption, if one is left: who comes at the same time waits for this transaction."""
    counted = session.execute(
        update(Coupon)
        .where(
            Coupon.id == coupon_id,
            Coupon.active,
            or_(Coupon.redeem_by_at.is_(None), Coupon.redeem_by_at >= at),
            or_(Coupon.max_redemptions.is_(None), Coupon.times_redeemed < Coupon.max_redemptions),
        )
        .values(times_redeemed=Coupon.times_redeemed + 1)
        .returning(Coupon.id)
        .execution_options(synchronize_session=False)
    )
    return counted.one_or_none() is not None


def give_back(session: Session, subscription: ProductSubscription) -> None:
    """Take the redemptions of a subscription back: who removes the row lowers the count, nobody else."""
    removed = session.execute(
        delete(CouponRedemption)
        .where(
            CouponRedemption.organization_id == subscription.organization_id,
            CouponRedemption.subscription_id == subscription.id,
        )
        .returning(CouponRedemption.coupon_id)
        .execution_options(synchronize_session=False)
    ).scalars()
    session.execute(
        update(Coupon)
        .where(Coupon.id.in_(list(removed)))
        .values(times_redeemed=Coupon.times_redeemed - 1)
        .execution_options(synchronize_session=False)
    )


def redemptions(
    session: Session, subscription: ProductSubscription
) -> list[tuple[CouponRedemption, Coupon, frozenset[UUID] | None]]:
    """The coupons ever put on a subscription, in that sequence, with the ids of the products they cover."""
    rows = session.execute(
        select(CouponRedemption, Coupon)
        .join(Coupon, Coupon.id == CouponRedemption.coupon_id)
        .where(
            CouponRedemption.organization_id == subscription.organization_id,
            CouponRedemption.subscription_id == subscription.id,
        )
        .order_by(CouponRedemption.id)
    ).all()
    covering = [frozenset(product.id for product in covered(session, coupon.id)) for _, coupon in rows]
    return [
        (redemption, coupon, products or None)
        for (redemption, coupon), products in zip(rows, covering, strict=True)
    ]


def tax_rates(session: Session) -> Sequence[TaxRate]:
    """All tax rates, by code."""
    return session.execute(select(TaxRate).order_by(TaxRate.code)).scalars().all()


def tax_rate(session: Session, code: str) -> TaxRate | None:
    return session.execute(select(TaxRate).where(TaxRate.code == code)).scalar_one_or_none()


def tax_rate_by_stripe_id(session: Session, stripe_id: str) -> TaxRate | None:
    return session.execute(
        select(TaxRate).where(TaxRate.stripe_tax_rate_id == stripe_id)
    ).scalar_one_or_none()


def ensure_tax_rate(session: Session, rate: TaxRate) -> None:
    """Add a rate unless one of its code stands; two at once add one."""
    session.execute(
        insert(TaxRate)
        .values(
            id=new_id(),
            code=rate.code,
            name=rate.name,
            percentage=rate.percentage,
            inclusive=rate.inclusive,
            active=True,
        )
        .on_conflict_do_nothing(index_elements=["code"])
    )


def living_subscriptions(session: Session, organization_id: UUID) -> Sequence[ProductSubscription]:
    """The subscriptions that Stripe has and may still invoice."""
    return (
        session.execute(
            select(ProductSubscription)
            .where(
                ProductSubscription.organization_id == organization_id,
                ProductSubscription.stripe_subscription_id.is_not(None),
                ProductSubscription.status.not_in(_ENDED),
            )
            .order_by(ProductSubscription.id)
        )
        .scalars()
        .all()
    )


def balance(session: Session, organization_id: UUID, currency: str) -> int:
    """The credit balance: the sum of the ledger."""
    total = session.execute(
        select(func.coalesce(func.sum(CreditEntry.amount_minor), 0)).where(
            CreditEntry.organization_id == organization_id, CreditEntry.currency == currency
        )
    )
    return int(total.scalar_one())


def credit_entry(session: Session, organization_id: UUID, key: str) -> CreditEntry | None:
    return session.execute(
        select(CreditEntry).where(CreditEntry.organization_id == organization_id, CreditEntry.key == key)
    ).scalar_one_or_none()


def credit_entries(
    session: Session, organization_id: UUID, currency: str
) -> list[tuple[CreditEntry, str | None]]:
    """The ledger, oldest first, with the number of the invoice that an entry is about."""
    rows = session.execute(
        select(CreditEntry, Invoice.number)
        .outerjoin(
            Invoice,
            (Invoice.organization_id == CreditEntry.organization_id) & (Invoice.id == CreditEntry.invoice_id),
        )
        .where(CreditEntry.organization_id == organization_id, CreditEntry.currency == currency)
        .order_by(CreditEntry.created_at, CreditEntry.id)
    )
    return [(entry, number) for entry, number in rows]


def untold_credit(session: Session, organization_id: UUID) -> Sequence[CreditEntry]:
    """Entries made by staff that Stripe's balance does not hold yet, oldest first."""
    return (
        session.execute(
            select(CreditEntry)
            .where(
                CreditEntry.organization_id == organization_id,
                CreditEntry.invoice_id.is_(None),
                CreditEntry.stripe_transaction_id.is_(None),
            )
            .order_by(CreditEntry.id)
        )
        .scalars()
        .all()
    )
