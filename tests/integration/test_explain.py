"""A line explains itself down to its events, and comes to the same amount when computed from them again."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy.orm import Session

from billing.errors import Conflict, InvalidTerms, NotFound
from billing.rating import rate
from models.base import new_id
from models.invoices import Invoice, InvoiceLine
from models.usage import UsageRecord
from tasks.context import Context
from tasks.explain import LineReference, explain_line, explain_text, find_line
from tests.integration.factories import (
    GRADUATED,
    Quarter,
    TestDatabase,
    acme_with_a_quarter,
    catalog,
    catalog_rows,
    fresh_database,
    offline_context,
)


@pytest.fixture(scope="module")
def database() -> Iterator[TestDatabase]:
    with fresh_database("explain") as made:
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


JANUARY = """\
ACME-000001, line 2: Flow usage  $1.60
  period    2026-01-01 to 2026-02-01 (UTC)
  price     flow-pro, version 1, graduated
  quantity  125 run: sum of 3 events
            included                 10 x USD 0 = USD 0
            above 10 to 100          90 x USD 0.015 = USD 1.35
            above 100                25 x USD 0.01 = USD 0.25
  rounding  USD 1.6 becomes $1.60, half away from zero, once per line
  again     computed anew from its events: $1.60, the same
  events    2026-01-02T12:00:00Z        60  e1
            2026-01-15T12:00:00Z        50  e2
            2026-01-31T12:00:00Z        15  e3"""


def test_usage_is_explained_tier_by_tier(context: Context, quarter: Quarter) -> None:
    found = explain_line(context, *find_line(context, "ACME-000001/2"))

    assert explain_text(found) == JANUARY
    assert json.loads(json.dumps(found)) == found, "an explanation is JSON as it is"
    assert found["recomputed"] == {"recomputed_minor": 160, "agrees": True, "difference": None}
    first = found["events"]["items"][0]
    assert first == {
        "event_id": "e1",
        "occurred_at": "2026-01-02T12:00:00Z",
        "quantity": "60",
        "properties": {"workflow": "w0"},
        "counts": True,
        "batch_id": str(quarter.batch_id),
        "corrections": [],
    }


def test_a_recurring_line_is_quantity_times_price(context: Context, quarter: Quarter) -> None:
    found = explain_line(context, *find_line(context, "ACME-000001/1"))

    assert explain_text(found) == (
        "ACME-000001, line 1: Flow recurring  $49.00\n"
        "  period    2026-02-01 to 2026-03-01 (UTC)\n"
        "  price     flow-pro, version 1, USD 49 each period\n"
        "  quantity  1\n"
        "  rounding  USD 49 becomes $49.00, half away from zero, once per line\n"
        "  again     computed anew from quantity and price: $49.00, the same"
    )
    assert found["events"] == {"items": [], "next": None, "total": 0}


def test_a_number_alone_means_its_usage(context: Context, quarter: Quarter) -> None:
    assert find_line(context, "ACME-000001") == find_line(context, "ACME-000001/2")


@pytest.mark.parametrize("reference", ["ACME-000009", "ACME-000001/3", "ACME-000001/x", "", "/"])
def test_a_line_that_is_not_there_is_not_found(context: Context, quarter: Quarter, reference: str) -> None:
    with pytest.raises(NotFound):
        find_line(context, reference)


def test_a_number_that_two_organizations_have_is_refused(
    context: Context, quarter: Quarter, database: TestDatabase
) -> None:
    with Session(database.owner) as session, session.begin():
        acme_with_a_quarter(session, "globex", rows=catalog_rows(session))
    database.break_by("UPDATE tenant.invoices SET number = 'ACME-000001' WHERE number = 'GLOBEX-000001'")

    with pytest.raises(Conflict):
        find_line(context, "ACME-000001/1")


def test_events_come_page_by_page_each_once(context: Context, quarter: Quarter) -> None:
    line = find_line(context, "ACME-000001/2")
    seen: list[str] = []
    page: str | None = None
    for _ in range(5):
        found = explain_line(context, *line, page=page, page_size=2)
        assert (found["recomputed"] is None) == (page is not None)
        seen += [event["event_id"] for event in found["events"]["items"]]
        page = found["events"]["next"]
        if page is None:
            break

    assert seen == ["e1", "e2", "e3"]


@pytest.mark.parametrize("page", ["x", "!!!", "e30", "WyJ4IiwieSJd", "bnVsbA"])
def test_a_forged_cursor_is_refused(context: Context, quarter: Quarter, page: str) -> None:
    with pytest.raises(InvalidTerms) as refusal:
        explain_line(context, *find_line(context, "ACME-000001/2"), page=page)
    assert refusal.value.field == "page"


def test_a_changed_event_no_longer_agrees(context: Context, quarter: Quarter, database: TestDatabase) -> None:
    database.break_by("UPDATE tenant.usage_records SET quantity = 61 WHERE event_id = 'e1'")

    found = explain_line(context, *find_line(context, "ACME-000001/2"))

    assert found["recomputed"]["recomputed_minor"] == 161
    assert not found["recomputed"]["agrees"]
    assert "DIFFERS: computed again, the line is $0.01 more" in explain_text(found)


def test_late_usage_explains_its_adjustment(
    context: Context, quarter: Quarter, database: TestDatabase
) -> None:
    # 125 runs of January are billed with 1.60; 5 more at 1 cent make 1.65: the adjustment is 0.05.
    with Session(database.owner) as session, session.begin():
        adjustment = _late_january(session, quarter, quantity=5)

    found = explain_line(context, *adjustment)

    assert found["recomputed"] == {"recomputed_minor": 5, "agrees": True, "difference": None}
    assert [event["event_id"] for event in found["events"]["items"]] == ["late"]
    text = explain_text(found)
    assert "  cause     1 events came after their period was invoiced:\n" in text
    assert "            $1.65 for the whole period\n" in text
    assert "            less $1.60 that 1 earlier line charged for it\n" in text


def test_discount_and_tax_are_named(context: Context, quarter: Quarter, database: TestDatabase) -> None:
    database.break_by(
        "UPDATE tenant.invoices SET discount_minor = 900, tax_minor = 600, total_minor = total_minor - 300, "
        "paid_minor = paid_minor - 300, tax_name = 'VAT', tax_percentage = 15 "
        "WHERE number = 'ACME-000001'"
    )
    database.break_by(
        "UPDATE tenant.invoice_lines SET discount_minor = 900, tax_minor = 600 "
        "WHERE key = 'recurring:2026-02-01'"
    )

    text = explain_text(explain_line(context, *find_line(context, "ACME-000001/1")))

    assert "  discount  $9.00 of $9.00, one after the other" in text
    assert "  tax       VAT 15 %: $6.00 on $40.00" in text


def test_another_organizations_line_is_not_found(
    context: Context, quarter: Quarter, database: TestDatabase
) -> None:
    with Session(database.owner) as session, session.begin():
        globex = acme_with_a_quarter(session, "globex", rows=catalog_rows(session))
    theirs = find_line(context, "ACME-000001/2")
    wrong: list[tuple[UUID, UUID, UUID]] = [
        (globex.organization_id, theirs.invoice_id, theirs.line_id),
        (theirs.organization_id, quarter.invoice_ids[1], theirs.line_id),
        (theirs.organization_id, theirs.invoice_id, uuid4()),
        (uuid4(), theirs.invoice_id, theirs.line_id),
    ]
    for ids in wrong:
        with pytest.raises(NotFound):
            explain_line(context, *ids)


@pytest.mark.parametrize(
    ("aggregation", "quantity", "minor"),
    [
        ("count", 3, 0),  # three events, within the allowance of 10
        ("max", 60, 75),  # 50 beyond the allowance at 1.5
        ("min", 15, 8),  # 5 at 1.5 = 7.5, rounded half away from zero
        ("last", 15, 8),
        ("unique", 3, 0),  # three workflows
        ("avg", Fraction(125, 3), 48),  # 41.67 - 10 = 31.67 at 1.5 = 47.5, rounded half away from zero
    ],
)
def test_every_aggregation_computes_again(
    context: Context, database: TestDatabase, aggregation: str, quantity: Any, minor: int
) -> None:
    with Session(database.owner) as session, session.begin():
        acme_with_a_quarter(session, rows=catalog(session, aggregation=aggregation))

    found = explain_line(context, *find_line(context, "ACME-000001/2"))

    assert Fraction(found["quantity"]["value"]) == quantity
    assert found["recomputed"] == {"recomputed_minor": minor, "agrees": True, "difference": None}


def _late_january(session: Session, quarter: Quarter, *, quantity: int) -> LineReference:
    """One event of January that came in February, on a draft of its own."""
    usage = session.query(InvoiceLine).filter_by(key="usage:2026-01-01").one()
    invoice = Invoice(
        organization_id=quarter.organization_id,
        id=new_id(),
        subscription_id=quarter.subscription_id,
        kind="adjustment",
        period_start_at=usage.period_start_at,
        period_end_at=usage.period_end_at,
        currency="USD",
        window_closes_at=usage.period_end_at,
        created_at=usage.period_end_at,
    )
    session.add(invoice)
    session.flush()
    rating = rate(Fraction(125 + quantity), GRADUATED)
    line = InvoiceLine(
        organization_id=quarter.organization_id,
        id=new_id(),
        invoice_id=invoice.id,
        subscription_id=quarter.subscription_id,
        key="late:2026-01-01",
        position=1,
        kind="adjustment",
        product_id=usage.product_id,
        item_id=usage.item_id,
        meter_id=usage.meter_id,
        description="Flow: late runs",
        quantity=Decimal(1),
        currency="USD",
        amount_minor=rating.amount.minor - usage.amount_minor,
        discountable=False,
        period_start_at=usage.period_start_at,
        period_end_at=usage.period_end_at,
        explanation={
            **usage.explanation,
            "rating": rating.to_record(),
            "facts": 4,
            "adjusts": {"billed_minor": usage.amount_minor, "line_ids": [str(usage.id)], "late_events": 1},
        },
    )
    event = session.query(UsageRecord).filter_by(event_id="e1").one()
    late = UsageRecord(
        organization_id=quarter.organization_id,
        product_id=event.product_id,
        event_id="late",
        batch_id=event.batch_id,
        batch_index=9,
        meter_id=event.meter_id,
        quantity=Decimal(quantity),
        occurred_at=datetime(2026, 1, 20, tzinfo=UTC),
        subscription_id=event.subscription_id,
        item_id=event.item_id,
        late=True,
        state="rated",
        invoice_line_id=line.id,
    )
    session.add_all([line, late])
    session.flush()
    return LineReference(quarter.organization_id, invoice.id, line.id)
