"""Changes of a subscription: the item that changes, the charges that wait for an invoice."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import and_, or_, select, update
from sqlalchemy.orm import Session

from billing.periods import Interval
from models.catalog import PlanPrice, Product, ProductPlan
from models.subscriptions import PendingCharge, ProductSubscription, SubscriptionChange, SubscriptionItem
from models.usage import UsageRecord


def priced_plan(session: Session, price_id: UUID) -> tuple[ProductPlan, PlanPrice, Product]:
    """A price with the plan and the product that it sells."""
    row = session.execute(
        select(ProductPlan, PlanPrice, Product)
        .join(PlanPrice, PlanPrice.plan_id == ProductPlan.id)
        .join(Product, Product.id == ProductPlan.product_id)
        .where(PlanPrice.id == price_id)
    ).one()
    return row[0], row[1], row[2]


def live_items(session: Session, organization_id: UUID, subscription_id: UUID) -> Sequence[SubscriptionItem]:
    """The items whose end is not known, in the subscription's own sequence."""
    return (
        session.execute(
            select(SubscriptionItem)
            .where(
                SubscriptionItem.organization_id == organization_id,
                SubscriptionItem.subscription_id == subscription_id,
                SubscriptionItem.ended_at.is_(None),
            )
            .order_by(SubscriptionItem.position)
        )
        .scalars()
        .all()
    )


def all_charges(session: Session, organization_id: UUID, subscription_id: UUID) -> Sequence[PendingCharge]:
    """Every charge of a change of the subscription, taken by an invoice or not."""
    return (
        session.execute(
            select(PendingCharge)
            .where(
                PendingCharge.organization_id == organization_id,
                PendingCharge.subscription_id == subscription_id,
            )
            .order_by(PendingCharge.id)
        )
        .scalars()
        .all()
    )


def pending_charges(
    session: Session, organization_id: UUID, subscription_id: UUID, before: datetime
) -> Sequence[PendingCharge]:
    """Charges of changes made before an instant that no invoice has taken."""
    return (
        session.execute(
            select(PendingCharge)
            .where(
                PendingCharge.organization_id == organization_id,
                PendingCharge.subscription_id == subscription_id,
                PendingCharge.invoice_id.is_(None),
                or_(
                    PendingCharge.period_start_at < before,
                    # A new anchor closes the period at its own instant, with the credit of what it ends.
                    and_(PendingCharge.period_start_at == before, PendingCharge.key.startswith("restart:")),
                ),
            )
            .order_by(PendingCharge.id)
        )
        .scalars()
        .all()
    )


def attribute_usage(session: Session, old: SubscriptionItem, new: SubscriptionItem) -> None:
    """Give waiting usage from the new item's start on to the new item."""
    session.execute(
        update(UsageRecord)
        .where(
            UsageRecord.organization_id == old.organization_id,
            UsageRecord.subscription_id == old.subscription_id,
            UsageRecord.item_id == old.id,
            UsageRecord.occurred_at >= new.started_at,
            UsageRecord.state == "waiting",
        )
        .values(item_id=new.id)
    )


def unfinished_change(
    session: Session, organization_id: UUID, subscription_id: UUID
) -> SubscriptionChange | None:
    """The change of this subscription that was begun, or is planned, and has come to no end."""
    return session.execute(
        select(SubscriptionChange)
        .where(
            SubscriptionChange.organization_id == organization_id,
            SubscriptionChange.subscription_id == subscription_id,
            SubscriptionChange.applied_at.is_(None),
            SubscriptionChange.refused_at.is_(None),
        )
        .limit(1)
    ).scalar_one_or_none()


def has_unfinished_change(
    session: Session, organization_id: UUID, subscription_id: UUID, now: datetime
) -> bool:
    """Whether a change is being made now; one that is planned for later is not."""
    found = unfinished_change(session, organization_id, subscription_id)
    return found is not None and found.changed_at <= now


def interval_at(session: Session, subscription: ProductSubscription, at: datetime) -> Interval:
    """How often the subscription is charged at an instant: by the prices that it has then."""
    found = session.execute(
        select(PlanPrice.interval)
        .join(SubscriptionItem, SubscriptionItem.price_id == PlanPrice.id)
        .where(
            SubscriptionItem.organization_id == subscription.organization_id,
            SubscriptionItem.subscription_id == subscription.id,
            SubscriptionItem.started_at <= at,
            or_(SubscriptionItem.ended_at.is_(None), SubscriptionItem.ended_at > at),
        )
        .limit(1)
    ).scalar_one_or_none()
    return Interval(found or subscription.interval)


def plan_by_stripe_price(session: Session, stripe_price_id: str) -> tuple[ProductPlan, PlanPrice] | None:
    """What a price at Stripe sells; None for one that is not of the catalog."""
    row = session.execute(
        select(ProductPlan, PlanPrice)
        .join(PlanPrice, PlanPrice.plan_id == ProductPlan.id)
        .where(PlanPrice.stripe_price_id == stripe_price_id)
    ).one_or_none()
    return None if row is None else (row[0], row[1])
