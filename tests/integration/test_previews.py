"""A preview counts what the invoice will count, and writes to no usage record on the way."""

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import pytest
from sqlalchemy import event, text
from sqlalchemy.orm import Session

from models.usage import UsageRecord
from tasks import usage_corrections
from tasks.context import Context
from tasks.previews import preview
from tasks.usage_corrections import CorrectionTerms
from tests.integration.factories import TestDatabase, fresh_database, offline_context
from tests.integration.test_usage_groups import FILTERS, GROUPS, JANUARY, Grouped

AGGREGATIONS = ("sum", "count", "max", "min", "avg", "last", "time_weighted_sum")
# The clock stands before the period's end: January is still running.
NOW = datetime(2026, 1, 20, tzinfo=UTC)


@pytest.fixture(scope="module")
def database() -> Iterator[TestDatabase]:
    with fresh_database("previews") as made:
        yield made


@pytest.fixture
def context(database: TestDatabase) -> Iterator[Context]:
    database.empty()
    with offline_context(database, wall=NOW) as made:
        yield made


def previewed(
    context: Context, organization_id: UUID, subscription_id: UUID
) -> list[tuple[str, int, object]]:
    found = preview(context, organization_id, subscription_id)
    return [(line.description, line.amount_minor, line.quantity) for line, _, meter in found.lines if meter]


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_a_preview_is_what_is_billed_then(context: Context, database: TestDatabase, aggregation: str) -> None:
    with Session(database.owner, expire_on_commit=False) as owner, owner.begin():
        acme = Grouped(context, owner, aggregation, GROUPS, FILTERS)
    acme.uses(*JANUARY)
    for event_id, quantity in (("a", Decimal(9)), ("c", None)):
        terms = CorrectionTerms(event_id=event_id, quantity=quantity, reason="a test", who="a test")
        usage_corrections.correct(context, acme.product_id, acme.organization_id, terms)

    coming = previewed(context, acme.organization_id, acme.subscription_id)
    billed = acme.bills()

    assert coming
    with context.tenant(acme.organization_id) as unit:
        lines = unit.session.execute(
            text(
                "SELECT description, amount_minor, quantity FROM tenant.invoice_lines "
                "WHERE meter_id IS NOT NULL"
            )
        )
        assert sorted(coming) == sorted(tuple(line) for line in lines)
    assert all(line["recomputed"]["agrees"] for line in billed)


def test_a_preview_writes_to_no_usage_record(context: Context, database: TestDatabase) -> None:
    with Session(database.owner, expire_on_commit=False) as owner, owner.begin():
        acme = Grouped(context, owner, "sum", GROUPS, FILTERS)
    acme.uses(*JANUARY)
    said: list[str] = []

    def remember(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        said.append(statement)

    event.listen(context.database.engine, "before_cursor_execute", remember)
    try:
        first = previewed(context, acme.organization_id, acme.subscription_id)
        second = previewed(context, acme.organization_id, acme.subscription_id)
    finally:
        event.remove(context.database.engine, "before_cursor_execute", remember)

    assert first == second
    assert not [each for each in said if "UPDATE tenant.usage_" in each]
    with Session(database.owner) as owner:
        assert {record.state for record in owner.query(UsageRecord)} == {"waiting"}
