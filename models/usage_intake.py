"""From inbox rows to usage records, inside Postgres: the events never travel to a worker and back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CursorResult, text
from sqlalchemy.orm import Session

from models import usage_facts
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


# Statements over many batches: planned for the lists that they get, since a plan for lists of any
# length takes events and subscriptions to be a handful, and compares each with each.
_PLAN_EACH = text("SET LOCAL plan_cache_mode = force_custom_plan")

_EVENTS = """
    SELECT b.id AS batch_id, b.product_id, b.received_at, e.*
    FROM ops.usage_inbox b,
         json_to_recordset(b.events) AS e(
             index integer, organization_id uuid, event_id text, meter_id uuid, quantity numeric,
             occurred_at timestamptz, properties jsonb)
    WHERE b.id = ANY(:batch_ids)
"""

# Locked while the records are written: a period that closes meanwhile waits, or is seen as closed.
_HOLD_SUBSCRIPTIONS = text(
    """
    SELECT count(*) FROM (
        SELECT FROM tenant.product_subscriptions WHERE organization_id = ANY(:organization_ids)
        ORDER BY organization_id, id FOR SHARE
    ) held
    """
)

# The items that could bill an event of these organizations, each with the meters that it has a price for.
_BILLING = """
    SELECT i.organization_id, i.product_id, c.meter_id, i.started_at, i.ended_at,
           i.subscription_id, i.id AS item_id, s.usage_closed_until_at
    FROM tenant.subscription_items i
    JOIN tenant.product_subscriptions s ON s.organization_id = i.organization_id AND s.id = i.subscription_id
    JOIN catalog.plan_charges c ON c.plan_id = i.plan_id AND c.currency = s.currency
    WHERE i.organization_id = ANY(:organization_ids) AND s.stripe_subscription_id IS NOT NULL
"""

# An event is billed by the item of its product that is live at its time; of several by the newest.
_BILLS = """
    {billing}.organization_id = {event}.organization_id AND {billing}.product_id = {event}.product_id
    AND {billing}.meter_id = {event}.meter_id AND {billing}.started_at <= {event}.occurred_at
    AND ({event}.occurred_at < {billing}.ended_at OR {billing}.ended_at IS NULL)
"""
_NEWEST_FIRST = "a.started_at DESC, a.item_id"

# Why nothing bills an event: nobody holds its product at its time, or the plan that is held has no
# price for its meter in the subscription's currency.
_REASON = """
    CASE WHEN EXISTS (
        SELECT FROM tenant.subscription_items i
        JOIN tenant.product_subscriptions s
             ON s.organization_id = i.organization_id AND s.id = i.subscription_id
        WHERE i.organization_id = {event}.organization_id AND i.product_id = {event}.product_id
          AND s.stripe_subscription_id IS NOT NULL AND i.started_at <= {event}.occurred_at
          AND ({event}.occurred_at < i.ended_at OR i.ended_at IS NULL)
    ) THEN 'no_charge' ELSE 'no_subscription' END
