"""The usage door in steady state: one statement a POST, and a dying connection loses and doubles nothing."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from models import database as database_module
from models import usage_inbox
from models.base import new_id
from models.database import Connection
from models.organizations import TestClock
from models.usage_inbox import NewBatch, StoredBatch
from tasks import usage
from tasks.context import Context
from tests.integration.factories import (
    Quarter,
    TestDatabase,
    acme_with_a_quarter,
    catalog_rows,
    fresh_database,
    offline_context,
    organization,
)

NOW = datetime(2026, 4, 20, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def database() -> Iterator[TestDatabase]:
    with fresh_database("usage_door") as made:
        yield made


@pytest.fixture(scope="module")
def acme(database: TestDatabase) -> Quarter:
    with Session(database.owner) as session, session.begin():
        return acme_with_a_quarter(session)


@pytest.fixture
def context(database: TestDatabase, acme: Quarter) -> Iterator[Context]:
    with offline_context(database, wall=NOW) as made:
        yield made


def posted(context: Context, acme: Quarter, event_id: str, **fields: Any) -> UUID:
    one = {
        "event_id": event_id,
        "organization": "acme",
        "product": "flow",
        "metric": "runs",
        "timestamp": NOW.isoformat(),
        **fields,
    }
    stored = usage.accept_batch(context, acme.product_id, [one], idempotency_key=None, digest=event_id)
    return stored.batch_id


def rows(database: TestDatabase, digest: str) -> int:
    with database.owner.connect() as connection:
        found = connection.execute(
            text("SELECT count(*) FROM ops.usage_inbox WHERE body_digest = :digest"), {"digest": digest}
        )
        return int(found.scalar_one())


def cut_all(database: TestDatabase) -> int:
    """End every connection of the app, as a restart of Postgres does."""
    with database.owner.connect() as connection:
        cut = connection.execute(
            text(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                "WHERE usename = 'dunlin_app' AND datname = current_database()"
            )
        )
        return len(cut.all())


def test_a_post_of_known_names_is_one_statement(context: Context, acme: Quarter) -> None:
    posted(context, acme, "warm")
    asked: list[str] = []

    def remember(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        asked.append(statement.split(maxsplit=1)[0])

    event.listen(context.database.single, "before_cursor_execute", remember)
    posted(context, acme, "known")
    event.remove(context.database.single, "before_cursor_execute", remember)
    assert asked == ["INSERT"]


def test_a_connection_that_died_is_not_noticed_outside(
    context: Context, acme: Quarter, database: TestDatabase
) -> None:
    posted(context, acme, "before")
    assert cut_all(database) > 0
    posted(context, acme, "after")
    assert rows(database, "after") == 1


def test_an_answer_that_was_lost_leaves_one_row(
    context: Context, acme: Quarter, database: TestDatabase
) -> None:
    batch = NewBatch(
        id=new_id(),
        product_id=acme.product_id,
        idempotency_key=None,
        body_digest="lost",
        organization_ids=[acme.organization_id],
        events="[]",
        accepted=0,
    )
    tries = 0

    def store(connection: Connection) -> StoredBatch:
        nonlocal tries
        tries += 1
        (stored,) = usage_inbox.store_batches(connection, [batch])
        if tries == 1:
            cut_all(database)
            connection.execute(text("SELECT 1"))
        return stored

    assert context.database.at_once(store).id == batch.id
    assert (tries, rows(database, "lost")) == (2, 1)


def test_a_second_death_is_told(context: Context, database: TestDatabase) -> None:
    def never(connection: Connection) -> None:
        cut_all(database)
        connection.execute(text("SELECT 1"))

    with pytest.raises(OperationalError):
        context.database.at_once(never)


def test_a_connection_that_rested_is_asked_before_it_is_used(
    context: Context, database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    with context.database.system() as session:
        session.execute(text("SELECT 1"))
    monkeypatch.setattr(database_module, "_TRUSTED_S", 0)
    assert cut_all(database) > 0
    with context.database.system() as session:
        assert session.execute(text("SELECT 1")).scalar_one() == 1


def test_a_test_clock_is_read_for_every_post(context: Context, acme: Quarter, database: TestDatabase) -> None:
    with Session(database.owner) as session, session.begin():
        clock = TestClock(name="c", frozen_at=NOW)
        session.add(clock)
        session.flush()
        organization(session, "clocked").test_clock_id = clock.id
        assert catalog_rows(session).product.id == acme.product_id
    ahead = (NOW + timedelta(days=40)).isoformat()
    with pytest.raises(usage.RefusedUsage):
        posted(context, acme, "early", organization="clocked", timestamp=ahead)
    with database.owner.begin() as connection:
        connection.execute(
            text("UPDATE ops.test_clocks SET frozen_at = :at"), {"at": NOW + timedelta(days=40)}
        )
    posted(context, acme, "early", organization="clocked", timestamp=ahead)


def test_a_name_that_is_one_s_slug_and_another_s_external_id_is_the_slug_s(
    context: Context, acme: Quarter, database: TestDatabase
) -> None:
    with Session(database.owner) as session, session.begin():
        named = organization(session, "umbrella").id
        organization(session, "hooli").external_id = "umbrella"
    # Hooli first: what the process learns of it must not make its external id a name of its own.
    posted(context, acme, "h", organization="hooli")
    batch_id = posted(context, acme, "u", organization="umbrella")
    with database.owner.connect() as connection:
        found = connection.execute(
            text("SELECT organization_ids FROM ops.usage_inbox WHERE id = :id"), {"id": batch_id}
        )
        assert found.scalar_one() == [named]
