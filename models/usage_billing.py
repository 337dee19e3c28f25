"""From usage records to quantities: each record is taken by exactly one invoice line.

What counts is what has been taken: a record or a correction that arrives meanwhile is in neither. The
records of a window are told apart by the groups of the price: group 0 takes what no other does.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import TextClause, text
from sqlalchemy.orm import Session

from models import closing_queries, usage_facts
from models.database import is_rehearsal
from models.metering_sql import group_number, passes


@dataclass(frozen=True, slots=True)
class UsageWindow:
    """The records of one subscription item and meter in `[start_at, end_at)`.

    `filters` say which of them count, `matches` how a price splits them into groups; both as
    `billing.groups.match_record` writes them. `corrected` and `slices` are False where it is known that the
    organization has no corrections, and that one statement can take what waits (`models.closing_queries`).
    """

    organization_id: UUID
    subscription_id: UUID
    item_id: UUID
    meter_id: UUID
    start_at: datetime
    end_at: datetime
    filters: Mapping[str, Any] = field(default_factory=dict)
    matches: Sequence[Mapping[str, Any]] = ()
    corrected: bool = True
    slices: bool = True

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
    """Late records, or late corrections, of one item and meter whose period was invoiced before they came."""

    item_id: UUID
    meter_id: UUID
    period_start_at: datetime
    period_end_at: datetime


@dataclass(frozen=True, slots=True)
class Taken:
    """What a line has just taken: records that waited, and corrections (of these and of earlier ones)."""

    events: int = 0
    corrections: int = 0


class GroupTotals(NamedTuple):
    """Of one group's rated records: how many count, their sum; how many fail the filters, or are void."""

    counted: int
    sum: Decimal
    excluded: int
    voided: int


@dataclass(frozen=True, slots=True)
class Billed:
    """What other lines charged for a group's period so far; `explanation` is that of the first of them."""

    amount_minor: int
    line_ids: list[UUID]
    explanation: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Cause:
    """A correction that a line has taken, as the line names it."""

    id: UUID
    event_id: str
    kind: str
    quantity: Decimal | None
    reason: str


class GroupFact(NamedTuple):
    """One record that counts, with the number of its group."""

    group: int
    quantity: Decimal
    at: datetime
    event_id: str
    unique_value: str | None


_WINDOW = """
    r.organization_id = :organization_id AND r.subscription_id = :subscription_id AND r.item_id = :item_id
    AND r.meter_id = :meter_id AND r.occurred_at >= :start_at AND r.occurred_at < :end_at
"""
_CORRECTIONS_OF_WINDOW = """
    k.organization_id = :organization_id AND k.meter_id = :meter_id
    AND k.occurred_at >= :start_at AND k.occurred_at < :end_at
"""
_CORRECTED = usage_facts.corrected(
    f"{_WINDOW} AND r.state = 'rated'", usage_facts.TAKEN, _CORRECTIONS_OF_WINDOW
)
# As it would be if everything that waits were taken.
_REHEARSED = usage_facts.corrected(
    f"{_WINDOW} AND r.state IN ('rated', 'waiting')", usage_facts.ALL, _CORRECTIONS_OF_WINDOW
)
_AS_IT_CAME = "SELECT r.*, false AS void FROM tenant.usage_records r WHERE "
_PLAIN = f"{_AS_IT_CAME} {_WINDOW} AND r.state = 'rated'"
_PLAIN_REHEARSED = f"{_AS_IT_CAME} {_WINDOW} AND r.state IN ('rated', 'waiting')"
_NUMBER = group_number("r.properties", "CAST(:matches AS jsonb)")
_COUNTS = passes("r.properties", "CAST(:filters AS jsonb)")

_TAKE = """
    WITH taken AS (
        UPDATE tenant.usage_records r
        SET state = 'rated', invoice_line_id = (CAST(:line_ids AS uuid[]))[1 + {number}]
        WHERE {window} AND r.state = 'waiting'
        RETURNING r.invoice_line_id
    )
    SELECT array_position(CAST(:line_ids AS uuid[]), invoice_line_id) - 1, count(*) FROM taken GROUP BY 1
"""

_NEXT_SLICE = text(
    f"""
    SELECT r.occurred_at FROM tenant.usage_records r WHERE {_WINDOW} AND r.state = 'waiting'
    ORDER BY r.occurred_at OFFSET :most LIMIT 1
    """
)

