"""From inbox rows to usage records, inside Postgres: the events never travel to a worker and back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from models.database import Connection


@dataclass(frozen=True, slots=True)
class Addressee:
    """An organization as usage events name it, with its test clock's now (None: the wall's)."""

    id: UUID
    slug: str
    external_id: str | None
    frozen_at: datetime | None


# One arm for each name, each with an index: an OR over three columns is planned worse.
_ADDRESSEES = text(
    """
    SELECT o.id, o.slug, o.external_id, c.frozen_at
    FROM catalog.organizations o LEFT JOIN ops.test_clocks c ON c.id = o.test_clock_id
    WHERE o.id IN (
        SELECT id FROM catalog.organizations WHERE slug = ANY(:references)
        UNION ALL SELECT id FROM catalog.organizations WHERE external_id = ANY(:references)
        UNION ALL SELECT id FROM catalog.organizations WHERE id = ANY(CAST(:ids AS uuid[])))
    """
)


def addressees(connection: Connection, references: Sequence[str]) -> dict[str, Addressee]:
    """Reference (id, slug or external id) -> organization, for those that exist."""
    ids = [UUID(reference) for reference in references if _is_uuid(reference)]
    rows = connection.execute(_ADDRESSEES, {"references": list(references), "ids": ids})
    found: dict[str, Addressee] = {}
    for addressee in (Addressee(*row) for row in rows):
        if addressee.external_id is not None:
            found.setdefault(addressee.external_id, addressee)
        found[addressee.slug] = found[str(addressee.id)] = addressee
    return found


def _is_uuid(text_: str) -> bool:
    try:
        UUID(text_)
    except ValueError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class MeteredProduct:
    """What the events of a product's key may name."""

    code: str
    meters: Mapping[str, UUID]


_METERED = text(
    """
    SELECT p.code, m.code, m.id FROM catalog.products p LEFT JOIN catalog.meters m ON m.product_id = p.id
    WHERE p.id = :product_id
    """
)


def metered_product(connection: Connection, product_id: UUID) -> MeteredProduct:
    """A product's code, and its meters by metric name."""
    rows = connection.execute(_METERED, {"product_id": product_id}).all()
    return MeteredProduct(rows[0][0], {row[1]: row[2] for row in rows if row[1] is not None})


_EVENTS = """
    SELECT b.id AS batch_id, b.product_id, b.received_at, e.*
    FROM ops.usage_inbox b,
         jsonb_to_recordset(b.events) AS e(
             index integer, organization_id uuid, event_id text, meter_id uuid, quantity numeric,
             occurred_at timestamptz, properties jsonb, digest text)
    WHERE b.id = ANY(:batch_ids) AND e.organization_id = :organization_id
"""

# Locked while the records are written: a period that closes meanwhile waits, or is seen as closed.
_HOLD_SUBSCRIPTIONS = text(
    "SELECT id FROM tenant.product_subscriptions WHERE organization_id = :organization_id "
    "ORDER BY id FOR SHARE"
)

# The item that bills an event: of the event's product, live at the event's time, and with a price
# for its meter.
_ATTRIBUTED = """
    SELECT i.subscription_id, i.id AS item_id, s.usage_closed_until_at
    FROM tenant.subscription_items i
    JOIN tenant.product_subscriptions s ON s.organization_id = i.organization_id AND s.id = i.subscription_id
    JOIN catalog.plan_charges c ON c.plan_id = i.plan_id AND c.meter_id = {event}.meter_id
         AND c.currency = s.currency
    WHERE i.organization_id = {event}.organization_id AND i.product_id = {event}.product_id
      AND s.stripe_subscription_id IS NOT NULL
      AND i.started_at <= {event}.occurred_at AND ({event}.occurred_at < i.ended_at OR i.ended_at IS NULL)
    ORDER BY i.started_at DESC, i.id LIMIT 1
"""

