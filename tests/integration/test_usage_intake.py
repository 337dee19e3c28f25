"""The door stores a batch once; the worker gives every event of it exactly one place."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from billing.errors import Conflict
from models.catalog import Meter
from tasks import accounts, usage
from tasks.context import Context
from tests.integration.factories import (
    Quarter,
    TestDatabase,
    acme_with_a_quarter,
    fresh_database,
    offline_context,
    organization,
)

NOW = datetime(2026, 4, 20, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def database() -> Iterator[TestDatabase]:
    with fresh_database("usage_intake") as made:
        yield made


@pytest.fixture
def acme(database: TestDatabase) -> Quarter:
    database.empty()
    with Session(database.owner) as session, session.begin():
        return acme_with_a_quarter(session)


@pytest.fixture
def context(database: TestDatabase) -> Iterator[Context]:
    with offline_context(database, wall=NOW) as made:
        yield made


def event(event_id: str, quantity: int = 1, on: datetime = NOW, **fields: Any) -> dict[str, object]:
    return {
        "event_id": event_id,
        "organization": "acme",
        "product": "flow",
        "metric": "runs",
        "quantity": str(quantity),
        "timestamp": on.isoformat(),
        **fields,
    }


def posted(context: Context, acme: Quarter, *events: dict[str, object], key: str | None = None) -> UUID:
    digest = str(hash(str(events)))
    return usage.accept_batch(context, acme.product_id, events, idempotency_key=key, digest=digest).batch_id


def accounted(context: Context, acme: Quarter, batch_id: UUID) -> tuple[int, int, int, int, int]:
    found = accounts.batch_accounts(context, acme.product_id, batch_id)
    return found.accepted, found.rated, found.waiting, found.quarantined, found.duplicate


def test_an_unopened_batch_waits_and_an_opened_one_adds_up(context: Context, acme: Quarter) -> None:
    batch_id = posted(context, acme, event("a"), event("b"))
    assert accounted(context, acme, batch_id) == (2, 0, 2, 0, 0)

    usage.drain(context)

    assert accounted(context, acme, batch_id) == (2, 0, 2, 0, 0)
    assert stored(context, acme, "a")["state"] == "waiting"


def test_a_repeat_within_a_batch_and_across_batches_is_a_duplicate(context: Context, acme: Quarter) -> None:
    first = posted(context, acme, event("a"), event("a"), event("b"))
    second = posted(context, acme, event("b"))
    usage.drain(context)

    assert accounted(context, acme, first) == (3, 0, 2, 0, 1)
    assert accounted(context, acme, second) == (1, 0, 0, 0, 1)


def test_another_content_under_a_known_id_is_quarantined_and_the_first_stays(
    context: Context, acme: Quarter
) -> None:
    posted(context, acme, event("a", 1))
    other = posted(context, acme, event("a", 2))
    usage.drain(context)

    assert accounted(context, acme, other) == (1, 0, 0, 1, 0)
    assert stored(context, acme, "a")["quantity"] == 1


Changes = tuple[dict[str, Any], ...]
SAME: Changes = (
    {"quantity": "1.0"},
    {"timestamp": "2026-04-20T14:00:00.000+02:00"},
    {"properties": {"region": "eu", "paid": True}},
)
OTHER: Changes = (
    {"quantity": "1.000000000001"},
    {"timestamp": "2026-04-20T12:00:00.000001Z"},
    {"metric": "walks"},
    {"properties": {"paid": 1, "region": "eu"}},
    {"properties": {}},
)


@pytest.mark.parametrize(
    ("change", "duplicate"), [*((change, 1) for change in SAME), *((change, 0) for change in OTHER)], ids=str
)
def test_the_same_content_is_a_duplicate_however_it_is_written_and_any_other_is_none(
    context: Context, acme: Quarter, database: TestDatabase, change: dict[str, Any], duplicate: int
) -> None:
    with Session(database.owner) as session, session.begin():
        session.add(
            Meter(product_id=acme.product_id, code="walks", name="Walks", unit="walk", aggregation="sum")
        )
    said = event("a", properties={"paid": True, "region": "eu"})
    posted(context, acme, said)
    again = posted(context, acme, said | change)
    usage.drain(context)

    assert accounted(context, acme, again) == (1, 0, 0, 1 - duplicate, duplicate)


def test_the_events_of_many_organizations_in_one_batch_find_each_its_own_place(
    context: Context, acme: Quarter, database: TestDatabase
) -> None:
    with Session(database.owner) as session, session.begin():
        organization(session, "globex")  # it holds nothing that could bill
    batch_id = posted(context, acme, event("a"), event("a", organization="globex"), event("b"))
    again = posted(context, acme, event("a", 2), event("a", organization="globex"))
    usage.drain(context)

    assert accounted(context, acme, batch_id) == (3, 0, 2, 1, 0)
    assert accounted(context, acme, again) == (2, 0, 0, 1, 1)
    assert stored(context, acme, "a")["state"] == "waiting"


@pytest.mark.parametrize(
    "deed",
    [
        "SELECT FROM tenant.invoices",
        "UPDATE tenant.usage_records SET quantity = 0",
        "DELETE FROM tenant.usage_records",
        "UPDATE tenant.product_subscriptions SET usage_closed_until_at = now()",
        "SELECT FROM ops.api_keys",
        "SELECT FROM catalog.organizations",
    ],
)
def test_who_opens_batches_can_do_little_else(context: Context, acme: Quarter, deed: str) -> None:
    refused = pytest.raises(DBAPIError, match=r"permission denied|row-level security")
    with refused, context.database.intake() as session:
        session.execute(text(deed))


def test_the_role_of_the_intake_ends_with_its_transaction(context: Context, acme: Quarter) -> None:
    posted(context, acme, event("a"))
    usage.drain(context)
    for _ in range(3):
        with context.database.system() as session:
            assert session.execute(text("SELECT count(*) FROM tenant.usage_records")).scalar_one() == 0


def test_an_event_of_a_closed_period_is_late_and_one_on_the_boundary_is_not(
    context: Context, acme: Quarter
) -> None:
    april = datetime(2026, 4, 1, tzinfo=UTC)  # March is invoiced, April is running
    posted(context, acme, event("late", on=april - timedelta(microseconds=1)), event("in-time", on=april))
    usage.drain(context)

    assert stored(context, acme, "late")["late"] is True
    assert stored(context, acme, "in-time")["late"] is False


@pytest.mark.parametrize(("closed_until", "own_invoices"), [("2026-04-01", 0), ("2026-04-15", 1)])
def test_late_usage_after_an_end_gets_an_invoice_of_its_own_only_when_no_other_comes(
    context: Context, acme: Quarter, database: TestDatabase, closed_until: str, own_invoices: int
) -> None:
    """Ended on 15 April: until the final invoice has closed that period, it is the one to take late usage."""
    with Session(database.owner) as session, session.begin():
        session.execute(
            text(
                "UPDATE tenant.product_subscriptions "
                "SET ended_at = '2026-04-15Z', usage_closed_until_at = :until"
            ),
            {"until": datetime.fromisoformat(closed_until).replace(tzinfo=UTC)},
        )
    posted(context, acme, event("late", on=datetime(2026, 3, 20, tzinfo=UTC)))
    usage.drain(context)

    assert stored(context, acme, "late")["late"] is True
    with context.auditor.system() as session:
        jobs = session.execute(text("SELECT count(*) FROM ops.jobs WHERE kind = 'invoicing.bill_late_usage'"))
        assert jobs.scalar_one() == own_invoices


def test_an_event_that_no_subscription_bills_is_quarantined_with_its_reason(
    context: Context, acme: Quarter
) -> None:
    early = posted(context, acme, event("early", on=datetime(2025, 12, 31, 23, 59, tzinfo=UTC)))
    usage.drain(context)

    assert accounted(context, acme, early) == (1, 0, 0, 1, 0)
    assert stored(context, acme, "early")["reason"] == "no_subscription"


def test_opening_a_batch_again_changes_nothing(
    context: Context, acme: Quarter, database: TestDatabase
) -> None:
    batch_id = posted(context, acme, event("a"), event("a"), event("b", 2))
    usage.drain(context)
    before = accounted(context, acme, batch_id)

    # A worker that died after its lease but before its commit: the row is claimed by another.
    database.break_by(
        "UPDATE ops.usage_inbox SET state = 'queued', duplicates = 0 WHERE id = :id", id=batch_id
    )
    usage.drain(context)

    assert accounted(context, acme, batch_id) == before


def test_a_batch_that_cannot_be_opened_dies_alone_after_five_attempts(
    context: Context, acme: Quarter, database: TestDatabase
) -> None:
    bad = posted(context, acme, event("bad"))
    good = posted(context, acme, event("good"))
    # What the door cannot let through, so that the worker meets it: a quantity that is no number.
    database.break_by(
        "UPDATE ops.usage_inbox SET events = jsonb_set(events::jsonb, '{0,quantity}', '\"x\"')::json "
        "WHERE id = :id",
        id=bad,
    )
    for _ in range(5):
        usage.drain(context)
        database.break_by("UPDATE ops.usage_inbox SET not_before_at = now() WHERE state = 'queued'")

    with context.database.system() as session:
        rows = session.execute(text("SELECT id, state FROM ops.usage_inbox"))
        states = {row.id: row.state for row in rows}
    assert (states[bad], states[good]) == ("dead", "done")


def test_the_door_refuses_a_whole_post_and_names_each_field(context: Context, acme: Quarter) -> None:
    bad = [
        event("ok"),
        event("x", organization="nobody"),
        event("y", metric="walks"),
        event("z", on=NOW + timedelta(minutes=6)),
    ]
    with pytest.raises(usage.RefusedUsage) as refusal:
        usage.accept_batch(context, acme.product_id, bad, idempotency_key=None, digest="d")

    assert [(error.index, error.field) for error in refusal.value.errors] == [
        (1, "organization"),
        (2, "metric"),
        (3, "timestamp"),
    ]
    with context.database.system() as session:
        kept = session.execute(
            text("SELECT count(*) FROM ops.usage_inbox WHERE state <> 'done'")
        ).scalar_one()
    assert kept == 0


def test_a_repeated_idempotency_key_finds_its_batch_and_refuses_another_body(
    context: Context, acme: Quarter
) -> None:
    first = posted(context, acme, event("a"), key="k")

    assert posted(context, acme, event("a"), key="k") == first
    with pytest.raises(Conflict):
        posted(context, acme, event("b"), key="k")


def stored(context: Context, acme: Quarter, event_id: str) -> dict[str, Any]:
    with context.database.tenant(acme.organization_id) as session:
        row = session.execute(
            text("SELECT * FROM tenant.usage_records WHERE event_id = :event_id"), {"event_id": event_id}
        ).one()
    return dict(row._mapping)