"""

# Sorted by key, so that two workers with overlapping batches lock in the same sequence.
_INSERT = text(
    f"""
    WITH events AS MATERIALIZED ({_EVENTS}), billing AS MATERIALIZED ({_BILLING}), attributed AS (
        SELECT DISTINCT ON (e.batch_id, e.index)
               e.*, a.subscription_id, a.item_id, a.usage_closed_until_at
        FROM events e LEFT JOIN billing a ON {_BILLS.format(billing="a", event="e")}
        ORDER BY e.batch_id, e.index, {_NEWEST_FIRST}
    )
    INSERT INTO tenant.usage_records (
        organization_id, product_id, event_id, batch_id, batch_index, meter_id, quantity, occurred_at,
        properties, subscription_id, item_id, late, state, reason, received_at)
    SELECT organization_id, product_id, event_id, batch_id, index, meter_id, quantity, occurred_at,
           properties, subscription_id, item_id, coalesce(occurred_at < usage_closed_until_at, false),
           CASE WHEN item_id IS NULL THEN 'quarantined' ELSE 'waiting' END,
           CASE WHEN item_id IS NULL THEN {_REASON.format(event="e")} END, received_at
    FROM attributed e
    ORDER BY organization_id, product_id, event_id, batch_id, index
    ON CONFLICT DO NOTHING
    """
)

# Lateral with a limit: one look by primary key for each event, whatever the planner believes of the
# table. As a plain join it took the records for the outer side while it had no statistics of them,
# and read every event of the batch once for each record of the organization.
_SORT_OUT_REPEATS = text(
    f"""
    WITH repeated AS MATERIALIZED (
        SELECT e.*, (r.meter_id, r.quantity, r.occurred_at) = (e.meter_id, e.quantity, e.occurred_at)
                    AND r.properties IS NOT DISTINCT FROM e.properties AS is_same
        FROM ({_EVENTS}) e
        CROSS JOIN LATERAL (
            SELECT k.batch_id, k.batch_index, k.meter_id, k.quantity, k.occurred_at, k.properties
            FROM tenant.usage_records k
            WHERE k.organization_id = e.organization_id AND k.product_id = e.product_id
              AND k.event_id = e.event_id
            LIMIT 1
        ) r
        WHERE (r.batch_id, r.batch_index) <> (e.batch_id, e.index)
    ), counted AS (
        UPDATE ops.usage_inbox SET duplicates = duplicates + d.count
        FROM (SELECT batch_id, count(*) FROM repeated WHERE is_same GROUP BY 1) d
        WHERE id = d.batch_id
    )
    INSERT INTO tenant.usage_conflicts (
        organization_id, id, product_id, event_id, batch_id, batch_index, event, received_at)
    SELECT organization_id, gen_random_uuid(), product_id, event_id, batch_id, index,
           jsonb_build_object('meter_id', meter_id, 'quantity', quantity::text, 'occurred_at', occurred_at,
                              'properties', properties),
           received_at
    FROM repeated WHERE NOT is_same
    """
)


def hold_subscriptions(session: Session, organization_ids: Sequence[UUID]) -> None:
    """Until this transaction ends no period of these organizations closes."""
    session.execute(_HOLD_SUBSCRIPTIONS, {"organization_ids": list(organization_ids)})


def open_batches(
    session: Session, organization_ids: Sequence[UUID], batch_ids: Sequence[UUID], events: int
) -> None:
    """Turn the events of some claimed batches into records, duplicates and conflicts.

    Args: a session of `Database.intake`; the organizations that the batches name; how many events they
    hold. The transaction that calls it also marks the batches handled.
    """
    values: dict[str, Any] = {"organization_ids": list(organization_ids), "batch_ids": list(batch_ids)}
    session.execute(_PLAN_EACH)
    hold_subscriptions(session, organization_ids)
    inserted = session.execute(_INSERT, values)
    assert isinstance(inserted, CursorResult)
    if inserted.rowcount < events:
        session.execute(_SORT_OUT_REPEATS, values)


_REDRIVE = text(
    f"""
    UPDATE tenant.usage_records q
    SET state = 'waiting', reason = NULL, subscription_id = a.subscription_id, item_id = a.item_id,
        late = q.occurred_at < a.usage_closed_until_at
    FROM tenant.usage_records e, LATERAL (
        SELECT * FROM ({_BILLING}) a WHERE {_BILLS.format(billing="a", event="e")}
        ORDER BY {_NEWEST_FIRST} LIMIT 1
    ) a
    WHERE e.organization_id = :organization_id AND e.product_id = :product_id AND e.state = 'quarantined'
      AND q.organization_id = e.organization_id AND q.product_id = e.product_id AND q.event_id = e.event_id
    RETURNING q.event_id
    """
)


_REASON_AGAIN = text(
    f"""
    UPDATE tenant.usage_records q SET reason = e.reason
    FROM (
        SELECT e.organization_id, e.product_id, e.event_id, {_REASON.format(event="e")} AS reason
        FROM tenant.usage_records e
        WHERE e.organization_id = :organization_id AND e.product_id = :product_id AND e.state = 'quarantined'
    ) e
    WHERE q.organization_id = e.organization_id AND q.product_id = e.product_id AND q.event_id = e.event_id
      AND q.state = 'quarantined' AND q.reason <> e.reason
    """
)


def redrive(session: Session, organization_id: UUID, product_id: UUID) -> int:
    """Attribute quarantined records that something bills now. Returns how many.

    For the others the reason is found anew: it may be another one by now.
    """
    values = {
        "organization_id": organization_id,
        "product_id": product_id,
        "organization_ids": [organization_id],
    }
    hold_subscriptions(session, [organization_id])
    found = len(session.execute(_REDRIVE, values).all())
    session.execute(_REASON_AGAIN, values)
    return found


# Closed up to its end: before that the invoice of its last period is still to come, and takes them.
_LATE_AFTER_END = text(
    """
    SELECT s.organization_id, s.id FROM tenant.product_subscriptions s
    WHERE s.organization_id = ANY(:organization_ids) AND s.ended_at <= s.usage_closed_until_at
      AND EXISTS (
          SELECT FROM tenant.usage_records r
          WHERE r.organization_id = s.organization_id AND r.subscription_id = s.id
            AND r.late AND r.state = 'waiting')
    """
)


def ended_with_late_usage(session: Session, organization_ids: Sequence[UUID]) -> list[tuple[UUID, UUID]]:
    """(organization, subscription) that will have no further invoice, yet has usage that none has billed."""
    rows = session.execute(_LATE_AFTER_END, {"organization_ids": list(organization_ids)})
    return [(row.organization_id, row.id) for row in rows]


_CORRECTED_AFTER_END = text(
    f"""
    SELECT DISTINCT s.id FROM tenant.usage_corrections k {usage_facts.RECORD}
    JOIN tenant.product_subscriptions s ON s.organization_id = r.organization_id AND s.id = r.subscription_id
    WHERE k.organization_id = :organization_id AND k.invoice_line_id IS NULL AND r.state = 'rated'
      AND s.ended_at <= s.usage_closed_until_at
    """
)


def ended_with_late_corrections(session: Session, organization_id: UUID) -> list[UUID]:
    """Subscriptions that will have no further invoice, yet have corrections that none has counted."""
    return list(session.execute(_CORRECTED_AFTER_END, {"organization_id": organization_id}).scalars())
