"""Who is on another version of a plan or a bundle than the one that is sold: over all organizations.

Only the auditor's session sees them all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from models.catalog import BundlePrice, PlanPrice, ProductPlan, SubscriptionBundle
from models.subscriptions import SubscriptionChange


@dataclass(frozen=True, slots=True)
class Left:
    """A subscription that was left behind by a new version."""

    organization_id: UUID
    organization: str
    subscription_id: UUID
    product: str | None
    version: int
    in_bundle: bool


_LIVE = "s.ended_at IS NULL AND s.status NOT IN ('cancelled', 'incomplete_expired')"
_CHOSEN = (
    "(CAST(:organizations AS uuid[]) IS NULL OR s.organization_id = ANY(CAST(:organizations AS uuid[])))"
)
_ON_OLD_PLANS = text(
    f"""
    SELECT s.organization_id, o.slug, s.id, d.code, p.version, s.bundle_id IS NOT NULL
    FROM tenant.subscription_items i
    JOIN tenant.product_subscriptions s ON s.organization_id = i.organization_id AND s.id = i.subscription_id
    JOIN catalog.organizations o ON o.id = s.organization_id
    JOIN catalog.product_plans p ON p.id = i.plan_id
    JOIN catalog.products d ON d.id = i.product_id
    WHERE p.code = :code AND p.superseded_at IS NOT NULL AND i.ended_at IS NULL AND {_LIVE} AND {_CHOSEN}
    ORDER BY o.slug, s.id
    """
)
_ON_OLD_BUNDLES = text(
    f"""
    SELECT s.organization_id, o.slug, s.id, NULL, b.version, true
    FROM tenant.product_subscriptions s
    JOIN catalog.organizations o ON o.id = s.organization_id
    JOIN catalog.bundle_prices b ON b.id = s.bundle_price_id
    JOIN catalog.subscription_bundles c ON c.id = b.bundle_id
    WHERE c.code = :code AND b.superseded_at IS NOT NULL AND {_LIVE} AND {_CHOSEN}
    ORDER BY o.slug, s.id
    """
)


def left_behind(
    session: Session, code: str, organizations: Sequence[UUID] | None, *, bundle: bool
) -> list[Left]:
    """Live subscriptions on an older version, by organization; None means all of these."""
    chosen = None if organizations is None else list(organizations)
    query = _ON_OLD_BUNDLES if bundle else _ON_OLD_PLANS
    return [Left(*row) for row in session.execute(query, {"code": code, "organizations": chosen})]


def plan_on_sale(session: Session, code: str) -> ProductPlan | None:
    """The version of a plan that is sold now."""
    return session.execute(
        select(ProductPlan).where(ProductPlan.code == code, ProductPlan.superseded_at.is_(None))
    ).scalar_one_or_none()


def bundle_versions(session: Session, code: str) -> set[int]:
    """The versions of a bundle's prices that are sold now: one per currency and interval."""
    rows = session.execute(
        select(BundlePrice.version)
        .join(SubscriptionBundle, SubscriptionBundle.id == BundlePrice.bundle_id)
        .where(SubscriptionBundle.code == code, BundlePrice.superseded_at.is_(None))
    )
    return set(rows.scalars())


def leads_to_sale(session: Session, change: SubscriptionChange, code: str) -> bool:
    """Whether a change that was begun makes the subscription one of the version that is sold now."""
    if change.bundle_price_id is not None:
        price = session.get_one(BundlePrice, change.bundle_price_id)
        bundle = session.get_one(SubscriptionBundle, price.bundle_id)
        return bundle.code == code and price.superseded_at is None
    if change.price_id is None:
        return False
    plan = session.get_one(ProductPlan, session.get_one(PlanPrice, change.price_id).plan_id)
    return plan.code == code and plan.superseded_at is None


def redrive(session: Session, change_id: UUID) -> UUID | None:
    """Give the dead job of a change its attempts back. Returns its id."""
    return session.execute(
        text(
            "UPDATE ops.jobs SET state = 'queued', attempts = 0, not_before_at = clock_timestamp() "
            "WHERE unique_key = 'subscription_changes.apply:' || :id AND state = 'dead' RETURNING id"
        ),
        {"id": str(change_id)},
    ).scalar_one_or_none()


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of a change: `state` is applied, refused, dead or waiting."""

    change_id: UUID
    state: str
    reason: str | None


_ENDED = text(
    """
    SELECT c.id,
           CASE WHEN c.applied_at IS NOT NULL THEN 'applied'
                WHEN c.refused_at IS NOT NULL THEN 'refused'
                WHEN j.state = 'dead' THEN 'dead' ELSE 'waiting' END,
           coalesce(c.refusal, j.last_error)
    FROM tenant.subscription_changes c
    LEFT JOIN ops.jobs j ON j.unique_key = 'subscription_changes.apply:' || c.id
    WHERE c.id = ANY(CAST(:ids AS uuid[]))
    """
)


def ended(session: Session, change_ids: Sequence[UUID]) -> list[Ended]:
    return [Ended(*row) for row in session.execute(_ENDED, {"ids": list(change_ids)})]
