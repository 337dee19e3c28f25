"""The role that closes cycles of many organizations together: what it may not do, and when it ends."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.orm import Session

from tasks.context import Context
from tests.integration.factories import TestDatabase, acme_with_a_quarter, fresh_database, offline_context

ROWS = "SELECT count(*) FROM tenant.invoices"


@pytest.fixture(scope="module")
def context() -> Iterator[Context]:
    with fresh_database("billing_role") as database:
        with Session(database.owner) as session, session.begin():
            acme_with_a_quarter(session)
        yield from _opened(database)


def _opened(database: TestDatabase) -> Iterator[Context]:
    with offline_context(database, wall=datetime(2026, 4, 20, tzinfo=UTC)) as context:
        yield context


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT FROM tenant.payments",
        "SELECT FROM tenant.payment_methods",
        "SELECT FROM tenant.notifications",
        "SELECT FROM ops.api_keys",
        "SELECT FROM ops.stripe_calls",
        "DELETE FROM tenant.invoices",
        "DELETE FROM tenant.usage_records",
        "UPDATE tenant.invoice_lines SET amount_minor = 0",
        "UPDATE tenant.usage_records SET quantity = 0",
        "UPDATE tenant.product_subscriptions SET status = 'cancelled'",
        "UPDATE tenant.subscription_items SET quantity = 1",
        "UPDATE tenant.pending_charges SET amount_minor = 0",
        "UPDATE ops.jobs SET state = 'done'",
        "UPDATE catalog.organizations SET currency = 'EUR'",
        "UPDATE catalog.plan_charges SET terms = '{}'",
    ],
)
def test_it_may_do_no_more_than_its_work(context: Context, statement: str) -> None:
    with pytest.raises(ProgrammingError, match="permission denied"), context.database.billing() as session:
        session.execute(text(statement))


def test_it_ends_with_its_transaction(context: Context) -> None:
    seen = []
    for opened in (context.database.system, context.database.billing, context.database.system):
        with opened() as session:
            user, _, settings = session.execute(
                text("SELECT current_user, session_user, current_setting('enable_hashjoin')")
            ).one()
            seen.append((user, settings, session.execute(text(ROWS)).scalar_one()))
    assert seen == [("dunlin_app", "on", 0), ("dunlin_billing", "off", 3), ("dunlin_app", "on", 0)]
