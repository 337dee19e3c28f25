"""Rollups of usage, and the hours whose rollups no longer say what their events do."""

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, ForeignKeyConstraint, Index, Numeric, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from models.base import TENANT, Base, CreatedAt, TenantKey
from models.catalog import Meter
from models.organizations import Organization
from models.subscriptions import ProductSubscription, SubscriptionItem


class UsageRollup(Base):
    """What the events of some batches come to in one hour of one item, meter and group. Append-only.

    `number` orders the writing: rollups are written by one tick at a time. One that `restates` its hour
    holds all of it, and what was written of the hour before, in whichever group, counts no more; those
    after it are on top of it. `from_at` is the hour, or the boundary of a billing period inside of it,
    so that no rollup spans two periods; `last_at` shows one that does all the same.
    """

    __tablename__ = "usage_rollups"
    __table_args__ = (
        ForeignKeyConstraint(
            ["organization_id", "subscription_id"],
            [ProductSubscription.organization_id, ProductSubscription.id],
        ),
        ForeignKeyConstraint(
            ["organization_id", "item_id"], [SubscriptionItem.organization_id, SubscriptionItem.id]
        ),
        {"schema": TENANT},
    )
    organization_id: Mapped[TenantKey] = mapped_column(ForeignKey(Organization.id))
    subscription_id: Mapped[TenantKey]
    hour_at: Mapped[datetime] = mapped_column(primary_key=True)
    item_id: Mapped[TenantKey]
    meter_id: Mapped[TenantKey] = mapped_column(ForeignKey(Meter.id))
    from_at: Mapped[datetime] = mapped_column(primary_key=True)
    grouped: Mapped[dict[str, Any]] = mapped_column(JSONB, primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    restates: Mapped[bool]
    count: Mapped[int] = mapped_column(BigInteger)
    sum: Mapped[Decimal] = mapped_column(Numeric)
    least: Mapped[Decimal | None] = mapped_column(Numeric)
    greatest: Mapped[Decimal | None] = mapped_column(Numeric)
    last_at: Mapped[datetime | None]
    last_event_id: Mapped[str | None]
    last_quantity: Mapped[Decimal | None] = mapped_column(Numeric)
    # The sum of quantity x seconds since 1970.
    moment: Mapped[Decimal] = mapped_column(Numeric)
    distinct_values: Mapped[list[Any] | None]
    written_at: Mapped[CreatedAt]


class StaleHour(Base):
    """An hour of an item and meter in which a known event changed: read from its events until restated.

    Triggers write it in the transaction that corrects an event or attributes it anew; the tick that
    restates the hour takes it away.
    """

    __tablename__ = "usage_stale_hours"
    __table_args__ = (
        ForeignKeyConstraint(
            ["organization_id", "subscription_id"],
            [ProductSubscription.organization_id, ProductSubscription.id],
        ),
        ForeignKeyConstraint(
            ["organization_id", "item_id"], [SubscriptionItem.organization_id, SubscriptionItem.id]
        ),
        Index("ix_usage_stale_hours_subscription", "organization_id", "subscription_id"),
        {"schema": TENANT},
    )
    organization_id: Mapped[TenantKey] = mapped_column(ForeignKey(Organization.id))
    id: Mapped[TenantKey] = mapped_column(server_default=text("gen_random_uuid()"))
    subscription_id: Mapped[UUID]
    item_id: Mapped[UUID]
    meter_id: Mapped[UUID] = mapped_column(ForeignKey(Meter.id))
    hour_at: Mapped[datetime]
