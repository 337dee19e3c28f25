"""Usage accounts: for every event that was acknowledged, where it is now. Read as the auditor.

accepted = rated + waiting + quarantined + duplicate. A batch that is not opened yet, or opened for
some of its organizations only, has the rest waiting; a conflicting copy is in quarantine.
"""

from dataclasses import dataclass
from datetime import date
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session


@dataclass(frozen=True, slots=True)
class BatchAccounts:
    """Where the events of one POST are; `reasons` counts why those in quarantine are there."""

    accepted: int
    rated: int
    waiting: int
    quarantined: int
    duplicate: int
    reasons: dict[str, int]

    @property
    def adds_up(self) -> bool:
        """The law: each accepted event is in exactly one place."""
        return self.accepted == self.rated + self.waiting + self.quarantined + self.duplicate


@dataclass(frozen=True, slots=True)
class ProductDayAccounts:
    """Where the events of one product are that were accepted on `day` (UTC), or ever, when that is None."""

    product_code: str
    day: date | None
    accepted: int
    rated: int
    waiting: int
    quarantined: int
    duplicate: int

    @property
    def adds_up(self) -> bool:
        """The law: each accepted event is in exactly one place."""
        return self.accepted == self.rated + self.waiting + self.quarantined + self.duplicate


# `batches` is a relation of the caller: for a single one, the block range index finds its rows.
_PLACED = """
    SELECT r.batch_id,
           count(*) FILTER (WHERE r.state = 'rated') AS rated,
           count(*) FILTER (WHERE r.state = 'waiting') AS waiting,
           count(*) FILTER (WHERE r.state = 'quarantined') AS quarantined
    FROM tenant.usage_records r JOIN batches b ON b.id = r.batch_id GROUP BY r.batch_id
"""
_COPIES = """
    SELECT c.batch_id, count(*) AS conflicts
    FROM tenant.usage_conflicts c JOIN batches b ON b.id = c.batch_id GROUP BY c.batch_id
"""
_COUNTED = """
    SELECT b.id, b.product_id, b.received_at, b.accepted,
           coalesce(p.rated, 0) AS rated,
           coalesce(p.waiting, 0) + CASE WHEN b.state = 'done' THEN 0 ELSE
               b.accepted - b.duplicates - coalesce(p.rated + p.waiting + p.quarantined, 0)
                   - coalesce(c.conflicts, 0) END AS waiting,
           coalesce(p.quarantined, 0) + coalesce(c.conflicts, 0) AS quarantined,
           b.duplicates AS duplicate
    FROM batches b
    LEFT JOIN placed p ON p.batch_id = b.id
    LEFT JOIN copies c ON c.batch_id = b.id
"""
_COLUMNS = "id, product_id, received_at, accepted, duplicates, state"

_BATCH = text(
    f"""
    WITH batches AS (
        SELECT {_COLUMNS} FROM ops.usage_inbox WHERE id = :batch_id AND product_id = :product_id
    ), placed AS ({_PLACED}), copies AS ({_COPIES}), counted AS ({_COUNTED})
    SELECT accepted, rated, waiting, quarantined, duplicate FROM counted
    """  # of our own constants
)

_REASONS = text(
    """
    SELECT reason, count(*) AS events FROM tenant.usage_records
    WHERE batch_id = :batch_id AND product_id = :product_id AND state = 'quarantined' GROUP BY reason
    UNION ALL
    SELECT 'the event id is known with other content', count(*) FROM tenant.usage_conflicts
    WHERE batch_id = :batch_id AND product_id = :product_id HAVING count(*) > 0
    ORDER BY 1
    """
)

_DAYS = text(
    f"""
    WITH batches AS (SELECT {_COLUMNS} FROM ops.usage_inbox),
         placed AS ({_PLACED}), copies AS ({_COPIES}), counted AS ({_COUNTED})
    SELECT p.code, (c.received_at AT TIME ZONE 'UTC')::date,
           sum(c.accepted)::bigint, sum(c.rated)::bigint, sum(c.waiting)::bigint,
           sum(c.quarantined)::bigint, sum(c.duplicate)::bigint
    FROM counted c JOIN catalog.products p ON p.id = c.product_id
    GROUP BY 1, 2 ORDER BY 1, 2
    """  # of our own constants
)


def batch_accounts(session: Session, product_id: UUID, batch_id: UUID) -> BatchAccounts | None:
    """Where the events of one batch are; None when the product has no such batch."""
    named = {"batch_id": batch_id, "product_id": product_id}
    counts = session.execute(_BATCH, named).one_or_none()
    if counts is None:
        return None
    reasons = {row.reason: row.events for row in session.execute(_REASONS, named)}
    accepted, rated, waiting, quarantined, duplicate = counts
    return BatchAccounts(accepted, rated, waiting, quarantined, duplicate, reasons)


def day_accounts(session: Session) -> list[ProductDayAccounts]:
    """Where all events ever accepted are, by product and day of acceptance."""
    return [ProductDayAccounts(*row) for row in session.execute(_DAYS)]
