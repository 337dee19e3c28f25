"""Organizations (the tenants) and the clocks that test organizations live on."""

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Numeric
from sqlalchemy.orm import Mapped, mapped_column

from models.base import CATALOG, OPS, Base, CreatedAt, Currency, Id


class TestClock(Base):
    """A clock that stands until it is advanced; its organizations' "now" is `frozen_at`."""

    __test__ = False  # pytest collects by name
    __tablename__ = "test_clocks"
    __table_args__ = ({"schema": OPS},)
    id: Mapped[Id]
    name: Mapped[str]
    frozen_at: Mapped[datetime]
    target_at: Mapped[datetime | None]
    stripe_clock_id: Mapped[str | None] = mapped_column(unique=True)
    last_error: Mapped[str | None]
    created_at: Mapped[CreatedAt]


class TaxRate(Base):
    """A tax as Stripe knows it: its percentage never changes, a new rate is a new row."""

    __tablename__ = "tax_rates"
    __table_args__ = (
        CheckConstraint("percentage >= 0 AND percentage <= 100", "percentage"),
        {"schema": CATALOG},
    )
    id: Mapped[Id]
    code: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    percentage: Mapped[Decimal] = mapped_column(Numeric(7, 4))
    inclusive: Mapped[bool] = mapped_column(default=False)
    country: Mapped[str | None]
    active: Mapped[bool] = mapped_column(default=True)
    stripe_tax_rate_id: Mapped[str | None] = mapped_column(unique=True)
    created_at: Mapped[CreatedAt]


class Organization(Base):
    """A customer of the products; the tenant that every tenant row belongs to."""

    __tablename__ = "organizations"
    __table_args__ = (
        CheckConstraint("tax_exempt IN ('none', 'exempt', 'reverse')", "tax_exempt"),
        {"schema": CATALOG},
    )
    id: Mapped[Id]
    slug: Mapped[str] = mapped_column(unique=True)
    external_id: Mapped[str | None] = mapped_column(unique=True)
    name: Mapped[str]
    email: Mapped[str]
    currency: Mapped[Currency]
    address: Mapped[dict[str, Any] | None]
    tax_exempt: Mapped[str] = mapped_column(default="none")
    tax_rate_id: Mapped[UUID | None] = mapped_column(ForeignKey(TaxRate.id))
    stripe_customer_id: Mapped[str | None] = mapped_column(unique=True)
    test_clock_id: Mapped[UUID | None] = mapped_column(ForeignKey(TestClock.id), index=True)
    # A broken invariant parks the organization: no invoice or charge until a person looked.
    parked_at: Mapped[datetime | None]
    parked_reason: Mapped[str | None]
    created_at: Mapped[CreatedAt]
