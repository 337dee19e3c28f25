"""Usage accounts: for every event that was acknowledged, where it is now. Read as the auditor.

accepted = rated + waiting + quarantined + duplicate. A batch that is not opened yet, or opened for
some of its organizations only, has the rest waiting; a conflicting copy is in quarantine.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

COUNTS = ("accepted", "rated", "waiting", "quarantined", "duplicate")


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
    """Where the events of one product are that were accepted on `day` (UTC), or ever, when that is None.

    `unbalanced` of its batches do not add up. `counted_at` is None for what has been counted just now.
    """

    product_code: str
    day: date | None
    accepted: int
    rated: int
    waiting: int
    quarantined: int
    duplicate: int
    unbalanced: int = 0
    counted_at: datetime | None = None

    @property
    def placed(self) -> int:
        """How many events have a place."""
        return self.rated + self.waiting + self.quarantined + self.duplicate

    @property
    def adds_up(self) -> bool:
        """The law: each accepted event is in exactly one place, in every batch."""
        return self.accepted == self.placed and not self.unbalanced


@dataclass(frozen=True, slots=True)
class BrokenBatch:
    """A batch that does not add up."""

    batch_id: UUID
    product_code: str
    day: date
    accepted: int
    rated: int
    waiting: int
    quarantined: int
    duplicate: int
    adds_up: bool = False

    @property
    def placed(self) -> int:
        """How many events have a place."""
        return self.rated + self.waiting + self.quarantined + self.duplicate


@dataclass(frozen=True, slots=True)
class KeptDay:
    """When a day was counted last, how long that took, and whether its events still move."""

    day: date
    counted_at: datetime
    took_ms: int
    is_open: bool


# `batches` is a relation of the caller; `place` narrows down whose rows are read.
_PLACED = """
    SELECT r.batch_id,
           count(*) FILTER (WHERE r.state = 'rated') AS rated,
           count(*) FILTER (WHERE r.state = 'waiting') AS waiting,
           count(*) FILTER (WHERE r.state = 'quarantined') AS quarantined
    FROM tenant.usage_records r WHERE {place} GROUP BY r.batch_id
"""
_COPIES = """
    SELECT c.batch_id, count(*) AS conflicts
    FROM tenant.usage_conflicts c WHERE {place} GROUP BY c.batch_id
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
    ), placed AS ({_PLACED.format(place="r.batch_id = :batch_id")}),
    copies AS ({_COPIES.format(place="c.batch_id = :batch_id")}), counted AS ({_COUNTED})
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

