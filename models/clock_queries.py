"""Test clocks: what is due on them, and whether their organizations are at rest."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select, text, update
from sqlalchemy.orm import Session

from models.organizations import Organization, TestClock


def locked(session: Session, clock_id: UUID) -> TestClock | None:
    return session.get(TestClock, clock_id, with_for_update=True)


def moving(session: Session) -> Sequence[UUID]:
    """Clocks that have not arrived at their target."""
    return session.execute(select(TestClock.id).where(TestClock.target_at.is_not(None))).scalars().all()


_HAS_WORK = text(
    """
    SELECT EXISTS (
        SELECT FROM ops.jobs j JOIN ops.test_clocks c ON c.id = j.clock_id
        WHERE c.id = :clock_id AND (j.state = 'running' OR (j.state = 'queued' AND j.due_at <= c.frozen_at))
    ) OR EXISTS (
        SELECT FROM ops.webhook_inbox w JOIN catalog.organizations o ON o.stripe_customer_id = w.customer_id
        WHERE o.test_clock_id = :clock_id AND w.state IN ('queued', 'running')
    ) OR EXISTS (
        SELECT FROM ops.usage_inbox b JOIN catalog.organizations o ON o.id = ANY(b.organization_ids)
        WHERE o.test_clock_id = :clock_id AND b.state IN ('queued', 'running')
    )
    """
)


def has_work(session: Session, clock_id: UUID) -> bool:
    """Whether a job is due or running, a word of Stripe's is unread, or usage is unopened, on this clock."""
    return bool(session.execute(_HAS_WORK, {"clock_id": clock_id}).scalar_one())


def next_due_at(session: Session, clock_id: UUID) -> datetime | None:
    """When the next job of this clock is due."""
    found: datetime | None = session.execute(
        text("SELECT min(due_at) FROM ops.jobs WHERE clock_id = :clock_id AND state = 'queued'"),
        {"clock_id": clock_id},
    ).scalar_one()
    return found


def customers(session: Session, clock_id: UUID) -> set[str]:
    """The Stripe customers that live on this clock."""
    found = session.execute(
        select(Organization.stripe_customer_id).where(Organization.test_clock_id == clock_id)
    ).scalars()
    return {customer for customer in found if customer is not None}


def move(session: Session, clock_id: UUID, at: datetime) -> None:
    session.execute(update(TestClock).where(TestClock.id == clock_id).values(frozen_at=at, last_error=None))


def explain(session: Session, clock_id: UUID, why: str) -> None:
    """Say why a clock that is on its way does not go on."""
    session.execute(
        update(TestClock)
        .where(TestClock.id == clock_id, TestClock.target_at.is_not(None))
        .values(last_error=why)
    )


def arrive(session: Session, clock_id: UUID, target_at: datetime) -> None:
    """The clock stands at its target; a newer target than this one stays."""
    session.execute(
        update(TestClock)
        .where(TestClock.id == clock_id, TestClock.target_at == target_at)
        .values(target_at=None, last_error=None)
    )


def due_jobs(session: Session, clock_id: UUID) -> list[tuple[UUID, str]]:
    rows: Sequence[Any] = session.execute(
        text(
            "SELECT j.id, j.kind FROM ops.jobs j JOIN ops.test_clocks c ON c.id = j.clock_id "
            "WHERE c.id = :clock_id AND j.state = 'queued' AND j.due_at <= c.frozen_at ORDER BY j.due_at"
        ),
        {"clock_id": clock_id},
    ).all()
    return [(row.id, row.kind) for row in rows]


def clocks_of(session: Session, organization_ids: Sequence[UUID]) -> Sequence[UUID]:
    """The clocks that some organizations live on."""
    found = select(Organization.test_clock_id).where(
        Organization.id.in_(organization_ids), Organization.test_clock_id.is_not(None)
    )
    return [clock for clock in session.execute(found.distinct()).scalars() if clock is not None]
