"""What the access check reads, in one statement: it is the busiest question of all."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session


class UsedMeter(NamedTuple):
    """What a product counts."""

    id: UUID
    code: str
    aggregation: str


@dataclass(frozen=True, slots=True)
class HeldPlan:
    """The plan by which an organization has a product; the best of several subscriptions.

    `unpaid_since` are the first failures of the subscription's invoices that are pursued, or were given up
    unpaid: Stripe makes a subscription active once its latest invoice is written off, and nothing was paid
    by that. `item_ids` are the stretches by which the subscription has held the product.
    """

    subscription_id: UUID
    status: str
    period_start_at: datetime
    period_end_at: datetime
    ended_at: datetime | None
    features: list[Any]
    limits: dict[str, Any]
    unpaid_since: Sequence[datetime]
    item_ids: Sequence[UUID]
    meters: Sequence[UsedMeter]


@dataclass(frozen=True, slots=True)
class Asked:
    """The product that was asked for, and the plan by which it is held, if it is."""

    product_id: UUID
    held: HeldPlan | None


_HELD = text(
    """
    SELECT d.id, h.*,
           ARRAY(SELECT coalesce(c.first_failed_at, i.closed_at)
                 FROM tenant.invoices i
                 LEFT JOIN tenant.dunning_cases c
                   ON c.organization_id = i.organization_id AND c.invoice_id = i.id
                 WHERE i.organization_id = :organization_id AND i.subscription_id = h.id
                   AND i.status IN ('open', 'uncollectible')
                   AND (c.state = 'open' OR i.status = 'uncollectible')),
           ARRAY(SELECT i.id FROM tenant.subscription_items i
                 WHERE i.organization_id = :organization_id AND i.subscription_id = h.id
                   AND i.product_id = d.id),
           (SELECT coalesce(jsonb_agg(jsonb_build_array(m.id, m.code, m.aggregation) ORDER BY m.code), '[]')
            FROM catalog.meters m WHERE m.product_id = d.id)
    FROM catalog.products d
    LEFT JOIN LATERAL (
        SELECT s.id, s.status, s.current_period_start_at, s.current_period_end_at, s.ended_at,
               p.features, p.limits
        FROM tenant.subscription_items i
        JOIN tenant.product_subscriptions s
          ON s.organization_id = i.organization_id AND s.id = i.subscription_id
        JOIN catalog.product_plans p ON p.id = i.plan_id
        JOIN catalog.plan_tiers t ON t.id = p.tier_id
        WHERE i.organization_id = :organization_id AND i.product_id = d.id AND i.started_at <= :now
          -- A product may be taken out of a subscription that lives on.
          AND (i.ended_at IS NULL OR i.ended_at > :now)
        ORDER BY (s.status IN ('trialing', 'active', 'past_due')) DESC, (s.status = 'paused') DESC,
                 t.rank DESC, s.id DESC
        LIMIT 1
    ) h ON true
    WHERE d.code = :code
    """
)


def held_plan(session: Session, organization_id: UUID, product_code: str, now: datetime) -> Asked | None:
    """How an organization has a product at an instant; None of a product that there is not."""
    values = {"organization_id": organization_id, "code": product_code, "now": now}
    row = session.execute(_HELD, values).one_or_none()
    if row is None:
        return None
    if row[1] is None:
        return Asked(row[0], None)
    meters = [UsedMeter(UUID(meter_id), code, aggregation) for meter_id, code, aggregation in row[10]]
    plan: tuple[Any, ...] = (*row[1:10], meters)
    return Asked(row[0], HeldPlan(*plan))
