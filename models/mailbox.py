"""The two inboxes: rows are stored before the 2xx, claimed with a lease, settled by their claimer."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from models.base import new_id
from models.ops import UsageBatch, WebhookEvent
from models.work import MAX_ATTEMPTS

Inbox = type[WebhookEvent] | type[UsageBatch]


def store_event(session: Session, event: WebhookEvent) -> bool:
    """Store one of Stripe's events once. Returns whether it was new."""
    values = {
        "id": new_id(),
        "event_id": event.event_id,
        "type": event.type,
        "api_version": event.api_version,
        "object_id": event.object_id,
        "customer_id": event.customer_id,
        "payload": event.payload,
        "source": event.source,
    }
    statement = insert(WebhookEvent).values(values).on_conflict_do_nothing(index_elements=["event_id"])
    return session.execute(statement.returning(WebhookEvent.id)).scalar_one_or_none() is not None


def store_batch(session: Session, batch: UsageBatch) -> UsageBatch:
    """Store one usage POST, or find the one that came with the same idempotency key."""
    values = {
        "id": batch.id,
        "product_id": batch.product_id,
        "idempotency_key": batch.idempotency_key,
        "body_digest": batch.body_digest,
        "organization_ids": batch.organization_ids,
        "events": batch.events,
        "accepted": batch.accepted,
    }
    statement = (
        insert(UsageBatch)
        .values(values)
        .on_conflict_do_nothing(index_elements=["product_id", "idempotency_key"])
    )
    if session.execute(statement.returning(UsageBatch.id)).scalar_one_or_none() is not None:
        return batch
    return session.execute(
        select(UsageBatch).where(
            UsageBatch.product_id == batch.product_id, UsageBatch.idempotency_key == batch.idempotency_key
        )
    ).scalar_one()


def claim(session: Session, inbox: Inbox, lease: timedelta, most: int) -> Sequence[Any]:
    """Claim up to `most` open rows, oldest first; what another worker holds is skipped."""
    statement = text(
        f"""
        UPDATE ops.{inbox.__tablename__} SET state = 'running', attempts = attempts + 1,
               lease_until_at = clock_timestamp() + make_interval(secs => :lease_s)
        WHERE id IN (
            SELECT id FROM ops.{inbox.__tablename__}
            WHERE attempts < :max_attempts
              AND ((state = 'queued' AND not_before_at <= clock_timestamp())
                   OR (state = 'running' AND lease_until_at < clock_timestamp()))
            ORDER BY received_at FOR UPDATE SKIP LOCKED LIMIT :most
        )
        RETURNING id
        """
    )
    values = {"lease_s": lease.total_seconds(), "most": most, "max_attempts": MAX_ATTEMPTS}
    ids = session.execute(statement, values).scalars().all()
    found: Sequence[Any] = (
        session.execute(select(inbox).where(inbox.id.in_(ids)).order_by(inbox.received_at)).scalars().all()
    )
    return found


def settle(session: Session, inbox: Inbox, ids: Sequence[UUID], handled_at: datetime) -> None:
    session.execute(
        text(
            f"UPDATE ops.{inbox.__tablename__} SET state = 'done', handled_at = :handled_at, "
            "lease_until_at = NULL, last_error = NULL WHERE id = ANY(:ids) AND state = 'running'"
        ),
        {"ids": list(ids), "handled_at": handled_at},
    )


def put_back(
    session: Session, inbox: Inbox, ids: Sequence[UUID], delay: timedelta, reason: str, *, failed: bool
) -> None:
    """Free claimed rows for later. A failure uses up the attempt, and the fifth one kills the row."""
    session.execute(
        text(
            f"""
            UPDATE ops.{inbox.__tablename__} SET
                state = CASE WHEN :failed AND attempts >= :max_attempts THEN 'dead' ELSE 'queued' END,
                attempts = CASE WHEN :failed THEN attempts ELSE attempts - 1 END,
                lease_until_at = NULL, last_error = :reason,
                not_before_at = clock_timestamp() + make_interval(secs => :delay_s)
            WHERE id = ANY(:ids) AND state = 'running'
            """
        ),
        {
            "ids": list(ids),
            "failed": failed,
            "reason": reason,
            "delay_s": delay.total_seconds(),
            "max_attempts": MAX_ATTEMPTS,
        },
    )


def bury_exhausted(session: Session, inbox: Inbox) -> None:
    """Rows whose worker died at every attempt are dead: a poison row must not loop."""
    session.execute(
        text(
            f"UPDATE ops.{inbox.__tablename__} SET state = 'dead', "
            "last_error = coalesce(last_error, 'the worker died at every attempt') "
            "WHERE state = 'running' AND lease_until_at < clock_timestamp() AND attempts >= :max_attempts"
        ),
        {"max_attempts": MAX_ATTEMPTS},
    )


def redrive(session: Session, inbox: Inbox, row_id: UUID) -> bool:
    """Give a dead row its attempts back. Returns whether it was dead."""
    return (
        session.execute(
            text(
                f"UPDATE ops.{inbox.__tablename__} SET state = 'queued', attempts = 0, "
                "not_before_at = clock_timestamp() WHERE id = :id AND state = 'dead' RETURNING id"
            ),
            {"id": row_id},
        ).scalar_one_or_none()
        is not None
    )


def known_events(session: Session, event_ids: Sequence[str]) -> set[str]:
    """Which of these Stripe events have a row."""
    return set(
        session.execute(select(WebhookEvent.event_id).where(WebhookEvent.event_id.in_(event_ids))).scalars()
    )
