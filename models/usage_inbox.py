"""The inbox of usage: a POST's events are stored before the 2xx, then taken and opened in one transaction."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from models.database import Connection
from models.work import MAX_ATTEMPTS


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


_BATCH_COLUMNS = NewBatch.__slots__
_BATCH_KEYS = ("id", "product_id", "idempotency_key")
_A_BATCH = (
    f"({', '.join('%s::json' if name == 'events' else '%s' for name in _BATCH_COLUMNS)}, 'queued', 0, 0)"
)


@cache
def _store_batches(count: int) -> str:
    """In the driver's own words: this is the busiest statement of all, one for the POSTs of a moment."""
    return f"""
        INSERT INTO ops.usage_inbox ({", ".join(_BATCH_COLUMNS)}, state, attempts, duplicates)
        VALUES {", ".join([_A_BATCH] * count)}
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

    Twice with the same ids is the same as once.
    """
    values = [getattr(batch, name) for batch in batches for name in _BATCH_COLUMNS]
    stored = connection.exec_driver_sql(_store_batches(len(batches)), tuple(values))
    if stored.rowcount == len(batches):
        return [StoredBatch(batch.id, batch.body_digest, batch.accepted) for batch in batches]
    return [
        StoredBatch(
            *connection.execute(_STORED_BATCH, {name: getattr(batch, name) for name in _BATCH_KEYS}).one()
        )
        for batch in batches
    ]


class TakenBatch(NamedTuple):
    """A batch that this transaction opens: how many events of which organizations."""

    id: UUID
    accepted: int
    organization_ids: list[UUID]


# One that is `running` was claimed by a version that did so before it opened them.
_TAKE = """
    UPDATE ops.usage_inbox SET state = 'done', handled_at = clock_timestamp(), lease_until_at = NULL,
           last_error = NULL
    WHERE id IN (
        SELECT id FROM ops.usage_inbox
        WHERE {which} AND ((state = 'queued' AND not_before_at <= clock_timestamp())
                           OR (state = 'running' AND lease_until_at < clock_timestamp()))
        ORDER BY received_at FOR UPDATE SKIP LOCKED LIMIT :most
    )
    RETURNING id, accepted, organization_ids
"""
_TAKE_OLDEST, _TAKE_ONE = text(_TAKE.format(which="true")), text(_TAKE.format(which="id = :id"))
_FAIL = text(
    """
    UPDATE ops.usage_inbox SET
        state = CASE WHEN attempts + 1 >= :max_attempts THEN 'dead' ELSE 'queued' END,
        attempts = attempts + 1, last_error = :reason,
        not_before_at = clock_timestamp() + make_interval(secs => :delay_s)
    WHERE id = :id AND state IN ('queued', 'running')
    """
)


def take_batches(session: Session, most: int) -> list[TakenBatch]:
    """Mark the `most` oldest open batches handled, for the transaction that opens them.

    What another worker holds is skipped. Should this transaction not commit, nobody has taken them.
    """
    return [TakenBatch(*row) for row in session.execute(_TAKE_OLDEST, {"most": most})]


def take_batch(session: Session, batch_id: UUID) -> list[TakenBatch]:
    """Take one batch alike; none when another worker has it."""
    return [TakenBatch(*row) for row in session.execute(_TAKE_ONE, {"id": batch_id, "most": 1})]


def fail_batch(session: Session, batch_id: UUID, delay: timedelta, reason: str) -> None:
    """Record that a batch could not be opened: it waits, and the fifth time it is dead."""
    session.execute(
        _FAIL,
        {"id": batch_id, "reason": reason, "delay_s": delay.total_seconds(), "max_attempts": MAX_ATTEMPTS},
    )
