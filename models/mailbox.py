"""The two inboxes: rows are stored before the 2xx, claimed with a lease, settled by their claimer."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from models.base import new_id
from models.database import Connection
from models.ops import UsageBatch, WebhookEvent
from models.work import MAX_ATTEMPTS

Inbox = type[WebhookEvent] | type[UsageBatch]


_STORE_EVENT = """
    INSERT INTO ops.webhook_inbox (id, event_id, type, api_version, object_id, customer_id, payload, source,
                                   state, attempts, last_error)
    VALUES (%(id)s, %(event_id)s, %(type)s, %(api_version)s, %(object_id)s, %(customer_id)s,
            %(payload)s::jsonb, %(source)s, %(state)s, 0, %(last_error)s)
    ON CONFLICT (event_id) DO NOTHING
"""


def store_events(connection: Connection, events: Sequence[WebhookEvent]) -> list[None]:
    """Store Stripe's events, each once: a repeat changes nothing."""
    names = ("event_id", "type", "api_version", "object_id", "customer_id", "source", "state", "last_error")
    values = [
        {
            **{name: getattr(event, name) for name in names},
            "id": new_id(),
            "payload": msgspec.json.encode(event.payload).decode(),
        }
        for event in events
    ]
    connection.exec_driver_sql(_STORE_EVENT, values if len(values) > 1 else values[0])
    return [None] * len(events)


@dataclass(frozen=True, slots=True)
class NewBatch:
    """One usage POST to store; `events` is the JSON text of its checked events."""

    id: UUID
    product_id: UUID
    idempotency_key: str | None
    body_digest: str
    organization_ids: Sequence[UUID]
    events: str
    accepted: int


@dataclass(frozen=True, slots=True)
class StoredBatch:
    """What a POST's row says: its own, or that of the earlier one with its idempotency key."""

    id: UUID
    body_digest: str
    accepted: int


# In the driver's own words: this is the busiest statement of all, and it is all that a single event's
# POST costs Postgres.
_STORE_BATCH = """
    INSERT INTO ops.usage_inbox (id, product_id, idempotency_key, body_digest, organization_ids, events,
                                 accepted, state, attempts, duplicates)
    VALUES (%(id)s, %(product_id)s, %(idempotency_key)s, %(body_digest)s, %(organization_ids)s,
            %(events)s::json, %(accepted)s, 'queued', 0, 0)
    ON CONFLICT DO NOTHING
"""
_STORED_BATCH = text(
    """
    SELECT id, body_digest, accepted FROM ops.usage_inbox
    WHERE id = :id OR (product_id = :product_id AND idempotency_key = :idempotency_key)
    """
)


def store_batches(connection: Connection, batches: Sequence[NewBatch]) -> list[StoredBatch]:
    """Store usage POSTs, or find those that came with the same idempotency keys; all in one commit.

    Twice with the same ids is the same as once. On a connection without transactions several statements
    of one call are sent, and committed, together.
    """
    values = [{name: getattr(batch, name) for name in NewBatch.__slots__} for batch in batches]
    stored = connection.exec_driver_sql(_STORE_BATCH, values if len(values) > 1 else values[0])
    if stored.rowcount == len(batches):
        return [StoredBatch(batch.id, batch.body_digest, batch.accepted) for batch in batches]
    return [StoredBatch(*connection.execute(_STORED_BATCH, each).one()) for each in values]


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
