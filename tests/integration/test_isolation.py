"""Postgres itself keeps organizations apart: every tenant table, seen with another's eyes and none.

Every table, key and reference comes from the database itself, so that a new one cannot escape.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from psycopg import errors
from sqlalchemy import Boolean, Column, DateTime, Engine, Numeric, Uuid, bindparam, create_engine, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.orm import Session
from sqlalchemy.types import Integer

from models.base import TENANT, new_id
from models.database import Database, UnsafeDatabaseRole
from models.schema import metadata
from tests.integration.factories import (
    Quarter,
    TestDatabase,
    acme_with_a_quarter,
    fresh_database,
    offline_context,
    organization,
)

TABLES = sorted(table.name for table in metadata.tables.values() if table.schema == TENANT)
STRANGER = UUID("00000000-0000-7000-8000-000000000001")
# What a column of this name points at, in every tenant table.
PARENTS = {
    "subscription_id": "product_subscriptions",
    "item_id": "subscription_items",
    "invoice_id": "invoices",
    "invoice_line_id": "invoice_lines",
    "case_id": "dunning_cases",
    "credit_note_id": "credit_notes",
}
# Where columns of one row must fit each other.
FITTING = {"credit_notes": {"reduces_due_minor": 0, "refund_minor": 0, "credit_minor": 0}}
# A foreign key would cost a look-up for each usage event that is stored and each that is billed. They
# are written by statements that join within one organization, and invariant I10 looks for strays.
WITHOUT_KEY = {
    ("usage_records", "subscription_id"),
    ("usage_records", "item_id"),
    ("usage_records", "invoice_line_id"),
}


@pytest.fixture(scope="module")
def database() -> Iterator[TestDatabase]:
    with fresh_database("isolation") as made:
        yield made


@pytest.fixture(scope="module")
def acme(database: TestDatabase) -> Quarter:
    """Acme with its quarter, and at least one row in every tenant table."""
    with Session(database.owner) as session, session.begin():
        made = acme_with_a_quarter(session)
        session.execute(text("SET LOCAL session_replication_role = replica"))
        for table in TABLES:
            if not session.execute(text(f"SELECT EXISTS (SELECT FROM tenant.{table})")).scalar_one():
                columns = metadata.tables[f"tenant.{table}"].columns
                row = {column.name: _any(column) for column in columns if not column.nullable}
                row |= {"organization_id": made.organization_id, **FITTING.get(table, {})}
                session.execute(metadata.tables[f"tenant.{table}"].insert().values(row))
    return made


@pytest.fixture(scope="module")
def globex(database: TestDatabase, acme: Quarter) -> UUID:
    """An organization that has nothing but one card."""
    with Session(database.owner) as session, session.begin():
        return organization(session, "globex").id


# What the role that opens usage batches of many organizations, and rolls them up, may see.
INTAKE = frozenset(
    (
        "product_subscriptions",
        "subscription_items",
        "usage_conflicts",
        "usage_corrections",
        "usage_records",
        "usage_rollups",
        "usage_stale_hours",
    )
)
# What the role that closes cycles of many organizations together may see.
BILLING = frozenset(
    (
        "coupon_redemptions",
        "credit_entries",
        "invoice_lines",
        "invoice_sequences",
        "invoices",
        "notifications",
        "pending_charges",
        "product_subscriptions",
        "subscription_changes",
        "subscription_items",
        "usage_corrections",
        "usage_records",
    )
)
# Written by the intake alone.
APPENDED_BY_INTAKE = frozenset(("usage_rollups",))


def _any(column: Column[Any]) -> Any:
    """A value that the column takes; of a state, the first that its check names."""
    checks = (str(getattr(each, "sqltext", "")) for each in column.table.constraints)
    for check in checks:
        if check.startswith(f"{column.name} IN ("):
            return check.split("'")[1]
    for kind, value in (
        (Uuid, new_id()),
        (Boolean, False),
        (Integer, 1),
        (Numeric, 1),
        (DateTime, datetime(2026, 4, 1, tzinfo=UTC)),
        (JSONB, {}),
    ):
        if isinstance(column.type, kind):
            return value
    return "USD" if column.name == "currency" else "x"


def described_value(column: Column[Any]) -> Any:
    """A bound parameter of the column's type."""
    return bindparam(column.name, type_=column.type)


def _columns(table: str, organization_id: str) -> tuple[str, str]:
    """The table's columns to insert, and the same to select with another organization's id."""
    names = [column.name for column in metadata.tables[f"tenant.{table}"].columns if not column.computed]
    selected = [organization_id if name == "organization_id" else f'"{name}"' for name in names]
    return ", ".join(f'"{name}"' for name in names), ", ".join(selected)


def count(database: Database, table: str, organization_id: UUID | None) -> int:
    session_of = database.system() if organization_id is None else database.tenant(organization_id)
    with session_of as session:
        return int(session.execute(text(f"SELECT count(*) FROM tenant.{table}")).scalar_one())


