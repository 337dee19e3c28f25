"""Rollups in SQL: written behind the usage, and read together with what is not rolled up yet.

At every instant, in one statement's view of the database: each event of a subscription is in the
rollups that stand, or of a batch that is not rolled up (the tail), or of an hour that is read from its
events. Rollups and the marks that say so are written in one transaction; so are the events of a batch
and its row; so are a correction and its stale hour.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from billing.rollups import Rollup
from models.metering_sql import group_values, passes
from models.usage_facts import ALL, corrected

# Rollups are numbered in the sequence in which they are written: one tick at a time. Arbitrary.
_TICK_LOCK = 7_402_213
_HOUR = timedelta(hours=1)

_COLUMNS = """
    organization_id, subscription_id, item_id, meter_id, hour_at, from_at, grouped, number, restates, count,
    sum, least, greatest, last_at, last_event_id, last_quantity, moment, distinct_values
"""


def _hour(instant: str) -> str:
    return f"date_trunc('hour', {instant}, 'UTC')"


def _metered(facts: str) -> str:
    """A relation: of the relation `facts` those that pass their meter's filters, with group and hour."""
    return f"""
        SELECT f.*, {_hour("f.occurred_at")} AS hour_at,
               CASE WHEN m.aggregation = 'unique' THEN f.properties ->> m.unique_property END AS unique_value,
               m.aggregation = 'unique' AS is_unique,
               CASE WHEN m.group_by = '[]' THEN '{{}}' ELSE {group_values("f.properties", "m.group_by")} END
                   AS grouped
        FROM ({facts}) f JOIN catalog.meters m ON m.id = f.meter_id
        WHERE m.filters = '{{}}' OR {passes("f.properties", "m.filters")}
    """


# An event's latest wins; of one instant's the greatest key, by its characters' numbers.
_LATEST = 'ORDER BY f.occurred_at DESC, f.event_id COLLATE "C" DESC'
_REDUCED = f"""
    count(*) AS count, sum(f.quantity) AS sum, min(f.quantity) AS least, max(f.quantity) AS greatest,
    max(f.occurred_at) AS last_at, (array_agg(f.event_id {_LATEST}))[1] AS last_event_id,
    (array_agg(f.quantity {_LATEST}))[1] AS last_quantity,
    sum(f.quantity * extract(epoch FROM f.occurred_at)) AS moment,
    CASE WHEN bool_or(f.is_unique) THEN coalesce(
        jsonb_agg(DISTINCT f.unique_value) FILTER (WHERE f.unique_value IS NOT NULL), '[]') END
        AS distinct_values
"""

# The hour, or the boundary of a period inside of it.
_FROM = f"""
    greatest({_hour("f.occurred_at")}, CASE
        WHEN f.occurred_at >= s.current_period_end_at THEN s.current_period_end_at
        WHEN f.occurred_at >= s.current_period_start_at THEN s.current_period_start_at
        ELSE {_hour("f.occurred_at")} END)
"""


def _written(facts: str, restates: str) -> str:
    """Add the rollups of a relation of facts."""
    return f"""
        INSERT INTO tenant.usage_rollups ({_COLUMNS})
        SELECT f.organization_id, f.subscription_id, f.item_id, f.meter_id, f.hour_at, {_FROM}, f.grouped,
               :number, {restates}, {_REDUCED}
        FROM ({_metered(facts)}) f
        JOIN tenant.product_subscriptions s
          ON s.organization_id = f.organization_id AND s.id = f.subscription_id
        GROUP BY 1, 2, 3, 4, 5, 6, 7
    """


_LOCK = text("SELECT pg_try_advisory_xact_lock(:lock)")
_NUMBER = text(
    "INSERT INTO ops.rollup_numbers AS last (id, number) VALUES (true, 1) "
    "ON CONFLICT (id) DO UPDATE SET number = last.number + 1 RETURNING number"
)

_UNROLLED = text(
    """
    SELECT id FROM (
        SELECT id, accepted, sum(accepted) OVER (ORDER BY id) AS events
        FROM ops.usage_inbox WHERE rolled_up_at IS NULL AND state = 'done' ORDER BY id LIMIT :most_batches
    ) b
    WHERE events - accepted < :most_events
    """
)
_MARK = text("UPDATE ops.usage_inbox SET rolled_up_at = :now WHERE id = ANY(:batch_ids)")

_APPEND = text(
    _written(
        "SELECT r.* FROM tenant.usage_records r WHERE r.batch_id = ANY(:batch_ids) AND r.item_id IS NOT NULL",
        "false",
    )
)

