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
from tasks.explain import (
    LineReference,
    explain_invoice,
    explain_line,
    explain_text,
    find_invoice,
    find_line,
)
from tasks.explanation_text import sums_text
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
            version sold since 2025-12-01, held since 2026-01-01
  quantity  125 run: sum of 3 events
            included                 10 x USD 0 = USD 0
            above 10 to 100          90 x USD 0.015 = USD 1.35
            above 100                25 x USD 0.01 = USD 0.25
  rounding  USD 1.6 becomes $1.60, half away from zero, once per line
  again     computed anew from its events: $1.60, the same
  events    2026-01-02T12:00:00Z        60  e1
            2026-01-15T12:00:00Z        50  e2
            2026-01-31T12:00:00Z        15  e3"""


def agreeing(minor: int) -> dict[str, Any]:
    zeros = {"discount_minor": 0, "tax_minor": 0}
    return {"recomputed_minor": minor, **zeros, "agrees": True, "difference": None}


def test_usage_is_explained_tier_by_tier(context: Context, quarter: Quarter) -> None:
    found = explain_line(context, *find_line(context, "ACME-000001/2"))

    assert explain_text(found) == JANUARY
    assert json.loads(json.dumps(found)) == found, "an explanation is JSON as it is"
    assert found["recomputed"] == agreeing(160)
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
        "            version sold since 2025-12-01, held since 2026-01-01\n"
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

    assert found["recomputed"] == agreeing(5)
    assert [event["event_id"] for event in found["events"]["items"]] == ["late"]
    text = explain_text(found)
    assert "  cause     1 events came after their period was invoiced:\n" in text
    assert "            $1.65 for the whole period\n" in text
    assert "            less $1.60 that 1 earlier line charged for it\n" in text


def discounted(database: TestDatabase) -> None:
    """ACME-000001 as it would be with 4.00 off, then 10 %, and 15 % of tax on what is left."""
    # 49.00 - 4.00 = 45.00, less 10 % = 40.50; 15 % of that is 6.075, of 1.60 of usage 0.24
    parts = [
        {"code": "bundle starter", "percent_off": None, "amount_off_minor": 400, "amount_minor": 400},
        {"code": "tenth", "percent_off": "10", "amount_off_minor": None, "amount_minor": 450},
    ]
    database.break_by(
        "UPDATE tenant.invoices SET discount_minor = 850, tax_minor = 632, total_minor = 5060 - 850 + 632, "
        "paid_minor = 5060 - 850 + 632, tax_name = 'VAT', tax_percentage = 15 WHERE number = 'ACME-000001'"
    )
    database.break_by(
        "UPDATE tenant.invoice_lines SET discount_minor = 850, tax_minor = 608, "
        "explanation = explanation || jsonb_build_object('discounts', CAST(:parts AS jsonb)) "
        "WHERE key = 'recurring:2026-02-01'",
        parts=json.dumps(parts),
    )
    database.break_by("UPDATE tenant.invoice_lines SET tax_minor = 24 WHERE key = 'usage:2026-01-01'")


def test_discount_and_tax_are_told_step_by_step_and_computed_again(
    context: Context, quarter: Quarter, database: TestDatabase
) -> None:
    discounted(database)

    found = explain_line(context, *find_line(context, "ACME-000001/1"))
    text = explain_text(found)

    assert "  discount  $8.50 of the invoice's $8.50, one discount after the other:\n" in text
    assert (
        "            bundle starter: $4.00 of $4.00, split by what lines still cost ($49.00 here)\n"
        "            tenth: 10 % of $45.00 = $4.50\n"
        "  tax       VAT 15 %: $6.08 on $40.50\n"
        "  again     computed anew from quantity and price: $49.00 with discount $8.50 and tax $6.08, "
        "the same"
    ) in text
    assert found["recomputed"]["agrees"]


SUMS = """\
ACME-000001, cycle invoice, paid: $48.42
  subtotal          $50.60  the sum of 2 lines
  discount          -$8.50  the sum of the lines' discounts
  tax                $6.32  the sum of the lines' taxes
  credit             $0.00  of the balance
  total             $48.42
  again     every line and every sum computed anew: the same to the cent"""


def test_an_invoice_is_explained_line_by_line_and_by_its_sums(
    context: Context, quarter: Quarter, database: TestDatabase
) -> None:
    discounted(database)

    found = explain_invoice(context, *find_invoice(context, "ACME-000001"))

    assert [line["line"]["position"] for line in found["lines"]] == [1, 2]
    assert sums_text(found) == SUMS
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize(
    ("broken", "difference"),
    [
        ("invoice_lines SET discount_minor = 851 WHERE discount_minor > 0", "its discount is -$0.01 more"),
        ("invoice_lines SET tax_minor = 607 WHERE discount_minor > 0", "its tax is $0.01 more"),
        ("invoice_lines SET amount_minor = 4901 WHERE kind = 'recurring'", "the line is -$0.01 more"),
        (
            "invoice_lines SET unit_price = 4800, amount_minor = 4800 WHERE kind = 'recurring'",
            "the price list says $49.00",
        ),
    ],
)
def test_whatever_does_not_compute_again_is_said(
    context: Context, quarter: Quarter, database: TestDatabase, broken: str, difference: str
) -> None:
    discounted(database)
    database.break_by(f"UPDATE tenant.{broken}")

    found = explain_invoice(context, *find_invoice(context, "ACME-000001"))

    assert not found["agrees"]
    assert difference in str(found["lines"][0]["recomputed"]["difference"])
    assert "  again     DIFFERS: " in explain_text(found["lines"][0])
    assert "  again     DIFFERS: " in sums_text(found)


def test_another_quantity_is_said_even_if_it_costs_the_same(
    context: Context, quarter: Quarter, database: TestDatabase
) -> None:
    discounted(database)
    database.break_by(
        "UPDATE tenant.usage_records SET quantity = quantity + 0.000001 WHERE event_id IN ("
        "SELECT min(event_id) FROM tenant.usage_records WHERE invoice_line_id IS NOT NULL)"
    )

    found = explain_invoice(context, *find_invoice(context, "ACME-000001"))

    assert not found["agrees"]
    assert [line["recomputed"]["recomputed_minor"] for line in found["lines"]] == [
        line["line"]["amount_minor"] for line in found["lines"]
    ]
    assert "computed again, its quantity is " in found["lines"][1]["recomputed"]["difference"]


@pytest.mark.parametrize("figure", ["subtotal", "discount", "tax", "credit"])
def test_a_sum_that_is_not_that_of_the_lines_is_said(
    context: Context, quarter: Quarter, database: TestDatabase, figure: str
) -> None:
    sign = 1 if figure in ("subtotal", "tax") else -1
    database.break_by(
        f"UPDATE tenant.invoices SET {figure}_minor = {figure}_minor + 1, "
        f"total_minor = total_minor + {sign}, paid_minor = 0 WHERE number = 'ACME-000002'"
    )

    found = explain_invoice(context, *find_invoice(context, "ACME-000002"))

    assert all(line["recomputed"]["agrees"] for line in found["lines"])
    assert figure in found["sums"]["difference"]
    assert not found["agrees"]


def test_an_invoice_that_is_not_there_is_not_found(context: Context, quarter: Quarter) -> None:
    with pytest.raises(NotFound):
        find_invoice(context, "ACME-000009")
    with pytest.raises(NotFound):
        explain_invoice(context, quarter.organization_id, uuid4())


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
    assert found["recomputed"] == agreeing(minor)


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
