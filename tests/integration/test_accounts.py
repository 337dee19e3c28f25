"""Every event that was answered 202 is in exactly one place, and the accounts say in which."""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from billing.errors import InvalidTerms, NotFound
from models.usage import UsageConflict
from tasks.accounts import batch_accounts, count, kept_accounts, product_totals, usage_accounts
from tasks.context import Context
from tests.integration.factories import (
    Quarter,
    TestDatabase,
    acme_with_a_quarter,
    fresh_database,
    offline_context,
)


@pytest.fixture(scope="module")
def database() -> Iterator[TestDatabase]:
    with fresh_database("accounts") as made:
        yield made


@pytest.fixture
def context(database: TestDatabase) -> Iterator[Context]:
    database.empty()
    with offline_context(database, wall=datetime(2026, 4, 3, tzinfo=UTC)) as made:
        yield made


@pytest.fixture
def quarter(context: Context, database: TestDatabase) -> Quarter:
    with Session(database.owner) as session, session.begin():
        return acme_with_a_quarter(session)


def test_a_batch_accounts_for_each_of_its_events(context: Context, quarter: Quarter) -> None:
    found = batch_accounts(context, quarter.product_id, quarter.batch_id)

    # e1 to e4 are on invoices, e5 waits for April's, e6 had no subscription, one came twice.
    assert (found.rated, found.waiting, found.quarantined, found.duplicate) == (4, 1, 1, 1)
    assert found.accepted == 7 and found.adds_up
    assert found.reasons == {"no subscription": 1}


def test_a_conflicting_copy_is_in_quarantine(
    context: Context, quarter: Quarter, database: TestDatabase
) -> None:
    database.break_by("UPDATE ops.usage_inbox SET duplicates = 0")
    with Session(database.owner) as session, session.begin():
        session.add(
            UsageConflict(
                organization_id=quarter.organization_id,
                product_id=quarter.product_id,
                event_id="e1",
                batch_id=quarter.batch_id,
                batch_index=6,
                event={"quantity": "61"},
            )
        )

    found = batch_accounts(context, quarter.product_id, quarter.batch_id)

    assert (found.quarantined, found.duplicate) == (2, 0)
    assert found.reasons == {"no subscription": 1, "the event id is known with other content": 1}
    assert found.adds_up


def test_what_is_not_opened_yet_waits(context: Context, quarter: Quarter, database: TestDatabase) -> None:
    # Opened for one of its organizations, when its worker died: 6 of 10 events have found their place.
    database.break_by("UPDATE ops.usage_inbox SET state = 'running', accepted = 10, duplicates = 0")

    found = batch_accounts(context, quarter.product_id, quarter.batch_id)

    assert (found.rated, found.waiting, found.quarantined, found.duplicate) == (4, 5, 1, 0)
    assert found.adds_up


def test_a_lost_event_does_not_add_up(context: Context, quarter: Quarter, database: TestDatabase) -> None:
    database.break_by("DELETE FROM tenant.usage_records WHERE event_id = 'e5'")

    assert not batch_accounts(context, quarter.product_id, quarter.batch_id).adds_up
    assert [day.adds_up for day in usage_accounts(context)] == [False]


def test_the_batch_of_another_product_is_not_found(context: Context, quarter: Quarter) -> None:
    with pytest.raises(NotFound):
        batch_accounts(context, uuid4(), quarter.batch_id)
    with pytest.raises(NotFound):
        batch_accounts(context, quarter.product_id, uuid4())


def test_days_and_products_sum_up_batches(context: Context, quarter: Quarter, database: TestDatabase) -> None:
    # 23:30 in New York is the next day in UTC.
    database.break_by(
        "INSERT INTO ops.usage_inbox (id, product_id, body_digest, organization_ids, events, accepted, "
        "duplicates, received_at, state, attempts) VALUES (gen_random_uuid(), :product, '', '{}', '[]', 500, "
        "0, '2026-04-01 23:30:00-04:00', 'queued', 0)",
        product=quarter.product_id,
    )

    days = usage_accounts(context)

    assert [(each.day, each.accepted, each.waiting) for each in days] == [
        (date(2026, 4, 1), 7, 1),
        (date(2026, 4, 2), 500, 500),
    ]
    (total,) = product_totals(days)
    assert (total.product_code, total.day) == ("flow", None)
    assert (total.accepted, total.rated, total.waiting, total.quarantined, total.duplicate) == (
        507,
        4,
        501,
        1,
        1,
    )
    assert total.adds_up


def counted(context: Context) -> list[tuple[date | None, int, int, bool]]:
    """What is kept after a tick: day, accepted, rated, whether it adds up."""
    with_everything = (date(2026, 3, 1), date(2026, 5, 1))
    found = kept_accounts(context, *with_everything)
    return [(each.day, each.accepted, each.rated, each.adds_up) for each in found]


def test_a_tick_keeps_the_counts_and_another_one_at_once_counts_nothing(
    context: Context, quarter: Quarter, database: TestDatabase
) -> None:
    count(context)
    assert counted(context) == [(date(2026, 4, 1), 7, 4, True)]
    with database.owner.connect() as connection:
        before = connection.execute(text("SELECT * FROM ops.usage_days")).all()

    # A moment later nothing is due, whatever happened; a day later everything is.
    database.break_by("DELETE FROM tenant.usage_records WHERE event_id = 'e1'")
    count(context)
    with database.owner.connect() as connection:
        assert connection.execute(text("SELECT * FROM ops.usage_days")).all() == before
    with offline_context(database, wall=datetime(2026, 4, 4, tzinfo=UTC)) as later:
        count(later)
        assert counted(later) == [(date(2026, 4, 1), 7, 3, False)]


def test_one_batch_that_lost_an_event_is_not_hidden_by_one_that_has_too_many(
    context: Context, quarter: Quarter, database: TestDatabase
) -> None:
    database.break_by(
        "INSERT INTO ops.usage_inbox (id, product_id, body_digest, organization_ids, events, accepted, "
        "duplicates, received_at, state, attempts) VALUES (gen_random_uuid(), :product, '', '{}', '[]', 1, "
        "2, '2026-04-01 23:30:00Z', 'done', 0)",
        product=quarter.product_id,
    )
    database.break_by("DELETE FROM tenant.usage_records WHERE event_id = 'e1'")

    count(context)

    (kept,) = kept_accounts(context, date(2026, 4, 1), date(2026, 4, 1))
    assert (kept.accepted, kept.placed, kept.unbalanced) == (8, 8, 2)
    assert not kept.adds_up


def test_a_batch_that_is_gone_is_missed(context: Context, quarter: Quarter, database: TestDatabase) -> None:
    count(context)
    database.break_by("DELETE FROM ops.usage_inbox")
    with offline_context(database, wall=datetime(2026, 4, 4, tzinfo=UTC)) as later:
        count(later)
        assert counted(later) == [(date(2026, 4, 1), 7, 0, False)]


def test_kept_days_are_asked_for_within_bounds(context: Context) -> None:
    assert kept_accounts(context) == []
    for first, last in ((date(2026, 1, 1), date(2026, 4, 3)), (date(2026, 4, 2), date(2026, 4, 1))):
        with pytest.raises(InvalidTerms):
            kept_accounts(context, first, last)


def test_no_usage_no_accounts(context: Context) -> None:
    assert usage_accounts(context) == []
    assert product_totals([]) == []
