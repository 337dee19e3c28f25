"""Corrections of usage events: the record that one corrects, those that stand, the next one."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from models.usage import UsageCorrection, UsageRecord


def lock_record(
    session: Session, organization_id: UUID, product_id: UUID, event_id: str
) -> UsageRecord | None:
    """The event's record, locked: corrections of one event come one after the other."""
    return session.execute(
        select(UsageRecord)
        .where(
            UsageRecord.organization_id == organization_id,
            UsageRecord.product_id == product_id,
            UsageRecord.event_id == event_id,
        )
        .with_for_update(key_share=True)
    ).scalar_one_or_none()


def by_key(session: Session, organization_id: UUID, product_id: UUID, key: str) -> UsageCorrection | None:
    """The correction that came with this idempotency key."""
    return session.execute(
        select(UsageCorrection).where(
            UsageCorrection.organization_id == organization_id,
            UsageCorrection.product_id == product_id,
            UsageCorrection.idempotency_key == key,
        )
    ).scalar_one_or_none()


def newest(session: Session, record: UsageRecord) -> UsageCorrection | None:
    """The correction of an event that counts."""
    return session.execute(
        select(UsageCorrection)
        .where(
            UsageCorrection.organization_id == record.organization_id,
            UsageCorrection.product_id == record.product_id,
            UsageCorrection.event_id == record.event_id,
        )
        .order_by(UsageCorrection.number.desc())
        .limit(1)
    ).scalar_one_or_none()


_UNOPENED = text(
    """
    SELECT EXISTS (
        SELECT FROM ops.usage_inbox b
        WHERE b.state IN ('queued', 'running') AND b.product_id = :product_id
          AND b.organization_ids @> ARRAY[CAST(:organization_id AS uuid)]
          AND CAST(b.events AS jsonb) @> jsonb_build_array(jsonb_build_object(
                  'event_id', CAST(:event_id AS text), 'organization_id', CAST(:organization_id AS text))))
    """
)


def is_unopened(session: Session, organization_id: UUID, product_id: UUID, event_id: str) -> bool:
    """Whether the event was accepted and waits in the inbox: it will have a record in a moment."""
    values: dict[str, Any] = {
        "organization_id": organization_id,
        "product_id": product_id,
        "event_id": event_id,
    }
    return bool(session.execute(_UNOPENED, values).scalar_one())


def of_events(
    session: Session, organization_id: UUID, product_id: UUID, event_ids: Sequence[str]
) -> Sequence[UsageCorrection]:
    """Every correction of these events, by event and number."""
    return (
        session.execute(
            select(UsageCorrection)
            .where(
                UsageCorrection.organization_id == organization_id,
                UsageCorrection.product_id == product_id,
                UsageCorrection.event_id.in_(event_ids),
            )
            .order_by(UsageCorrection.event_id, UsageCorrection.number)
        )
        .scalars()
        .all()
    )