# Not yet where a corrected event is of a batch that is not rolled up: what is read of such batches, here
# and in the tail, is what their events said, so the hour stays stale until the batch is rolled up.
_FORGET = text(
    """
    DELETE FROM tenant.usage_stale_hours WHERE (organization_id, id) IN (
        SELECT h.organization_id, h.id FROM tenant.usage_stale_hours h
        WHERE NOT EXISTS (
            SELECT FROM tenant.usage_corrections k
            JOIN tenant.usage_records r ON r.organization_id = k.organization_id
                 AND r.product_id = k.product_id AND r.event_id = k.event_id
            JOIN ops.usage_inbox b ON b.id = r.batch_id AND b.rolled_up_at IS NULL
            WHERE k.organization_id = h.organization_id AND k.meter_id = h.meter_id
              AND k.occurred_at >= h.hour_at AND k.occurred_at < h.hour_at + interval '1 hour')
        ORDER BY h.organization_id, h.id FOR UPDATE OF h SKIP LOCKED LIMIT :most
    )
    RETURNING organization_id, subscription_id, item_id, meter_id, hour_at
    """
)

_STALE = """
    SELECT DISTINCT * FROM unnest(
        CAST(:organization_ids AS uuid[]), CAST(:subscription_ids AS uuid[]), CAST(:item_ids AS uuid[]),
        CAST(:meter_ids AS uuid[]), CAST(:hours AS timestamptz[])
    ) AS stale(organization_id, subscription_id, item_id, meter_id, hour_at)
"""
# Hour by hour, each by its stretch of the index of usage: so OFFSET 0, below.
# What a batch that is not rolled up has of the hour comes on top of it, when that batch is.
_OF_STALE = corrected(
    "r.organization_id = h.organization_id AND r.subscription_id = h.subscription_id "
    "AND r.item_id = h.item_id AND r.meter_id = h.meter_id "
    "AND r.occurred_at >= h.hour_at AND r.occurred_at < h.hour_at + interval '1 hour' "
    "AND NOT EXISTS (SELECT FROM ops.usage_inbox b WHERE b.rolled_up_at IS NULL AND b.id = r.batch_id)",
    ALL,
    "k.organization_id = h.organization_id AND k.meter_id = h.meter_id "
    "AND k.occurred_at >= h.hour_at AND k.occurred_at < h.hour_at + interval '1 hour'",
)
_RESTATE = text(
    _written(
        f"SELECT r.* FROM ({_STALE}) h CROSS JOIN LATERAL ({_OF_STALE} OFFSET 0) r WHERE NOT r.void", "true"
    )
)
# An hour of which nothing is left is restated, too: to nothing.
_RESTATE_TO_NOTHING = text(
    f"""
    INSERT INTO tenant.usage_rollups ({_COLUMNS})
    SELECT h.organization_id, h.subscription_id, h.item_id, h.meter_id, h.hour_at, h.hour_at, '{{}}',
           :number, true, 0, 0, NULL, NULL, NULL, NULL, NULL, 0, NULL
    FROM ({_STALE}) h
    WHERE NOT EXISTS (
        SELECT FROM tenant.usage_rollups r
        WHERE r.organization_id = h.organization_id AND r.subscription_id = h.subscription_id
          AND r.item_id = h.item_id AND r.meter_id = h.meter_id AND r.hour_at = h.hour_at
          AND r.number = :number)
    """
)


@dataclass(frozen=True, slots=True)
class Written:
    """What one step of the tick did."""

    batches: int
    hours: int


def write_some(session: Session, now: datetime, most_batches: int, most_events: int) -> Written | None:
    """Roll up the oldest batches that are not, then restate hours that are stale. None: another is at it.

    Args: a session of `Database.intake`, at the start of its transaction.
    """
    if not session.execute(_LOCK, {"lock": _TICK_LOCK}).scalar_one():
        return None
    limits = {"most_batches": most_batches, "most_events": most_events}
    batch_ids = list(session.execute(_UNROLLED, limits).scalars())
    if batch_ids:
        session.execute(_APPEND, {"batch_ids": batch_ids, "number": _next(session)})
        session.execute(_MARK, {"batch_ids": batch_ids, "now": now})
    stale = session.execute(_FORGET, {"most": most_batches}).all()
    if stale:
        names = ("organization_ids", "subscription_ids", "item_ids", "meter_ids", "hours")
        values: dict[str, Any] = {name: [row[n] for row in stale] for n, name in enumerate(names)}
        values["number"] = _next(session)
        session.execute(_RESTATE, values)
        session.execute(_RESTATE_TO_NOTHING, values)
    return Written(len(batch_ids), len(stale))


def _next(session: Session) -> int:
    return int(session.execute(_NUMBER).scalar_one())


# -- reading ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class UsedWindow:
    """The events of a subscription's items in `[start_at, end_at)`."""

    organization_id: UUID
    subscription_id: UUID
    item_ids: Sequence[UUID]
    start_at: datetime
    end_at: datetime


class Used(NamedTuple):
    """What one item, meter and group of properties come to; `grouped` has a value for each of them."""

    item_id: UUID
    meter_id: UUID
    grouped: dict[str, Any]
    rollup: Rollup