@pytest.mark.parametrize("table", TABLES)
def test_a_tenant_table_forces_row_security_with_its_policies(database: TestDatabase, table: str) -> None:
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
        opened = [role for role, seen in (("billing", BILLING), ("intake", INTAKE)) if table in seen]
        assert (forced, list(policies)) == (True, ["audit", *opened, "own_rows"])


@pytest.mark.parametrize("table", TABLES)
def test_another_organization_and_nobody_see_no_row(
    database: TestDatabase, acme: Quarter, table: str
) -> None:
    app = Database(database.app_url)
    try:
        assert count(app, table, STRANGER) == 0
        assert count(app, table, None) == 0
        with database.owner.connect() as connection:
            there = connection.execute(
                text(f"SELECT count(*) FROM tenant.{table} WHERE organization_id = :id"),
                {"id": acme.organization_id},
            ).scalar_one()
        assert count(app, table, acme.organization_id) == there > 0
    finally:
        app.close()


@pytest.mark.parametrize("repeat", ["", " ON CONFLICT DO NOTHING"], ids=["plain", "on_conflict"])
@pytest.mark.parametrize("table", TABLES)
def test_a_row_cannot_be_written_for_another_organization(
    database: TestDatabase, acme: Quarter, globex: UUID, table: str, repeat: str
) -> None:
    """The refusal is of the row's owner, before any unique key could tell whether the row is there."""
    described = metadata.tables[f"tenant.{table}"]
    with database.owner.connect() as connection:
        row = connection.execute(
            described.select().where(described.c.organization_id == acme.organization_id).limit(1)
        ).mappings()
        there = dict(row.one())
    absent = {**there, **{key.name: _any(key) for key in described.primary_key}}
    absent["organization_id"] = acme.organization_id
    app = Database(database.app_url)
    try:
        names = ", ".join(f'"{name}"' for name in there)
        bound = ", ".join(f":{name}" for name in there)
        statement = text(f"INSERT INTO tenant.{table} ({names}) VALUES ({bound}){repeat}").bindparams(
            *(described_value(described.c[name]) for name in there)
        )
        for row_given in (there, absent):
            with pytest.raises(ProgrammingError) as refused, app.tenant(globex) as session:
                session.execute(statement, row_given)
            assert isinstance(refused.value.orig, errors.InsufficientPrivilege)
            # What the role may not write at all it cannot write to another either.
            words = (
                f"permission denied for table {table}"
                if table in APPENDED_BY_INTAKE
                else f'new row violates row-level security policy for table "{table}"'
            )
            assert words in str(refused.value.orig)
    finally:
        app.close()


@pytest.mark.parametrize("table", TABLES)
def test_anothers_rows_can_be_neither_changed_nor_taken_away_nor_given_away(
    database: TestDatabase, acme: Quarter, globex: UUID, table: str
) -> None:
    app = Database(database.app_url)
    try:
        for power, statement in (
            ("UPDATE", f"UPDATE tenant.{table} SET organization_id = organization_id"),
            ("DELETE", f"DELETE FROM tenant.{table}"),
        ):
            with app.tenant(globex) as session:
                # What the role may not do at all it cannot do to another either.
                may = text("SELECT has_table_privilege(:table, :power)")
                if session.execute(may, {"table": f"tenant.{table}", "power": power}).scalar_one():
                    anothers = text(statement + " WHERE organization_id = :acme RETURNING 1")
                    assert session.execute(anothers, {"acme": acme.organization_id}).all() == []
        with pytest.raises(DBAPIError) as refused_gift, app.tenant(acme.organization_id) as session:
            session.execute(text(f"UPDATE tenant.{table} SET organization_id = :to"), {"to": globex})
        assert isinstance(refused_gift.value.orig, errors.InsufficientPrivilege | errors.RestrictViolation)
    finally:
        app.close()


@pytest.mark.parametrize("table", TABLES)
def test_word_for_word_the_same_rows_may_be_anothers(
    database: TestDatabase, acme: Quarter, table: str
) -> None:
    """Ids, event ids, keys, numbers: no unique rule reaches across organizations."""
    names, selected = _columns(table, ":stranger")
    with database.owner.connect() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        copied = connection.execute(
            text(
                f"INSERT INTO tenant.{table} ({names}) SELECT {selected} FROM tenant.{table} "
                "WHERE organization_id = :acme"
            ),
            {"stranger": STRANGER, "acme": acme.organization_id},
        )
        assert copied.rowcount > 0
        connection.rollback()