# Batch ids are time-sorted: those of a day span a small range of the block range index, and everything
# outside of it is never read.
_SPAN = text(
    """
    SELECT min(id::text), max(id::text) FROM ops.usage_inbox
    WHERE received_at >= :start_at AND received_at < :end_at
    """
)
_DAY = text(
    f"""
    WITH batches AS MATERIALIZED (
        SELECT {_COLUMNS} FROM ops.usage_inbox WHERE received_at >= :start_at AND received_at < :end_at
    ), placed AS ({_PLACED.format(place="r.batch_id BETWEEN :first_id AND :last_id")}),
    copies AS ({_COPIES.format(place="c.batch_id BETWEEN :first_id AND :last_id")}), counted AS ({_COUNTED})
    SELECT p.code, CAST(:day AS date), sum(c.accepted)::bigint, sum(c.rated)::bigint, sum(c.waiting)::bigint,
           sum(c.quarantined)::bigint, sum(c.duplicate)::bigint,
           count(*) FILTER (WHERE c.accepted <> c.rated + c.waiting + c.quarantined + c.duplicate)
    FROM counted c JOIN catalog.products p ON p.id = c.product_id
    GROUP BY 1 ORDER BY 1
    """  # of our own constants
)
_BROKEN = text(
    f"""
    WITH batches AS MATERIALIZED (
        SELECT {_COLUMNS} FROM ops.usage_inbox WHERE received_at >= :start_at AND received_at < :end_at
    ), placed AS ({_PLACED.format(place="r.batch_id BETWEEN :first_id AND :last_id")}),
    copies AS ({_COPIES.format(place="c.batch_id BETWEEN :first_id AND :last_id")}), counted AS ({_COUNTED})
    SELECT c.id, p.code, CAST(:day AS date), c.accepted, c.rated, c.waiting, c.quarantined, c.duplicate
    FROM counted c JOIN catalog.products p ON p.id = c.product_id
    WHERE c.accepted <> c.rated + c.waiting + c.quarantined + c.duplicate
    ORDER BY c.received_at LIMIT :most
    """  # of our own constants
)
_KEPT = text(
    """
    SELECT p.code, k.day, k.accepted, k.rated, k.waiting, k.quarantined, k.duplicate, k.unbalanced,
           k.counted_at
    FROM ops.usage_days k JOIN catalog.products p ON p.id = k.product_id
    WHERE k.day BETWEEN :first AND :last
      AND (CAST(:product_id AS uuid) IS NULL OR k.product_id = :product_id)
    ORDER BY k.day DESC, p.code
    """
)
_KEPT_DAYS = text(
    """
    SELECT day, min(counted_at), max(took_ms), sum(waiting + quarantined) > 0
    FROM ops.usage_days GROUP BY day ORDER BY day
    """
)
# What was once accepted stays accepted: should a batch be gone, the day no longer adds up.
_KEEP = text(
    """
    INSERT INTO ops.usage_days (product_id, day, accepted, rated, waiting, quarantined, duplicate,
                                unbalanced, counted_at, took_ms)
    SELECT p.id, :day, :accepted, :rated, :waiting, :quarantined, :duplicate, :unbalanced, :counted_at,
           :took_ms
    FROM catalog.products p WHERE p.code = :product_code
    ON CONFLICT (product_id, day) DO UPDATE SET
        accepted = greatest(usage_days.accepted, excluded.accepted), rated = excluded.rated,
        waiting = excluded.waiting, quarantined = excluded.quarantined, duplicate = excluded.duplicate,
        unbalanced = excluded.unbalanced, counted_at = excluded.counted_at, took_ms = excluded.took_ms
    """
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


def day_accounts(session: Session, day: date) -> list[ProductDayAccounts]:
    """Where the events accepted on a day (UTC) are now, by product: counted one by one."""
    bounds = _bounds(session, day)
    return [ProductDayAccounts(*row) for row in session.execute(_DAY, bounds)] if bounds else []


def broken_batches(session: Session, day: date, most: int) -> list[BrokenBatch]:
    """The batches accepted on a day that do not add up."""
    bounds = _bounds(session, day)
    if not bounds:
        return []
    return [BrokenBatch(*row) for row in session.execute(_BROKEN, {**bounds, "most": most})]


def _bounds(session: Session, day: date) -> dict[str, Any]:
    """A day's instants and the ids of its first and last batch; empty when it has none."""
    start_at = datetime.combine(day, time(), UTC)
    span: dict[str, Any] = {"start_at": start_at, "end_at": start_at + timedelta(days=1)}
    first, last = session.execute(_SPAN, span).one()
    return {} if first is None else {**span, "day": day, "first_id": UUID(first), "last_id": UUID(last)}


def accepted_span(session: Session) -> tuple[date, date] | None:
    """The first and the last day (UTC) on which anything was accepted; reads the inbox whole."""
    first, last = session.execute(
        text("SELECT min(received_at), max(received_at) FROM ops.usage_inbox")
    ).one()
    return None if first is None else (first.astimezone(UTC).date(), last.astimezone(UTC).date())


def today(session: Session) -> date:
    """The day on which the database accepts."""
    now: datetime = session.execute(text("SELECT now()")).scalar_one()
    return now.astimezone(UTC).date()


def kept_accounts(
    session: Session, first: date, last: date, product_id: UUID | None = None
) -> list[ProductDayAccounts]:
    """The accounts of these days as they were counted last, the newest day first."""
    rows = session.execute(_KEPT, {"first": first, "last": last, "product_id": product_id})
    return [ProductDayAccounts(*row) for row in rows]


def kept_days(session: Session) -> list[KeptDay]:
    """Every day that has been counted, the oldest first."""
    return [KeptDay(*row) for row in session.execute(_KEPT_DAYS)]


def keep(session: Session, counted: ProductDayAccounts, counted_at: datetime, took_ms: int) -> None:
    """Keep the count of a product's day."""
    session.execute(
        _KEEP,
        {
            "product_code": counted.product_code,
            "day": counted.day,
            **{name: getattr(counted, name) for name in COUNTS},
            "unbalanced": counted.unbalanced,
            "counted_at": counted_at,
            "took_ms": took_ms,
        },
    )
