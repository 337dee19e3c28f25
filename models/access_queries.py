"""What the access check reads: the held plan, the unpaid invoices."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from models.catalog import Product


@dataclass(frozen=True, slots=True)
class HeldPlan:
    """The plan by which an organization has a product; the best of several subscriptions."""

    subscription_id: UUID
    status: str
    features: list[Any]
    limits: dict[str, Any]


def product_id(session: Session, code: str) -> UUID | None:
    return session.execute(select(Product.id).where(Product.code == code)).scalar_one_or_none()


_HELD = text(
    """
    SELECT s.id, s.status, p.features, p.limits
    FROM tenant.subscription_items i
    JOIN tenant.product_subscriptions s ON s.organization_id = i.organization_id AND s.id = i.subscription_id
    JOIN catalog.product_plans p ON p.id = i.plan_id
    JOIN catalog.plan_tiers t ON t.id = p.tier_id
    WHERE i.organization_id = :organization_id AND i.product_id = :product_id AND i.started_at <= :now
      -- A product may be taken out of a subscription that lives on.
      AND (i.ended_at IS NULL OR i.ended_at > :now)
    ORDER BY (s.status IN ('trialing', 'active', 'past_due')) DESC, (s.status = 'paused') DESC,
             t.rank DESC, s.id DESC
    LIMIT 1
    """
)


def held_plan(session: Session, organization_id: UUID, product: UUID, now: datetime) -> HeldPlan | None:
    values = {"organization_id": organization_id, "product_id": product, "now": now}
    row = session.execute(_HELD, values).one_or_none()
    return HeldPlan(*row) if row else None


_UNPAID = text(
    """
    SELECT coalesce(c.first_failed_at, i.closed_at)
    FROM tenant.invoices i
    LEFT JOIN tenant.dunning_cases c ON c.organization_id = i.organization_id AND c.invoice_id = i.id
    WHERE i.organization_id = :organization_id AND i.subscription_id = :subscription_id
      AND i.status IN ('open', 'uncollectible') AND (c.state = 'open' OR i.status = 'uncollectible')
    """
)


def unpaid_since(session: Session, organization_id: UUID, subscription_id: UUID) -> Sequence[datetime]:
    """The first failures of the subscription's invoices that are pursued, or were given up unpaid.

    Stripe makes a subscription active once its latest invoice is written off: nothing was paid by that.
    """
    values = {"organization_id": organization_id, "subscription_id": subscription_id}
    return session.execute(_UNPAID, values).scalars().all()