@pytest.mark.parametrize("table", TABLES)
def test_every_reference_to_a_tenant_row_is_a_foreign_key_within_the_organization(
    database: TestDatabase, table: str
) -> None:
    keys = _foreign_keys(database.owner, table)
    assert all(columns[0] == targets[0] == "organization_id" for columns, _, targets in keys)
    referring = {columns[1]: parent for columns, parent, _ in keys}
    for column in metadata.tables[f"tenant.{table}"].columns:
        if column.name in PARENTS and (table, column.name) not in WITHOUT_KEY:
            assert referring.get(column.name) == PARENTS[column.name], column.name


@pytest.mark.parametrize("table", TABLES)
def test_a_child_cannot_point_at_anothers_parent(
    database: TestDatabase, acme: Quarter, globex: UUID, table: str
) -> None:
    parents = {columns[1]: parent for columns, parent, _ in _foreign_keys(database.owner, table)}
    described = metadata.tables[f"tenant.{table}"].columns
    names, selected = _columns(table, ":globex")
    for column, parent in parents.items():
        anothers = f"(SELECT id FROM tenant.{parent} WHERE organization_id = :acme LIMIT 1)"
        row = selected.replace(f'"{column}"', anothers)
        # The other references are left empty where they may be: this one must refuse the row.
        for other in parents.keys() - {column}:
            if described[other].nullable:
                row = row.replace(f'"{other}"', "NULL")
        with pytest.raises(IntegrityError) as refused, database.owner.begin() as connection:
            connection.execute(
                text(
                    f"INSERT INTO tenant.{table} ({names}) "
                    f"SELECT {row} FROM tenant.{table} WHERE organization_id = :acme LIMIT 1"
                ),
                {"globex": globex, "acme": acme.organization_id},
            )
        assert isinstance(refused.value.orig, errors.ForeignKeyViolation)


def _foreign_keys(owner: Engine, table: str) -> list[tuple[list[str], str, list[str]]]:
    """(columns, parent, its columns) of the table's foreign keys to tenant tables."""
    with owner.connect() as connection:
        rows = connection.execute(
            text(
                """
                SELECT (SELECT array_agg(a.attname::text ORDER BY k.place)
                        FROM unnest(c.conkey) WITH ORDINALITY AS k(number, place)
                        JOIN pg_attribute a ON (a.attrelid, a.attnum) = (c.conrelid, k.number)),
                       p.relname::text,
                       (SELECT array_agg(a.attname::text ORDER BY k.place)
                        FROM unnest(c.confkey) WITH ORDINALITY AS k(number, place)
                        JOIN pg_attribute a ON (a.attrelid, a.attnum) = (c.confrelid, k.number))
                FROM pg_constraint c JOIN pg_class p ON p.oid = c.confrelid
                WHERE c.contype = 'f' AND c.conrelid = CAST(:table AS regclass)
                  AND p.relnamespace = 'tenant'::regnamespace
                """
            ),
            {"table": f"tenant.{table}"},
        )
        return [(row[0], row[1], row[2]) for row in rows]


def test_nothing_else_opens_a_way_around_row_security(database: TestDatabase, acme: Quarter) -> None:
    """Views with their owner's eyes, functions with their owner's hands, counters that all share."""
    with database.owner.connect() as connection:
        ways_around = connection.execute(
            text(
                """
                SELECT format('%s %s', c.relkind, c.oid::regclass) FROM pg_class c
                WHERE c.relnamespace::regnamespace::text IN ('catalog', 'ops', 'tenant', 'public')
                  AND (c.relkind IN ('m', 'S', 'f')
                       OR c.relkind = 'v' AND NOT coalesce(c.reloptions @> '{security_invoker=true}', false))
                UNION ALL
                SELECT format('definer %s', p.oid::regprocedure) FROM pg_proc p
                WHERE p.prosecdef
                  AND p.pronamespace::regnamespace::text IN ('catalog', 'ops', 'tenant', 'public')
                """
            )
        ).scalars()
        assert list(ways_around) == []


@pytest.mark.parametrize("table", TABLES)
def test_the_app_can_only_read_and_write_rows(database: TestDatabase, table: str) -> None:
    with database.owner.connect() as connection:
        for power in ("TRUNCATE", "REFERENCES", "TRIGGER", "MAINTAIN"):
            granted = connection.execute(
                text("SELECT has_table_privilege('dunlin_app', :table, :power)"),
                {"table": f"tenant.{table}", "power": power},
            ).scalar_one()
            assert not granted, power


def test_what_postgres_learned_of_all_rows_stays_hidden(database: TestDatabase, acme: Quarter) -> None:
    """Statistics hold the most common values of every organization's rows."""
    with database.owner.begin() as connection:
        connection.execute(text("ANALYZE tenant.invoices"))
        learned = "SELECT count(*) FROM pg_stats WHERE schemaname = 'tenant'"
        assert connection.execute(text(learned)).scalar_one() > 0
    app = Database(database.app_url)
    try:
        with app.tenant(acme.organization_id) as session:
            assert session.execute(text(learned)).scalar_one() == 0
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
