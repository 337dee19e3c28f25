"""Postgres itself keeps organizations apart: every tenant table, seen with another's eyes and none."""

from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import UUID

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError, ProgrammingError
from sqlalchemy.orm import Session

from models.base import TENANT
from models.database import Database, UnsafeDatabaseRole
from models.schema import metadata
from tests.integration.factories import (
    Quarter,
    TestDatabase,
    acme_with_a_quarter,
    fresh_database,
    offline_context,
)

TABLES = sorted(table.name for table in metadata.tables.values() if table.schema == TENANT)


@pytest.fixture(scope="module")
def database() -> Iterator[TestDatabase]:
    with fresh_database("isolation") as made:
        yield made


@pytest.fixture(scope="module")
def acme(database: TestDatabase) -> Quarter:
    with Session(database.owner) as session, session.begin():
        return acme_with_a_quarter(session)


def count(database: Database, table: str, organization_id: UUID | None) -> int:
    session_of = database.system() if organization_id is None else database.tenant(organization_id)
    with session_of as session:
        return int(session.execute(text(f"SELECT count(*) FROM tenant.{table}")).scalar_one())


@pytest.mark.parametrize("table", TABLES)
def test_a_tenant_table_forces_row_security_with_both_policies(database: TestDatabase, table: str) -> None:
    with database.owner.connect() as connection:
        forced = connection.execute(
            text(
                "SELECT relrowsecurity AND relforcerowsecurity FROM pg_class "
                "WHERE oid = CAST(:name AS regclass)"
            ),
            {"name": f"tenant.{table}"},
        ).scalar_one()
        policies = connection.execute(
            text(
                "SELECT policyname FROM pg_policies "
                "WHERE schemaname = 'tenant' AND tablename = :table ORDER BY 1"
            ),
            {"table": table},
        ).scalars()
        assert (forced, list(policies)) == (True, ["audit", "own_rows"])


@pytest.mark.parametrize("table", TABLES)
def test_another_organization_and_nobody_see_no_row(
    database: TestDatabase, acme: Quarter, table: str
) -> None:
    app = Database(database.app_url)
    try:
        stranger = UUID("00000000-0000-7000-8000-000000000001")
        assert count(app, table, stranger) == 0
        assert count(app, table, None) == 0
        with database.owner.connect() as connection:
            there = connection.execute(text(f"SELECT count(*) FROM tenant.{table}")).scalar_one()
        assert count(app, table, acme.organization_id) == there
    finally:
        app.close()


def test_a_row_cannot_be_written_for_another_organization(database: TestDatabase, acme: Quarter) -> None:
    stranger = UUID("00000000-0000-7000-8000-000000000001")
    app = Database(database.app_url)
    try:
        with pytest.raises(ProgrammingError, match="row-level security"), app.tenant(stranger) as session:
            session.execute(
                text("INSERT INTO tenant.invoice_sequences (organization_id, last_number) VALUES (:id, 1)"),
                {"id": acme.organization_id},
            )
    finally:
        app.close()


def test_the_auditor_reads_all_and_writes_nothing(database: TestDatabase, acme: Quarter) -> None:
    auditor = Database(database.auditor_url)
    try:
        with auditor.system() as session:
            assert session.execute(text("SELECT count(*) FROM tenant.invoices")).scalar_one() == 3
        with pytest.raises(DBAPIError, match="read-only transaction"), auditor.system() as session:
            session.execute(text("UPDATE catalog.organizations SET name = 'x'"))
    finally:
        auditor.close()


def test_a_role_that_could_look_across_is_refused(database: TestDatabase) -> None:
    owner = Database(database.owner.url.render_as_string(hide_password=False).replace("+psycopg", ""))
    app = Database(database.app_url)
    try:
        app.refuse_unsafe_role()
        with pytest.raises(UnsafeDatabaseRole):
            owner.refuse_unsafe_role()
    finally:
        owner.close()
        app.close()


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE tenant.invoices SET total_minor = total_minor + 1, subtotal_minor = subtotal_minor + 1",
        "UPDATE tenant.invoices SET number = number || 'x'",
        "UPDATE tenant.invoice_lines SET amount_minor = 0",
        "DELETE FROM tenant.invoice_lines",
    ],
)
def test_a_finalized_invoice_refuses_every_change_even_of_the_owner(
    database: TestDatabase, acme: Quarter, change: str
) -> None:
    engine = create_engine(database.owner.url)
    with pytest.raises(DBAPIError, match="finalized"), engine.begin() as connection:
        connection.execute(text(change))
    engine.dispose()


def test_money_states_of_a_finalized_invoice_still_move(database: TestDatabase, acme: Quarter) -> None:
    wall = datetime(2026, 4, 20, tzinfo=UTC)
    with offline_context(database, wall=wall) as context, context.tenant(acme.organization_id) as unit:
        moved = unit.session.execute(text("UPDATE tenant.invoices SET closed_at = now() RETURNING id")).all()
    assert len(moved) == 3
