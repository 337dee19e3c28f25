"""A correction stands beside its event, counts by its number, and changes nothing that stands already."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.orm import Session

from billing.errors import Conflict, InvalidTerms, NotFound
from billing.periods import Period
from models import billing_queries, closing_queries
from models.subscriptions import ProductSubscription
from tasks import (
    accounts,
    adjusting,
    drafting,
    explain,
    invariants,
    invoice_rows,
    quarantine,
    usage,
    usage_corrections,
)
from tasks.access import access
from tasks.context import Context
from tasks.queue import TryLater
from tasks.usage_corrections import Corrected, CorrectionTerms
from tests.integration.factories import (
    Quarter,
    TestDatabase,
    acme_with_a_quarter,
    catalog_rows,
    fresh_database,
    offline_context,
)

NOW = datetime(2026, 4, 20, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def database() -> Iterator[TestDatabase]:
    with fresh_database("corrections") as made:
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


def corrected(
    context: Context, acme: Quarter, event_id: str, quantity: str | None, **terms: Any
) -> Corrected:
    said = CorrectionTerms(
        event_id=event_id,
        quantity=None if quantity is None else Decimal(quantity),
        **{"reason": "read wrongly", "who": "a test", **terms},
    )
    return usage_corrections.correct(context, acme.product_id, acme.organization_id, said)


def standing(context: Context, acme: Quarter) -> list[tuple[str, int, str, Decimal | None]]:
    with context.database.tenant(acme.organization_id) as session:
        rows = session.execute(
            text(
                "SELECT event_id, number, kind, quantity FROM tenant.usage_corrections "
                "ORDER BY event_id, number"
            )
        )
        return [tuple(row) for row in rows]


def running_usage(context: Context, acme: Quarter) -> dict[str, str]:
    """What the access check says of April: e5 used 3 runs."""
    return access(context, acme.organization_id, "flow").usage


def test_the_newest_correction_counts_and_the_same_twice_is_one(context: Context, acme: Quarter) -> None:
    assert running_usage(context, acme) == {"runs": "3"}
    first, again = corrected(context, acme, "e5", "7"), corrected(context, acme, "e5", "7.000")

    assert (first.created, again.created, first.correction.id) == (True, False, again.correction.id)
    assert first.effect == "with_its_period"
    assert running_usage(context, acme) == {"runs": "7"}
    corrected(context, acme, "e5", None)
    assert running_usage(context, acme) == {"runs": "0"}
    corrected(context, acme, "e5", "7")  # not the newest: said anew
    assert running_usage(context, acme) == {"runs": "7"}
    assert standing(context, acme) == [
        ("e5", 1, "quantity", 7),
        ("e5", 2, "void", None),
        ("e5", 3, "quantity", 7),
    ]
    assert invariants.check(context) == []


def test_a_key_names_one_correction_for_ever(context: Context, acme: Quarter) -> None:
    first = corrected(context, acme, "e5", "7", idempotency_key="k")
    corrected(context, acme, "e5", "8")

    late_repeat = corrected(context, acme, "e5", "7", idempotency_key="k")

    assert (late_repeat.created, late_repeat.correction.id) == (False, first.correction.id)
    assert running_usage(context, acme) == {"runs": "8"}
    for event_id, quantity in (("e5", "9"), ("e1", "7")):
        with pytest.raises(Conflict):
            corrected(context, acme, event_id, quantity, idempotency_key="k")


def test_an_event_on_an_invoice_is_adjusted_and_the_accounts_stay(context: Context, acme: Quarter) -> None:
    before = accounts.batch_accounts(context, acme.product_id, acme.batch_id)

    assert corrected(context, acme, "e1", None).effect == "adjustment"

    assert accounts.batch_accounts(context, acme.product_id, acme.batch_id) == before
    assert invariants.check(context) == []


def test_a_quarantined_event_stays_there_with_its_new_quantity(
    context: Context, acme: Quarter, database: TestDatabase
) -> None:
    assert corrected(context, acme, "e6", "5").effect == "quarantined"
    (held,) = quarantine.held(context)
    assert (held.organization, held.product, held.metric, held.events) == ("acme", "flow", "runs", 1)

    # A subscription for its time appears: it waits there as corrected.
    database.break_by("UPDATE tenant.subscription_items SET started_at = '2025-11-01Z'")
    found, left = quarantine.redrive(context, organization="acme", product="flow")

    assert (found, left) == (1, [])
    assert corrected(context, acme, "e6", "5").created is False
    with context.database.tenant(acme.organization_id) as session:
        state, quantity = session.execute(
            text("SELECT state, quantity FROM tenant.usage_records WHERE event_id = 'e6'")
        ).one()
    assert (state, quantity) == ("waiting", 1)


def test_what_nothing_bills_says_why_and_says_it_anew_when_driven_again(
    context: Context, acme: Quarter, database: TestDatabase
) -> None:
    def reasons() -> dict[str, int]:
        return {group.reason: group.events for group in quarantine.held(context, product="flow")}

    database.break_by("UPDATE tenant.usage_records SET reason = 'no_subscription' WHERE event_id = 'e6'")
    database.break_by("UPDATE catalog.plan_charges SET currency = 'ZAR'")
    event = {
        "event_id": "unpriced",
        "organization": "acme",
        "product": "flow",
        "metric": "runs",
        "timestamp": NOW.isoformat(),
    }
    usage.accept_batch(context, acme.product_id, [event], idempotency_key=None, digest="d")
    usage.drain(context)
    assert reasons() == {"no_subscription": 1, "no_charge": 1}

    database.break_by("UPDATE tenant.subscription_items SET started_at = '2025-11-01Z'")
    assert quarantine.redrive(context)[0] == 0
    assert reasons() == {"no_charge": 2}
    database.break_by("UPDATE catalog.plan_charges SET currency = 'USD'")
    quarantine.redrive_later(context, "a repair")
    with context.database.system() as session:
        jobs = session.execute(text("SELECT kind, subject_id FROM ops.jobs")).all()
    assert jobs == [("usage.redrive", acme.product_id)]
    assert quarantine.redrive(context) == (2, [])


def test_what_cannot_be_corrected_is_refused(context: Context, acme: Quarter, database: TestDatabase) -> None:
    with pytest.raises(NotFound):
        corrected(context, acme, "e99", "1")
    for reason in ("", "  ", "x" * 301):
        with pytest.raises(InvalidTerms) as refusal:
            corrected(context, acme, "e5", "1", reason=reason)
        assert refusal.value.field == "reason"
    event = {
        "event_id": "on-its-way",
        "organization": "acme",
        "product": "flow",
        "metric": "runs",
        "timestamp": NOW.isoformat(),
    }
    usage.accept_batch(context, acme.product_id, [event], idempotency_key=None, digest="d")
    with pytest.raises(TryLater):
        corrected(context, acme, "on-its-way", "2")
    usage.drain(context)
    assert corrected(context, acme, "on-its-way", "2").created
    with Session(database.owner) as session, session.begin():
        globex = acme_with_a_quarter(session, "globex", rows=catalog_rows(session))
        session.execute(
            text("DELETE FROM tenant.usage_records WHERE event_id = 'e5' AND organization_id = :id"),
            {"id": globex.organization_id},
        )
    with pytest.raises(NotFound):
        corrected(context, globex, "e5", "1")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE tenant.usage_corrections SET quantity = 1",
        "UPDATE tenant.usage_corrections SET reason = 'another'",
        "DELETE FROM tenant.usage_corrections",
    ],
)
def test_a_correction_that_stands_cannot_be_changed(context: Context, acme: Quarter, statement: str) -> None:
    corrected(context, acme, "e5", "7")
    with (
        pytest.raises(ProgrammingError, match="permission denied"),
        context.database.tenant(acme.organization_id) as session,
    ):
        session.execute(text(statement))


EXPLAINED = """\
Flow: corrected runs  -$0.40
  quantity  90 run: sum of 2 events (1 more never happened, as corrected)
  cause     2 corrections were made after the period was invoiced:
              e1 should have been 40: retries were counted
              e3 never happened: a test run
            $1.20 for the whole period
            less $1.60 that 1 earlier line charged for it
  again     computed anew from its events: -$0.40, the same
  events    2026-01-02T12:00:00Z        60  e1
              corrected on DAY by a test: should have been 40 (retries were counted)
            2026-01-31T12:00:00Z        15  e3  (not counted)
              corrected on DAY by a test: never happened (a test run)"""


def test_an_adjustment_explains_what_was_said_and_what_was_corrected(context: Context, acme: Quarter) -> None:
    # January was 60 + 50 + 15 runs = 1.60; now 40 + 50 = 90, of which 80 cost 1.5 cents = 1.20
    corrected(context, acme, "e1", "40", reason="retries were counted")
    corrected(context, acme, "e3", None, reason="a test run")
    made = adjusting.adjust(context, acme.organization_id, acme.subscription_id, actor="a test")
    assert made is not None
    with context.tenant(acme.organization_id) as unit:
        drafting.rate_draft(unit, invoice_rows.find(unit, made.id), None)
        (line,) = billing_queries.lines(unit.session, made)

    told = explain.explain_text(explain.explain_line(context, acme.organization_id, made.id, line.id))

    words = re.sub(r"corrected on [0-9-]{10}", "corrected on DAY", told).partition("line 1: ")[2]
    assert [row for row in words.splitlines() if row in EXPLAINED.splitlines()] == EXPLAINED.splitlines()
    before = explain.explain_line(context, *explain.find_line(context, "ACME-000001/2"))
    assert before["recomputed"]["agrees"]
    assert "corrected on" in explain.explain_text(before)
    assert "on another line: never happened (a test run)" in explain.explain_text(before)


@pytest.mark.parametrize("most", [1, 2, 3, 100])
def test_a_line_takes_any_number_of_records_a_slice_at_a_time(
    context: Context, acme: Quarter, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(closing_queries, "MOST_TAKEN", most)
    days = (5, 6, 6, 7)
    events = [
        {
            "event_id": f"slice-{number}",
            "organization": "acme",
            "product": "flow",
            "metric": "runs",
            "quantity": 10,
            "timestamp": f"2026-04-0{day}T00:00:00Z",
        }
        for number, day in enumerate(days)
    ]
    usage.accept_batch(context, acme.product_id, events, idempotency_key=None, digest="d")
    usage.drain(context)
    april = Period(datetime(2026, 4, 1, tzinfo=UTC), datetime(2026, 5, 1, tzinfo=UTC))
    with context.tenant(acme.organization_id) as unit:
        subscription = unit.session.get_one(ProductSubscription, (acme.organization_id, acme.subscription_id))
        drafting.rate_draft(unit, invoice_rows.draft(unit, subscription, "cycle", april), None)

    # e5 with 3 runs, and four with 10 each: 43, of which 33 cost 1.5 cents = 49.5, rounded half away
    with context.database.tenant(acme.organization_id) as session:
        line = session.execute(
            text(
                "SELECT quantity, amount_minor FROM tenant.invoice_lines "
                "WHERE kind = 'usage' AND period_start_at = :start_at"
            ),
            {"start_at": april.start},
        ).one()
    assert tuple(line) == (43, 50)
    assert [each for each in invariants.check(context) if each.invariant == "I1"] == []


# One void correction of e1, which January's usage line has taken.
COUNTED = (
    "INSERT INTO tenant.usage_corrections (organization_id, id, product_id, event_id, number, kind, reason, "
    "who, meter_id, occurred_at, invoice_line_id) SELECT r.organization_id, gen_random_uuid(), r.product_id, "
    "r.event_id, 1, 'void', 'a test', 'a test', r.meter_id, r.occurred_at, {line} "
    "FROM tenant.usage_records r WHERE r.event_id = '{event}'"
)
OTHER_LINE = "(SELECT id FROM tenant.invoice_lines WHERE key = 'usage:2026-02-01')"
FAULTS = {
    "of a line of another period": (
        COUNTED.format(line=OTHER_LINE, event="e1"),
        "the correction of usage event e1 is counted by a line of another item, meter, group or period",
    ),
    "of an event that waits": (
        COUNTED.format(line=OTHER_LINE, event="e5"),
        "the correction of usage event e5 is counted by a line, but its event is not",
    ),
    "that the adjustment has lost": (
        "UPDATE tenant.invoice_lines SET kind = 'adjustment', explanation = explanation || "
        "jsonb_build_object('adjusts', jsonb_build_object('corrected_events', 2)) "
        "WHERE key = 'usage:2026-02-01'",
        "an adjustment names 2 corrections as its cause and has counted 0",
    ),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_misplaced_correction_breaks_the_first_invariant(
    context: Context, acme: Quarter, database: TestDatabase, fault: tuple[str, str]
) -> None:
    statement, sentence = fault
    database.break_by(statement.replace("usage:", r"usage\:"))

    found = [breach.detail for breach in invariants.check(context) if breach.invariant == "I1"]

    assert sentence in found