# After the records, so that a correction of one that has just been taken comes along.
_TAKE_CORRECTIONS = """
    WITH waiting AS MATERIALIZED (
        SELECT k.id, r.properties FROM tenant.usage_corrections k {record}
        WHERE {corrections} AND k.invoice_line_id IS NULL AND {window} AND r.state = 'rated'
    ), taken AS (
        UPDATE tenant.usage_corrections k
        SET invoice_line_id = (CAST(:line_ids AS uuid[]))[1 + {number}]
        FROM waiting r WHERE k.organization_id = :organization_id AND k.id = r.id
        RETURNING k.invoice_line_id
    )
    SELECT array_position(CAST(:line_ids AS uuid[]), invoice_line_id) - 1, count(*) FROM taken GROUP BY 1
"""

# What the two above would take. A preview takes nothing: it may be asked for at any time, and a million
# records written and taken back are a million dead rows.
_SEE = """
    SELECT {number}, count(*) FROM tenant.usage_records r WHERE {window} AND r.state = 'waiting' GROUP BY 1
"""
_SEE_CORRECTIONS = """
    SELECT {number}, count(*)
    FROM tenant.usage_corrections k {record}
    WHERE {corrections} AND k.invoice_line_id IS NULL AND {window} AND r.state IN ('rated', 'waiting')
    GROUP BY 1
"""

_TOTALS = """
    SELECT number, count(*) FILTER (WHERE counts AND NOT void),
           coalesce(sum(quantity) FILTER (WHERE counts AND NOT void), 0),
           count(*) FILTER (WHERE NOT counts AND NOT void), count(*) FILTER (WHERE void)
    FROM (SELECT r.quantity, r.void, {number} AS number, {counts} AS counts FROM ({corrected}) r) r
    GROUP BY number
"""

_FACTS = """
    SELECT {number}, r.quantity, r.occurred_at, r.event_id, r.properties ->> :unique_property
    FROM ({corrected}) r WHERE NOT r.void AND {counts}
"""

_BILLED = text(
    """
    SELECT coalesce(sum(amount_minor), 0), coalesce(array_agg(id ORDER BY id), '{}'),
           (array_agg(explanation ORDER BY kind = 'usage' DESC, id))[1]
    FROM tenant.invoice_lines
    WHERE organization_id = :organization_id AND subscription_id = :subscription_id AND item_id = :item_id
      AND meter_id = :meter_id AND period_start_at = :start_at AND id <> :line_id
      AND kind IN ('usage', 'adjustment')
      AND coalesce(explanation -> 'group', 'null') = CAST(:match AS jsonb)
    """
)

_CAUSES = text(
    """
    SELECT id, event_id, kind, quantity, reason FROM tenant.usage_corrections
    WHERE organization_id = :organization_id AND invoice_line_id = :line_id
    ORDER BY received_at, id LIMIT :most
    """
)

# Late records, and corrections of records that a line has taken already.
_LATE = text(
    f"""
    SELECT r.item_id, r.meter_id, i.period_start_at, i.period_end_at
    FROM tenant.usage_records r
    JOIN tenant.invoices i ON i.organization_id = r.organization_id AND i.subscription_id = r.subscription_id
         AND i.kind IN ('cycle', 'final') AND i.rated_at IS NOT NULL
         AND r.occurred_at >= i.period_start_at AND r.occurred_at < i.period_end_at
    WHERE r.organization_id = :organization_id AND r.subscription_id = :subscription_id
      AND r.late AND r.state = 'waiting'
    UNION
    SELECT r.item_id, r.meter_id, l.period_start_at, l.period_end_at
    FROM tenant.usage_corrections k {usage_facts.RECORD}
    JOIN tenant.invoice_lines l ON l.organization_id = r.organization_id AND l.id = r.invoice_line_id
    WHERE k.organization_id = :organization_id AND k.invoice_line_id IS NULL AND r.state = 'rated'
      AND r.subscription_id = :subscription_id
    ORDER BY 3, 1, 2
    """
)