_OF_HOUR = corrected(
    "r.organization_id = :organization_id AND r.subscription_id = :subscription_id AND r.item_id = a.item_id "
    "AND r.meter_id = a.meter_id AND r.occurred_at >= greatest(a.hour_at, :start_at) "
    "AND r.occurred_at < least(a.hour_at + interval '1 hour', :end_at)",
    ALL,
    "k.organization_id = :organization_id AND k.meter_id = a.meter_id "
    "AND k.occurred_at >= a.hour_at AND k.occurred_at < a.hour_at + interval '1 hour'",
)
# An hour after the other (OFFSET 0): joined as a whole, the planner read the period to find some hours.
# The tail is fenced off: its batches are found by their block ranges, not by all that the subscription had.
_READ = text(
    f"""
    WITH standing AS MATERIALIZED (
        SELECT * FROM (
            SELECT r.*, max(r.number) FILTER (WHERE r.restates)
                            OVER (PARTITION BY r.item_id, r.meter_id, r.hour_at) AS restated
            FROM tenant.usage_rollups r
            WHERE r.organization_id = :organization_id AND r.subscription_id = :subscription_id
              AND r.item_id = ANY(:item_ids) AND r.hour_at > :before_at AND r.hour_at < :end_at
        ) r WHERE r.restated IS NULL OR r.number >= r.restated
    ), anew AS MATERIALIZED (
        SELECT item_id, meter_id, hour_at FROM tenant.usage_stale_hours
        WHERE organization_id = :organization_id AND subscription_id = :subscription_id
          AND item_id = ANY(:item_ids) AND hour_at > :before_at AND hour_at < :end_at
        UNION
        SELECT item_id, meter_id, hour_at FROM standing
        WHERE (from_at < :start_at AND last_at >= :start_at) OR (from_at < :end_at AND last_at >= :end_at)
    ), tail AS MATERIALIZED (
        SELECT r.event_id, r.subscription_id, r.item_id, r.meter_id, r.occurred_at, r.quantity, r.properties
        FROM tenant.usage_records r
        WHERE r.batch_id = ANY(ARRAY(
            SELECT b.id FROM ops.usage_inbox b
            WHERE b.rolled_up_at IS NULL AND b.organization_ids @> ARRAY[CAST(:organization_id AS uuid)]))
    ), events AS (
        SELECT r.event_id, r.item_id, r.meter_id, r.occurred_at, r.quantity, r.properties
        FROM anew a CROSS JOIN LATERAL ({_OF_HOUR} OFFSET 0) r WHERE NOT r.void
        UNION ALL
        SELECT t.event_id, t.item_id, t.meter_id, t.occurred_at, t.quantity, t.properties
        FROM tail t
        WHERE t.subscription_id = :subscription_id AND t.item_id = ANY(:item_ids)
          AND t.occurred_at >= :start_at AND t.occurred_at < :end_at
          AND (t.item_id, t.meter_id, {_hour("t.occurred_at")})
              NOT IN (SELECT item_id, meter_id, hour_at FROM anew)
    ), parts AS MATERIALIZED (
        SELECT item_id, meter_id, grouped, count, sum, least, greatest, last_at, last_event_id, last_quantity,
               moment, distinct_values
        FROM standing
        WHERE from_at >= :start_at AND from_at < :end_at AND count > 0
          AND (item_id, meter_id, hour_at) NOT IN (SELECT item_id, meter_id, hour_at FROM anew)
        UNION ALL
        SELECT f.item_id, f.meter_id, f.grouped, {_REDUCED}
        FROM ({_metered("SELECT * FROM events")}) f GROUP BY 1, 2, 3
    ), uniques AS (
        SELECT item_id, meter_id, grouped, array_agg(DISTINCT v.value) AS found
        FROM parts CROSS JOIN LATERAL jsonb_array_elements_text(distinct_values) v(value) GROUP BY 1, 2, 3
    )
    SELECT item_id, meter_id, grouped, sum(count), sum(sum), min(least), max(greatest), max(last_at),
           (array_agg(last_event_id ORDER BY last_at DESC, last_event_id COLLATE "C" DESC))[1],
           (array_agg(last_quantity ORDER BY last_at DESC, last_event_id COLLATE "C" DESC))[1],
           sum(moment), coalesce(max(u.found), '{{}}')
    FROM parts LEFT JOIN uniques u USING (item_id, meter_id, grouped)
    GROUP BY 1, 2, 3
    """
)


def read(session: Session, window: UsedWindow) -> list[Used]:
    """What the window's events come to now, corrected: equal to their sum at every instant."""
    values: dict[str, Any] = {
        "organization_id": window.organization_id,
        "subscription_id": window.subscription_id,
        "item_ids": list(window.item_ids),
        "start_at": window.start_at,
        "end_at": window.end_at,
        # The hour that the window starts in begins less than an hour before it.
        "before_at": window.start_at - _HOUR,
    }
    return [_used(row) for row in session.execute(_READ, values)]


def _used(row: Any) -> Used:
    last = None if row[7] is None else (row[7], row[8], Fraction(row[9]))
    rollup = Rollup(
        count=int(row[3]),
        sum=Fraction(row[4]),
        least=_exact(row[5]),
        greatest=_exact(row[6]),
        last=last,
        moment=Fraction(row[10]),
        values=frozenset(row[11]),
    )
    return Used(row[0], row[1], row[2], rollup)


def _exact(number: Decimal | None) -> Fraction | None:
    return None if number is None else Fraction(number)