# Sorted by event id, so that two workers with overlapping batches lock in the same sequence.
_INSERT = text(
    f"""
    INSERT INTO tenant.usage_records (
        organization_id, product_id, event_id, batch_id, batch_index, meter_id, quantity, occurred_at,
        properties, digest, subscription_id, item_id, late, state, reason, received_at)
    SELECT e.organization_id, e.product_id, e.event_id, e.batch_id, e.index, e.meter_id, e.quantity,
           e.occurred_at, e.properties, e.digest, a.subscription_id, a.item_id,
           coalesce(e.occurred_at < a.usage_closed_until_at, false),
           CASE WHEN a.item_id IS NULL THEN 'quarantined' ELSE 'waiting' END,
           CASE WHEN a.item_id IS NULL THEN 'no_subscription' END, e.received_at
    FROM ({_EVENTS}) e LEFT JOIN LATERAL ({_ATTRIBUTED.format(event="e")}) a ON true
    ORDER BY e.event_id, e.batch_id, e.index
    ON CONFLICT DO NOTHING
    """
)

# Lateral with a limit: one look by primary key for each event, whatever the planner believes of the
# table. As a plain join it took the records for the outer side while it had no statistics of them,
# and read every event of the batch once for each record of the organization.
_REPEATED = f"""
    FROM ({_EVENTS}) e
    CROSS JOIN LATERAL (
        SELECT k.batch_id, k.batch_index, k.digest FROM tenant.usage_records k
        WHERE k.organization_id = e.organization_id AND k.product_id = e.product_id
          AND k.event_id = e.event_id
        LIMIT 1
    ) r
    WHERE (r.batch_id, r.batch_index) <> (e.batch_id, e.index)
"""

_COUNT_DUPLICATES = text(
    f"""
    UPDATE ops.usage_inbox SET duplicates = duplicates + d.count
    FROM (SELECT e.batch_id, count(*) {_REPEATED} AND r.digest = e.digest GROUP BY 1) d
    WHERE id = d.batch_id
    """
)

_KEEP_CONFLICTS = text(
    f"""
    INSERT INTO tenant.usage_conflicts (
        organization_id, id, product_id, event_id, batch_id, batch_index, event, received_at)
    SELECT e.organization_id, gen_random_uuid(), e.product_id, e.event_id, e.batch_id, e.index,
           jsonb_build_object('meter_id', e.meter_id, 'quantity', e.quantity::text,
                              'occurred_at', e.occurred_at, 'properties', e.properties, 'digest', e.digest),
           e.received_at
    {_REPEATED} AND r.digest <> e.digest
    """
)


def open_batches(session: Session, organization_id: UUID, batch_ids: Sequence[UUID]) -> None:
    """Turn one organization's events of some claimed batches into records, duplicates and conflicts.

    Runs inside the organization; the transaction that calls it also marks the batches handled.
    """
    values: dict[str, Any] = {"organization_id": organization_id, "batch_ids": list(batch_ids)}
    session.execute(_HOLD_SUBSCRIPTIONS, values)
    for statement in (_INSERT, _COUNT_DUPLICATES, _KEEP_CONFLICTS):
        session.execute(statement, values)


_REDRIVE = text(
    f"""
    UPDATE tenant.usage_records q
    SET state = 'waiting', reason = NULL, subscription_id = a.subscription_id, item_id = a.item_id,
        late = q.occurred_at < a.usage_closed_until_at
    FROM tenant.usage_records e, LATERAL ({_ATTRIBUTED.format(event="e")}) a
    WHERE e.organization_id = :organization_id AND e.product_id = :product_id AND e.state = 'quarantined'
      AND q.organization_id = e.organization_id AND q.product_id = e.product_id AND q.event_id = e.event_id
    RETURNING q.event_id
    """
)


def redrive(session: Session, organization_id: UUID, product_id: UUID) -> int:
    """Attribute quarantined records for which there is a subscription now. Returns how many."""
    values = {"organization_id": organization_id, "product_id": product_id}
    session.execute(_HOLD_SUBSCRIPTIONS, values)
    return len(session.execute(_REDRIVE, values).all())


# Closed up to its end: before that the invoice of its last period is still to come, and takes them.
_LATE_AFTER_END = text(
    """
    SELECT DISTINCT s.id FROM tenant.product_subscriptions s
    JOIN tenant.usage_records r ON r.organization_id = s.organization_id AND r.subscription_id = s.id
    WHERE s.organization_id = :organization_id AND s.ended_at <= s.usage_closed_until_at
      AND r.late AND r.state = 'waiting'
    """
)


def ended_with_late_usage(session: Session, organization_id: UUID) -> list[UUID]:
    """Subscriptions that will have no further invoice, yet have usage that none has billed."""
    return list(session.execute(_LATE_AFTER_END, {"organization_id": organization_id}).scalars())
