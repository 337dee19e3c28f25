"""From usage records to quantities: each record is taken by exactly one invoice line.

Taking and adding up happen in one statement, so a record that arrives meanwhile is in neither.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session


@dataclass(frozen=True, slots=True)
class UsageWindow:
    """The records of one subscription item and meter in `[start_at, end_at)`."""

    organization_id: UUID
    subscription_id: UUID
    item_id: UUID
    meter_id: UUID
    start_at: datetime
    end_at: datetime

    def values(self) -> dict[str, Any]:
        return {
            "organization_id": self.organization_id,
            "subscription_id": self.subscription_id,
            "item_id": self.item_id,
            "meter_id": self.meter_id,
            "start_at": self.start_at,
            "end_at": self.end_at,
        }


@dataclass(frozen=True, slots=True)
class LateGroup:
    """Late records of one item and meter whose period was invoiced before they came."""

    item_id: UUID
    meter_id: UUID
    period_start_at: datetime
    period_end_at: datetime


_WINDOW = """
    organization_id = :organization_id AND subscription_id = :subscription_id AND item_id = :item_id
    AND meter_id = :meter_id AND occurred_at >= :start_at AND occurred_at < :end_at
"""

_TAKE = text(
    f"""
    WITH taken AS (
        UPDATE tenant.usage_records SET state = 'rated', invoice_line_id = :line_id
        WHERE {_WINDOW} AND state = 'waiting'
        RETURNING 1
    )
    SELECT count(*) FROM taken
    """
)

_TOTALS = text(
    "SELECT count(*), coalesce(sum(quantity), 0) FROM tenant.usage_records "
    f"WHERE {_WINDOW} AND state = 'rated'"
)

_FACTS = text(
    f"""
    SELECT quantity, occurred_at, event_id, properties ->> :unique_property
    FROM tenant.usage_records WHERE {_WINDOW} AND state = 'rated'
    """
)

_BILLED = text(
    """
    SELECT coalesce(sum(amount_minor), 0), coalesce(array_agg(id ORDER BY id), '{}') FROM tenant.invoice_lines
    WHERE organization_id = :organization_id AND subscription_id = :subscription_id AND item_id = :item_id
      AND meter_id = :meter_id AND period_start_at = :start_at AND id <> :line_id
      AND kind IN ('usage', 'adjustment')
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


def take(session: Session, window: UsageWindow, line_id: UUID) -> int:
    """Give every waiting record of the window to the line. Returns how many."""
    return int(session.execute(_TAKE, {**window.values(), "line_id": line_id}).scalar_one())


def totals(session: Session, window: UsageWindow) -> tuple[int, Decimal]:
    """Count and sum of the window's rated records."""
    count, total = session.execute(_TOTALS, window.values()).one()
    return int(count), Decimal(total)


def facts(
    session: Session, window: UsageWindow, unique_property: str | None
) -> Sequence[tuple[Decimal, datetime, str, str | None]]:
    """(quantity, instant, event id, value of the unique property) of the window's rated records."""
    rows = session.execute(_FACTS, {**window.values(), "unique_property": unique_property or ""})
    return [tuple(row) for row in rows]


def billed(session: Session, window: UsageWindow, line_id: UUID) -> tuple[int, list[UUID]]:
    """What lines other than `line_id` charged for the window's period so far, and which."""
    minor, ids = session.execute(_BILLED, {**window.values(), "line_id": line_id}).one()
    return int(minor), list(ids)


def late_groups(session: Session, organization_id: UUID, subscription_id: UUID) -> list[LateGroup]:
    """Which items, meters and closed periods have late records waiting."""
    rows = session.execute(_LATE, {"organization_id": organization_id, "subscription_id": subscription_id})
    return [LateGroup(*row) for row in rows]
