"""From usage records to quantities: each record is taken by exactly one invoice line.

Taking and adding up happen in one statement, so a record that arrives meanwhile is in neither. The
records of a window are told apart by the groups of the price: group 0 takes what no other does.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import TextClause, text
from sqlalchemy.orm import Session

from models.metering_sql import group_number, passes


@dataclass(frozen=True, slots=True)
class UsageWindow:
    """The records of one subscription item and meter in `[start_at, end_at)`.

    `filters` say which of them count, `matches` how a price splits them into groups; both as
    `billing.groups.match_record` writes them.
    """

    organization_id: UUID
    subscription_id: UUID
    item_id: UUID
    meter_id: UUID
    start_at: datetime
    end_at: datetime
    filters: Mapping[str, Any] = field(default_factory=dict)
    matches: Sequence[Mapping[str, Any]] = ()

    def values(self) -> dict[str, Any]:
        return {
            "organization_id": self.organization_id,
            "subscription_id": self.subscription_id,
            "item_id": self.item_id,
            "meter_id": self.meter_id,
            "start_at": self.start_at,
            "end_at": self.end_at,
            "filters": json.dumps(dict(self.filters)),
            "matches": json.dumps(list(self.matches)),
        }


@dataclass(frozen=True, slots=True)
class LateGroup:
    """Late records of one item and meter whose period was invoiced before they came."""

    item_id: UUID
    meter_id: UUID
    period_start_at: datetime
    period_end_at: datetime


class GroupTotals(NamedTuple):
    """Of one group's rated records: how many count, their sum, and how many fail the filters."""

    counted: int
    sum: Decimal
    excluded: int


class GroupFact(NamedTuple):
    """One record that counts, with the number of its group."""

    group: int
    quantity: Decimal
    at: datetime
    event_id: str
    unique_value: str | None


_WINDOW = """
    organization_id = :organization_id AND subscription_id = :subscription_id AND item_id = :item_id
    AND meter_id = :meter_id AND occurred_at >= :start_at AND occurred_at < :end_at
"""
_NUMBER = group_number("properties", "CAST(:matches AS jsonb)")
_COUNTS = passes("properties", "CAST(:filters AS jsonb)")

_TAKE = """
    WITH taken AS (
        UPDATE tenant.usage_records
        SET state = 'rated', invoice_line_id = (CAST(:line_ids AS uuid[]))[1 + {number}]
        WHERE {window} AND state = 'waiting'
        RETURNING invoice_line_id
    )
    SELECT array_position(CAST(:line_ids AS uuid[]), invoice_line_id) - 1, count(*) FROM taken GROUP BY 1
"""

_TOTALS = """
    SELECT number, count(*) FILTER (WHERE counts), coalesce(sum(quantity) FILTER (WHERE counts), 0),
           count(*) FILTER (WHERE NOT counts)
    FROM (SELECT quantity, {number} AS number, {counts} AS counts
          FROM tenant.usage_records WHERE {window} AND state = 'rated') r
    GROUP BY number
"""

_FACTS = """
    SELECT {number}, quantity, occurred_at, event_id, properties ->> :unique_property
    FROM tenant.usage_records WHERE {window} AND state = 'rated' AND {counts}
"""

_BILLED = text(
    """
    SELECT coalesce(sum(amount_minor), 0), coalesce(array_agg(id ORDER BY id), '{}') FROM tenant.invoice_lines
    WHERE organization_id = :organization_id AND subscription_id = :subscription_id AND item_id = :item_id
      AND meter_id = :meter_id AND period_start_at = :start_at AND id <> :line_id
      AND kind IN ('usage', 'adjustment')
      AND coalesce(explanation -> 'group', 'null') = CAST(:match AS jsonb)
    """
)

_LATE = text(
    """
    SELECT DISTINCT r.item_id, r.meter_id, i.period_start_at, i.period_end_at
    FROM tenant.usage_records r
    JOIN tenant.invoices i ON i.organization_id = r.organization_id AND i.subscription_id = r.subscription_id
         AND i.kind IN ('cycle', 'final') AND i.rated_at IS NOT NULL
         AND r.occurred_at >= i.period_start_at AND r.occurred_at < i.period_end_at
    WHERE r.organization_id = :organization_id AND r.subscription_id = :subscription_id
      AND r.late AND r.state = 'waiting'
    ORDER BY 3, 1, 2
    """
)


def _asked(statement: str, window: UsageWindow) -> TextClause:
    """Nothing is asked of a record's properties where meter and price ask nothing: most do not."""
    return _compiled(statement, bool(window.matches), bool(window.filters))


@cache
def _compiled(statement: str, grouped: bool, filtered: bool) -> TextClause:
    number, counts = _NUMBER if grouped else "0", _COUNTS if filtered else "true"
    return text(statement.format(window=_WINDOW, number=number, counts=counts))


def take(session: Session, window: UsageWindow, line_ids: Sequence[UUID]) -> dict[int, int]:
    """Give every waiting record of the window to its group's line: `line_ids[number of the group]`.

    Returns: number of a group -> how many records its line took, for those that took any.
    """
    rows = session.execute(_asked(_TAKE, window), {**window.values(), "line_ids": list(line_ids)})
    return {int(number): int(count) for number, count in rows}


def totals(session: Session, window: UsageWindow) -> dict[int, GroupTotals]:
    """Counts and sum of the window's rated records, by the number of their group."""
    rows = session.execute(_asked(_TOTALS, window), window.values())
    return {int(row[0]): GroupTotals(int(row[1]), Decimal(row[2]), int(row[3])) for row in rows}


def facts(session: Session, window: UsageWindow, unique_property: str | None) -> Sequence[GroupFact]:
    """The window's rated records that count, one by one."""
    values = {**window.values(), "unique_property": unique_property or ""}
    rows = session.execute(_asked(_FACTS, window), values)
    return [GroupFact(*row) for row in rows]


def billed(
    session: Session, window: UsageWindow, line_id: UUID, match: Mapping[str, Any] | None
) -> tuple[int, list[UUID]]:
    """What lines other than `line_id` charged for one group in the window's period, and which.

    Args: `match` of the group; None of the rest.
    """
    values = {**window.values(), "line_id": line_id, "match": json.dumps(match)}
    minor, ids = session.execute(_BILLED, values).one()
    return int(minor), list(ids)


def late_groups(session: Session, organization_id: UUID, subscription_id: UUID) -> list[LateGroup]:
    """Which items, meters and closed periods have late records waiting."""
    rows = session.execute(_LATE, {"organization_id": organization_id, "subscription_id": subscription_id})
    return [LateGroup(*row) for row in rows]
