"""Usage events (`UsageRecord`), their corrections, and the conflicting copies that were refused."""

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Numeric,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from models.base import TENANT, Base, CreatedAt, TenantKey, new_id
from models.catalog import Meter, Product
from models.invoices import InvoiceLine
from models.organizations import Organization

# Without `autosummarize` the newest ranges count as "may hold anything" until the next vacuum.
_BY_RANGES: dict[str, Any] = {"postgresql_using": "brin", "postgresql_with": {"autosummarize": "on"}}


class UsageRecord(Base):
    """One usage event, stored once for ever: its identity is its primary key.

    state: `waiting` for its invoice, `rated` by exactly one invoice line, or `quarantined` with a
    reason. `late` marks an event whose period was already invoiced when it arrived.
    """

    __tablename__ = "usage_records"
    __table_args__ = (
        CheckConstraint("state IN ('waiting', 'rated', 'quarantined')", "state"),
        CheckConstraint("(state = 'rated') = (invoice_line_id IS NOT NULL)", "rated_has_line"),
        CheckConstraint("(state = 'quarantined') = (reason IS NOT NULL)", "quarantine_has_reason"),
        CheckConstraint("(subscription_id IS NULL) = (item_id IS NULL)", "attributed_whole"),
        # NaN compares greater than everything in Postgres: only an upper bound refuses it.
        CheckConstraint("quantity > -1e12 AND quantity < 1e12", "quantity"),
        Index(
            "usage_records_prod_metric_time_idx",
            "organization_id",
            "subscription_id",
            "meter_id",
            "occurred_at",
        ),
        Index(
            "usage_records_billed_period_idx",
            "organization_id",
            "subscription_id",
            postgresql_where=text("late AND state = 'waiting'"),
        ),
        Index(
            "ix_usage_records_quarantined",
            "organization_id",
            "product_id",
            postgresql_where=text("state = 'quarantined'"),
        ),
        # Events come in about the sequence of their time: the same for "this day, of all organizations".
        Index("usage_records_timestamp_idx", "occurred_at", **_BY_RANGES),
        # Batch ids are time-sorted, so a block range index answers "this batch" for almost nothing.
        Index("ix_usage_records_batch", "batch_id", **_BY_RANGES),
        {"schema": TENANT},
    )
    # No foreign keys: what they name never goes away, and to check that costs more than the row itself.
    organization_id: Mapped[TenantKey]
    product_id: Mapped[TenantKey]
    event_id: Mapped[str] = mapped_column(primary_key=True)
    batch_id: Mapped[UUID]
    batch_index: Mapped[int]
    meter_id: Mapped[UUID]
    quantity: Mapped[Decimal] = mapped_column(Numeric(24, 12))
    occurred_at: Mapped[datetime]
    properties: Mapped[dict[str, Any] | None]
    subscription_id: Mapped[UUID | None]
    item_id: Mapped[UUID | None]
    late: Mapped[bool] = mapped_column(default=False)
    state: Mapped[str] = mapped_column(default="waiting")
    reason: Mapped[str | None]
    invoice_line_id: Mapped[UUID | None]
    received_at: Mapped[CreatedAt]


class UsageConflict(Base):
    """An event id that came again with other content: the first stays, this copy is quarantined."""

    __tablename__ = "usage_conflicts"
    __table_args__ = (
        Index("ix_usage_conflicts_event", "organization_id", "product_id", "event_id"),
        Index("ix_usage_conflicts_batch", "batch_id", **_BY_RANGES),
        Index("ix_usage_conflicts_product", "product_id", "received_at", "id"),
        # Staff list all organizations' newest first; so below.
        Index("ix_usage_conflicts_received", "received_at", "id"),
        {"schema": TENANT},
    )
    organization_id: Mapped[TenantKey] = mapped_column(ForeignKey(Organization.id))
    id: Mapped[TenantKey] = mapped_column(default=new_id)
    product_id: Mapped[UUID] = mapped_column(ForeignKey(Product.id))
    event_id: Mapped[str]
    batch_id: Mapped[UUID]
    batch_index: Mapped[int]
    event: Mapped[dict[str, Any]]
    received_at: Mapped[CreatedAt]


class UsageCorrection(Base):
    """What an event should have said: another `quantity`, or (`void`) nothing, for it never happened.

    The record that it corrects stays as it came. `number` counts the corrections of one event; the
    newest counts (`models/usage_facts.py`). Meter and instant are the record's, which never change.
    Nothing but `invoice_line_id`, the line that first counted it, is ever written to one that stands.
    """

    __tablename__ = "usage_corrections"
    __table_args__ = (
        ForeignKeyConstraint(
            ["organization_id", "product_id", "event_id"],
            [UsageRecord.organization_id, UsageRecord.product_id, UsageRecord.event_id],
        ),
        # A line is written after it has taken what it is made of.
        ForeignKeyConstraint(
            ["organization_id", "invoice_line_id"],
            [InvoiceLine.organization_id, InvoiceLine.id],
            deferrable=True,
            initially="DEFERRED",
        ),
        UniqueConstraint("organization_id", "product_id", "event_id", "number"),
        UniqueConstraint("organization_id", "product_id", "idempotency_key"),
        CheckConstraint("kind IN ('void', 'quantity')", "kind"),
        CheckConstraint("(kind = 'quantity') = (quantity IS NOT NULL)", "quantity_of_kind"),
        CheckConstraint("quantity > -1e12 AND quantity < 1e12", "quantity"),
        CheckConstraint("number > 0", "number"),
        Index("ix_usage_corrections_window", "organization_id", "meter_id", "occurred_at"),
        Index("ix_usage_corrections_line", "organization_id", "invoice_line_id"),
        Index("ix_usage_corrections_id", "id"),
        Index(
            "ix_usage_corrections_waiting",
            "organization_id",
            postgresql_where=text("invoice_line_id IS NULL"),
        ),
        {"schema": TENANT},
    )
    organization_id: Mapped[TenantKey] = mapped_column(ForeignKey(Organization.id))
    id: Mapped[TenantKey] = mapped_column(default=new_id)
    product_id: Mapped[UUID]
    event_id: Mapped[str]
    number: Mapped[int]
    kind: Mapped[str]
    quantity: Mapped[Decimal | None] = mapped_column(Numeric(24, 12))
    reason: Mapped[str]
    who: Mapped[str]
    idempotency_key: Mapped[str | None]
    meter_id: Mapped[UUID] = mapped_column(ForeignKey(Meter.id))
    occurred_at: Mapped[datetime]
    invoice_line_id: Mapped[UUID | None]
    received_at: Mapped[CreatedAt]