def _asked(session: Session, statement: str, window: UsageWindow) -> TextClause:
    """Nothing is asked of a record's properties where meter and price ask nothing: most do not."""
    if is_rehearsal(session):
        counted = _REHEARSED if window.corrected else _PLAIN_REHEARSED
    else:
        counted = _CORRECTED if window.corrected else _PLAIN
    return _compiled(statement, counted, bool(window.matches), bool(window.filters))


@cache
def _compiled(statement: str, corrected: str, grouped: bool, filtered: bool) -> TextClause:
    number, counts = _NUMBER if grouped else "0", _COUNTS if filtered else "true"
    parts = {
        "window": _WINDOW,
        "corrections": _CORRECTIONS_OF_WINDOW,
        "corrected": corrected,
        "record": usage_facts.RECORD,
    }
    return text(statement.format(**parts, number=number, counts=counts))


def take(session: Session, window: UsageWindow, line_ids: Sequence[UUID]) -> dict[int, Taken]:
    """Give what waits of the window to its group's line: `line_ids[number of the group]`.

    Every waiting record, and every correction that no line has counted.
    Returns: number of a group -> what its line took, for those that took anything. A rehearsal only looks.
    """
    values = {**window.values(), "line_ids": list(line_ids)}
    rehearsed = is_rehearsal(session)
    asked = _asked(session, _SEE if rehearsed else _TAKE, window)
    events: Counter[int] = Counter()
    whole = rehearsed or not window.slices
    for start_at, end_at in [(window.start_at, window.end_at)] if whole else _slices(session, window):
        rows = session.execute(asked, {**values, "start_at": start_at, "end_at": end_at})
        events.update({int(number): int(count) for number, count in rows})
    corrections: dict[int, int] = {}
    if window.corrected:
        asked = _asked(session, _SEE_CORRECTIONS if rehearsed else _TAKE_CORRECTIONS, window)
        corrections = {int(number): int(count) for number, count in session.execute(asked, values)}
    return {
        number: Taken(events[number], corrections.get(number, 0))
        for number in events.keys() | corrections.keys()
    }


def _slices(session: Session, window: UsageWindow) -> Iterator[tuple[datetime, datetime]]:
    """Parts of the window with some hundred thousand waiting records each, one after the other.

    No statement may run for ever, and a customer may have any number of events in a period.
    """
    start_at = window.start_at
    while True:
        values = {**window.values(), "start_at": start_at, "most": closing_queries.MOST_TAKEN}
        end_at = session.execute(_NEXT_SLICE, values).scalar_one_or_none()
        if end_at is None or end_at <= start_at:
            yield start_at, window.end_at
            return
        yield start_at, end_at
        start_at = end_at


def totals(session: Session, window: UsageWindow) -> dict[int, GroupTotals]:
    """Counts and sum of the window's rated records, as corrected, by the number of their group."""
    rows = session.execute(_asked(session, _TOTALS, window), window.values())
    return {int(row[0]): GroupTotals(int(row[1]), Decimal(row[2]), int(row[3]), int(row[4])) for row in rows}


def facts(session: Session, window: UsageWindow, unique_property: str | None) -> Sequence[GroupFact]:
    """The window's rated records that count, as corrected, one by one."""
    values = {**window.values(), "unique_property": unique_property or ""}
    rows = session.execute(_asked(session, _FACTS, window), values)
    return [GroupFact(*row) for row in rows]


def billed(session: Session, window: UsageWindow, line_id: UUID, match: Mapping[str, Any] | None) -> Billed:
    """What lines other than `line_id` charged for one group in the window's period, which, by what terms.

    Args: `match` of the group; None of the rest.
    """
    values = {**window.values(), "line_id": line_id, "match": json.dumps(match)}
    minor, ids, explanation = session.execute(_BILLED, values).one()
    return Billed(int(minor), list(ids), explanation)


def causes(session: Session, organization_id: UUID, line_id: UUID, most: int) -> list[Cause]:
    """The corrections that a line has taken, the oldest first."""
    values = {"organization_id": organization_id, "line_id": line_id, "most": most}
    return [Cause(*row) for row in session.execute(_CAUSES, values)]


def late_groups(session: Session, organization_id: UUID, subscription_id: UUID) -> list[LateGroup]:
    """Which items, meters and closed periods have late records or corrections waiting."""
    rows = session.execute(_LATE, {"organization_id": organization_id, "subscription_id": subscription_id})
    return [LateGroup(*row) for row in rows]
