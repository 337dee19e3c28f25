"""The inbox of webhooks: rows are stored before the 2xx, claimed with a lease, settled by their claimer."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import msgspec
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from models.base import new_id
from models.database import Connection
from models.ops import UsageBatch, WebhookEvent
from models.work import MAX_ATTEMPTS

_STORE_EVENT = """
    INSERT INTO ops.webhook_inbox (id, event_id, type, api_version, object_id, customer_id, payload, source,
                                   state, attempts, last_error)
    VALUES (%(id)s, %(event_id)s, %(type)s, %(api_version)s, %(object_id)s, %(customer_id)s,
            %(payload)s::jsonb, %(source)s, %(state)s, 0, %(last_error)s)
    ON CONFLICT (event_id) DO NOTHING
"""


_CLAIM = text(
    """
    UPDATE ops.webhook_inbox SET state = 'running', attempts = attempts + 1,
           lease_until_at = clock_timestamp() + make_interval(secs => :lease_s)
    WHERE id IN (
        SELECT id FROM ops.webhook_inbox
        WHERE attempts < :max_attempts
          AND ((state = 'queued' AND not_before_at <= clock_timestamp())
               OR (state = 'running' AND lease_until_at < clock_timestamp()))
        ORDER BY received_at FOR UPDATE SKIP LOCKED LIMIT :most
    )
    RETURNING id
    """
)
_SETTLE = text(
    """
    UPDATE ops.webhook_inbox SET state = 'done', handled_at = :handled_at, lease_until_at = NULL,
           last_error = NULL
    WHERE id = ANY(:ids) AND state = 'running'
    """
)
_PUT_BACK = text(
    """
    UPDATE ops.webhook_inbox SET
        state = CASE WHEN :failed AND attempts >= :max_attempts THEN 'dead' ELSE 'queued' END,
        attempts = CASE WHEN :failed THEN attempts ELSE attempts - 1 END,
        lease_until_at = NULL, last_error = :reason,
        not_before_at = clock_timestamp() + make_interval(secs => :delay_s)
    WHERE id = ANY(:ids) AND state = 'running'
    """
)
_BURY = text(
    """
    UPDATE ops.webhook_inbox SET state = 'dead',
           last_error = coalesce(last_error, 'the worker died at every attempt')
    WHERE state = 'running' AND lease_until_at < clock_timestamp() AND attempts >= :max_attempts
    """
)


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


def claim(session: Session, lease: timedelta, most: int) -> Sequence[WebhookEvent]:
    """Claim up to `most` open events, oldest first; what another worker holds is skipped."""
    ids = (
        session.execute(
            _CLAIM, {"lease_s": lease.total_seconds(), "most": most, "max_attempts": MAX_ATTEMPTS}
        )
        .scalars()
        .all()
    )
    rows = select(WebhookEvent).where(WebhookEvent.id.in_(ids)).order_by(WebhookEvent.received_at)
    return session.execute(rows).scalars().all()


def settle(session: Session, ids: Sequence[UUID], handled_at: datetime) -> None:
    session.execute(_SETTLE, {"ids": list(ids), "handled_at": handled_at})


def put_back(session: Session, ids: Sequence[UUID], delay: timedelta, reason: str, *, failed: bool) -> None:
    """Free claimed events for later. A failure uses up the attempt, and the fifth one kills the row."""
    session.execute(
        _PUT_BACK,
        {
            "ids": list(ids),
            "failed": failed,
            "reason": reason,
            "delay_s": delay.total_seconds(),
            "max_attempts": MAX_ATTEMPTS,
        },
    )


def bury_exhausted(session: Session) -> None:
    """Events whose worker died at every attempt are dead: a poison row must not loop."""
    session.execute(_BURY, {"max_attempts": MAX_ATTEMPTS})


def redrive(session: Session, inbox: type[WebhookEvent] | type[UsageBatch], row_id: UUID) -> bool:
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
