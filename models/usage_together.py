"""Usage of many windows taken and added up at once: `usage_billing.take` and `totals` for the usual ones.

Usual is: no corrections, and not so much in a window that it would have to be taken in slices.
"""

from collections.abc import Sequence
from functools import cache
from uuid import UUID

from sqlalchemy import TextClause, text
from sqlalchemy.orm import Session

from models import bulk
from models.metering_sql import group_number, passes
from models.usage_billing import GroupTotals, Taken, UsageWindow

_TYPES = {
    "place": "integer",
    "organization_id": "uuid",
    "subscription_id": "uuid",
    "item_id": "uuid",
    "meter_id": "uuid",
    "start_at": "timestamptz",
    "end_at": "timestamptz",
    "filters": "jsonb",
    "matches": "jsonb",
    "line_ids": "uuid[]",
}
_RECORD = """
    r.organization_id = w.organization_id AND r.subscription_id = w.subscription_id AND r.item_id = w.item_id
    AND r.meter_id = w.meter_id AND r.occurred_at >= w.start_at AND r.occurred_at < w.end_at
"""
_NUMBER = group_number("r.properties", "w.matches")
_COUNTS = passes("r.properties", "w.filters")

_TAKE = """
    WITH taken AS (
        UPDATE tenant.usage_records r
        SET state = 'rated', invoice_line_id = w.line_ids[1 + {number}]
        FROM {windows} WHERE {record} AND r.state = 'waiting'
        RETURNING w.place, array_position(w.line_ids, r.invoice_line_id) - 1 AS number
    )
    SELECT place, number, count(*) FROM taken GROUP BY 1, 2
"""
_TOTALS = """
    SELECT place, number, count(*) FILTER (WHERE counts), coalesce(sum(quantity) FILTER (WHERE counts), 0),
           count(*) FILTER (WHERE NOT counts)
    FROM (
        SELECT w.place, r.quantity, {number} AS number, {counts} AS counts
        FROM {windows} JOIN tenant.usage_records r ON {record} AND r.state = 'rated'
    ) r
    GROUP BY 1, 2
"""


@cache
def _compiled(statement: str, grouped: bool, filtered: bool) -> TextClause:
    """Nothing is asked of a record's properties where no meter and no price asks anything."""
    number, counts = _NUMBER if grouped else "0", _COUNTS if filtered else "true"
    parts = {"windows": bulk.listed(_TYPES, "w"), "record": _RECORD}
    return text(statement.format(**parts, number=number, counts=counts))


def take(
    session: Session, windows: Sequence[tuple[UsageWindow, Sequence[UUID]]]
) -> tuple[list[dict[int, Taken]], list[dict[int, GroupTotals]]]:
    """Give what waits of each window to its groups' lines: `line_ids[number of the group]`.

    Returns: what the lines took, and what all rated records of the window come to; a mapping by the number
    of the group for each window, in their sequence.
    """
    values = {"rows": bulk.as_json([_row(place, *each) for place, each in enumerate(windows)])}
    grouped = any(window.matches for window, _ in windows)
    filtered = any(window.filters for window, _ in windows)
    took: list[dict[int, Taken]] = [{} for _ in windows]
    for place, number, events in session.execute(_compiled(_TAKE, grouped, filtered), values):
        took[place][int(number)] = Taken(events)
    totals: list[dict[int, GroupTotals]] = [{} for _ in windows]
    for place, number, counted, total, excluded in session.execute(
        _compiled(_TOTALS, grouped, filtered), values
    ):
        totals[place][int(number)] = GroupTotals(counted, total, excluded, 0)
    return took, totals


def _row(place: int, window: UsageWindow, line_ids: Sequence[UUID]) -> dict[str, object]:
    return {
        "place": place,
        "organization_id": window.organization_id,
        "subscription_id": window.subscription_id,
        "item_id": window.item_id,
        "meter_id": window.meter_id,
        "start_at": window.start_at,
        "end_at": window.end_at,
        "filters": window.filters,
        "matches": window.matches,
        "line_ids": line_ids,
    }
