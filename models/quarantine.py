"""Usage that cannot be billed as it came: without a place to be billed, or in conflict with what is known.

Read as the auditor; what sets it free is in `usage_intake`.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session


@dataclass(frozen=True, slots=True)
class QuarantineGroup:
    """Quarantined events of one organization and meter, for one reason."""

    organization_id: UUID
    organization: str
    product: str
    metric: str
    reason: str
    events: int
    first_at: datetime
    last_at: datetime


@dataclass(frozen=True, slots=True)
class Content:
    """What an event says."""

    metric: str | None
    quantity: Decimal
    occurred_at: datetime
    properties: dict[str, Any]
    batch_id: UUID


@dataclass(frozen=True, slots=True)
class ConflictRow:
    """One event id with two contents; `settled` once the event was corrected after the second came."""

    id: UUID
    organization_id: UUID
    organization: str
    product: str
    event_id: str
    received_at: datetime
    kept: Content
    refused: Content
    settled: bool


_QUARANTINE = text(
    """
    SELECT o.id, o.slug, p.code, m.code, q.reason, q.events, q.first_at, q.last_at
    FROM (
        SELECT organization_id, product_id, meter_id, reason, count(*) AS events,
               min(occurred_at) AS first_at, max(occurred_at) AS last_at
        FROM tenant.usage_records
        WHERE state = 'quarantined'
          AND (CAST(:organization_id AS uuid) IS NULL OR organization_id = :organization_id)
          AND (CAST(:product_id AS uuid) IS NULL OR product_id = :product_id)
          AND (CAST(:reason AS text) IS NULL OR reason = :reason)
        GROUP BY 1, 2, 3, 4
    ) q
    JOIN catalog.organizations o ON o.id = q.organization_id
    JOIN catalog.products p ON p.id = q.product_id
    JOIN catalog.meters m ON m.id = q.meter_id
    ORDER BY q.events DESC, o.slug, p.code, m.code, q.reason
    """
)


def groups(
    session: Session, *, organization_id: UUID | None, product_id: UUID | None, reason: str | None
) -> list[QuarantineGroup]:
    """Who has how much in quarantine, and why; the most first."""
    values = {"organization_id": organization_id, "product_id": product_id, "reason": reason}
    return [QuarantineGroup(*row) for row in session.execute(_QUARANTINE, values)]


_CONFLICTS = text(
    """
    SELECT c.id, c.organization_id, o.slug AS organization, p.code AS product, c.event_id, c.received_at,
           c.event, c.batch_id, n.code AS refused_metric, r.quantity, r.occurred_at, r.properties,
           r.batch_id AS kept_batch_id, m.code AS kept_metric,
           EXISTS (
               SELECT FROM tenant.usage_corrections k
               WHERE k.organization_id = c.organization_id AND k.product_id = c.product_id
                 AND k.event_id = c.event_id AND k.received_at > c.received_at
           ) AS settled
    FROM tenant.usage_conflicts c
    JOIN tenant.usage_records r ON r.organization_id = c.organization_id AND r.product_id = c.product_id
         AND r.event_id = c.event_id
    JOIN catalog.organizations o ON o.id = c.organization_id
    JOIN catalog.products p ON p.id = c.product_id
    JOIN catalog.meters m ON m.id = r.meter_id
    LEFT JOIN catalog.meters n ON n.id = CAST(c.event ->> 'meter_id' AS uuid)
    WHERE (CAST(:organization_id AS uuid) IS NULL OR c.organization_id = :organization_id)
      AND (CAST(:product_id AS uuid) IS NULL OR c.product_id = :product_id)
      AND (CAST(:before AS uuid) IS NULL OR (c.received_at, c.id) < (
          SELECT b.received_at, b.id FROM tenant.usage_conflicts b
          WHERE b.id = :before AND (CAST(:product_id AS uuid) IS NULL OR b.product_id = :product_id)))
    ORDER BY c.received_at DESC, c.id DESC LIMIT :most
    """
)


def conflicts(
    session: Session,
    *,
    organization_id: UUID | None,
    product_id: UUID | None,
    before: UUID | None,
    most: int,
) -> list[ConflictRow]:
    """Conflicts with both contents, the newest first; those older than the one called `before`."""
    rows = session.execute(
        _CONFLICTS,
        {"organization_id": organization_id, "product_id": product_id, "before": before, "most": most},
    )
    return [
        ConflictRow(
            id=row.id,
            organization_id=row.organization_id,
            organization=row.organization,
            product=row.product,
            event_id=row.event_id,
            received_at=row.received_at,
            kept=Content(
                row.kept_metric, row.quantity, row.occurred_at, row.properties or {}, row.kept_batch_id
            ),
            refused=Content(
                row.refused_metric,
                Decimal(row.event["quantity"]),
                datetime.fromisoformat(row.event["occurred_at"]),
                row.event["properties"] or {},
                row.batch_id,
            ),
            settled=row.settled,
        )
        for row in rows
    ]


def waiting(session: Session) -> list[tuple[UUID, UUID]]:
    """(organization, product) of everything in quarantine."""
    rows = session.execute(
        text(
            "SELECT DISTINCT organization_id, product_id FROM tenant.usage_records "
            "WHERE state = 'quarantined' ORDER BY 1, 2"
        )
    )
    return [(row.organization_id, row.product_id) for row in rows]
