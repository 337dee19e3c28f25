"""The queries of every day are index scans, on twenty thousand subscriptions as on a million.

`make bench-indexes` asks the same of a million and prints the plans.
"""

from collections.abc import Iterator

import pytest
from sqlalchemy import text

from benchmarks.indexes import findings
from benchmarks.many_rows import Rows, fill
from benchmarks.plans import Finding
from models.database import Database
from tests.integration.factories import TestDatabase, fresh_database

SUBSCRIPTIONS = 20_000


@pytest.fixture(scope="module")
def database() -> Iterator[TestDatabase]:
    with fresh_database("indexes") as made:
        yield made


@pytest.fixture(scope="module")
def rows(database: TestDatabase) -> Rows:
    with database.owner.begin() as connection:
        return fill(connection, SUBSCRIPTIONS)


def asked(database: TestDatabase, rows: Rows) -> list[Finding]:
    app, auditor = Database(database.app_url), Database(database.auditor_url)
    try:
        return list(findings(app, auditor, rows))
    finally:
        app.close()
        auditor.close()


def test_no_everyday_query_reads_a_table_whole(database: TestDatabase, rows: Rows) -> None:
    found = asked(database, rows)
    assert len(found) > 50
    assert [(each.path, each.faults) for each in found if each.faults] == []


def test_without_its_index_a_query_is_found_out(database: TestDatabase, rows: Rows) -> None:
    """The judge above can condemn."""
    with database.owner.begin() as connection:
        connection.execute(text("DROP INDEX tenant.ix_invoices_id"))
    bad = {each.path for each in asked(database, rows) if each.faults}
    # (Whose invoice it is, Postgres 18 finds by skipping through the key.)
    assert "staff: newest invoices" in bad
    with database.owner.begin() as connection:
        connection.execute(text("CREATE INDEX ix_invoices_id ON tenant.invoices (id)"))


@pytest.mark.parametrize(
    "name",
    [
        "product_subscriptions_org_status_idx",
        "product_subscriptions_prod_status_idx",
        "product_subscriptions_stripe_idx",
        "usage_records_prod_metric_time_idx",
        "usage_records_billed_period_idx",
        "usage_records_timestamp_idx",
    ],
)
def test_the_promised_index_is_there(database: TestDatabase, name: str) -> None:
    with database.owner.connect() as connection:
        found = connection.execute(
            text("SELECT count(*) FROM pg_indexes WHERE schemaname = 'tenant' AND indexname = :name"),
            {"name": name},
        )
        assert found.scalar_one() == 1
