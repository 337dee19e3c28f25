"""Filters and groups on real rows: one line per group, each record in one of them, each explained again."""

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from billing.groups import GroupedTerms, match_record, read_match
from billing.metering import group_key, matches
from billing.periods import Period
from models.catalog import PlanCharge
from models.metering_sql import group_number, group_values, passes
from models.subscriptions import ProductSubscription
from tasks import drafting, invariants, invoice_rows, rollups, usage
from tasks.context import Context
from tasks.current_usage import current_usage, plain
from tasks.explain import explain_line, explain_text
from tests.integration.factories import (
    CatalogRows,
    TestDatabase,
    catalog,
    fresh_database,
    offline_context,
    organization,
    subscribed,
)

NOW = datetime(2026, 2, 1, 1, tzinfo=UTC)
TERMS: dict[str, Any] = {"model": "per_unit", "currency": "USD", "unit_price": "2", "included": "10"}
GROUPS: list[dict[str, Any]] = [
    {"match": {"region": "eu", "model": ["large", "xl"]}, **TERMS, "unit_price": "9", "included": "1"},
    {"match": {"region": ["eu", "uk"]}, **TERMS, "unit_price": "3.5"},
]
FILTERS: dict[str, Any] = {"status": ["ok"]}


@pytest.fixture(scope="module")
def database() -> Iterator[TestDatabase]:
    with fresh_database("usage_groups") as made:
        yield made


@pytest.fixture
def context(database: TestDatabase) -> Iterator[Context]:
    database.empty()
    with offline_context(database, wall=NOW) as made:
        yield made


class Grouped:
    """Acme, subscribed in January to a meter with filters and a price with groups."""

    def __init__(self, context: Context, owner: Session, aggregation: str, groups: Any, filters: Any) -> None:
        rows: CatalogRows = catalog(owner, aggregation=aggregation)
        rows.meter.filters, rows.meter.group_by = filters, ["model", "region"]
        charge = owner.query(PlanCharge).one()
        charge.terms = GroupedTerms.from_record({**TERMS, "groups": groups}).to_record()
        acme = organization(owner, "acme")
        self.context, self.organization_id, self.product_id = context, acme.id, rows.product.id
        self.subscription_id = subscribed(owner, rows, acme, datetime(2026, 1, 1, tzinfo=UTC)).subscription.id

    def uses(self, *events: tuple[str, int, dict[str, Any]], day: int = 5) -> None:
        raw = [
            {
                "event_id": event_id,
                "organization": "acme",
                "product": "flow",
                "metric": "runs",
                "quantity": quantity,
                "timestamp": f"2026-01-{day:02}T10:00:00Z",
                "properties": properties,
            }
            for event_id, quantity, properties in events
        ]
        usage.accept_batch(self.context, self.product_id, raw, idempotency_key=None, digest=repr(raw))
        usage.drain(self.context)

    def bills(self, kind: str = "cycle") -> list[dict[str, Any]]:
        """January is closed, or what came late is billed by itself. Returns the usage lines, explained."""
        with self.context.tenant(self.organization_id) as unit:
            subscription = unit.session.get_one(
                ProductSubscription, (self.organization_id, self.subscription_id)
            )
            if kind == "cycle":
                invoice = drafting.rehearsed(unit, subscription)
            else:
                period = Period(NOW, NOW)
                invoice = invoice_rows.draft(unit, subscription, "adjustment", period)
                drafting.rate_draft(unit, invoice, None)
            lines = unit.session.execute(
                text(
                    "SELECT id FROM tenant.invoice_lines "
                    "WHERE invoice_id = :id AND meter_id IS NOT NULL ORDER BY position"
                ),
                {"id": invoice.id},
            )
            ids: list[UUID] = list(lines.scalars())
        return [
            explain_line(self.context, self.organization_id, invoice.id, line_id, page_size=1000)
            for line_id in ids
        ]


@pytest.fixture
def acme(context: Context, database: TestDatabase, request: pytest.FixtureRequest) -> Grouped:
    aggregation, groups, filters = getattr(request, "param", ("sum", GROUPS, FILTERS))
    with Session(database.owner, expire_on_commit=False) as owner, owner.begin():
        return Grouped(context, owner, aggregation, groups, filters)


def told(lines: list[dict[str, Any]]) -> list[tuple[str, str, int, list[str]]]:
    assert all(line["recomputed"]["agrees"] for line in lines)
    return [
        (
            line["line"]["description"],
            line["quantity"]["value"],
            line["line"]["amount_minor"],
            sorted(event["event_id"] for event in line["events"]["items"]),
        )
        for line in lines
    ]


JANUARY: tuple[tuple[str, int, dict[str, Any]], ...] = (
    ("a", 5, {"status": "ok", "region": "eu", "model": "xl"}),
    ("b", 7, {"status": "ok", "region": "eu", "model": "large"}),
    ("c", 20, {"status": "ok", "region": "eu", "model": "small"}),
    ("d", 1, {"status": "ok", "region": "uk"}),
    ("e", 12, {"status": "ok"}),
    ("f", 99, {"status": "failed", "region": "uk"}),
    ("g", 99, {}),
)


def test_each_group_is_a_line_with_terms_of_its_own(context: Context, acme: Grouped) -> None:
    acme.uses(*JANUARY)

    lines = acme.bills()

    assert told(lines) == [
        ("Flow: Runs, model large or xl, region eu", "12", 99, ["a", "b"]),  # 12 - 1 at 9
        ("Flow: Runs, region eu or uk", "21", 39, ["c", "d", "f"]),  # 21 - 10 at 3.5 = 38.5
        ("Flow: Runs, any other model and region", "12", 4, ["e", "g"]),  # 12 - 10 at 2
    ]
    assert [line["quantity"]["excluded"] for line in lines] == [0, 1, 1]
    assert [event["event_id"] for event in lines[1]["events"]["items"] if not event["counts"]] == ["f"]
    assert "sum of 2 events (1 more do not pass the meter's filters)" in explain_text(lines[1])
    assert "f  (not counted)" in explain_text(lines[1])
    assert invariants.check(context) == []


def test_what_is_shown_so_far_is_what_the_invoice_charges(context: Context, acme: Grouped) -> None:
    acme.uses(*JANUARY)
    before = current_usage(context, acme.organization_id, acme.subscription_id)
    rollups.write(context)
    shown = current_usage(context, acme.organization_id, acme.subscription_id)
    lines = acme.bills()

    assert before.metrics and [each.cost_so_far for each in before.metrics] == [
        each.cost_so_far for each in shown.metrics
    ]
    # The period is over: nothing is left to project.
    assert [
        (
            each.group,
            plain(each.quantity),
            plain(each.overage),
            each.cost_so_far.minor,
            each.projected_cost.minor,
        )
        for each in shown.metrics
    ] == [
        (
            line["line"]["description"].partition(", ")[2],
            line["quantity"]["value"],
            line["quantity"]["billable"],
            line["line"]["amount_minor"],
            line["line"]["amount_minor"],
        )
        for line in lines
    ]
    assert shown.cost_so_far.minor == sum(line["line"]["amount_minor"] for line in lines)


def test_a_late_event_adjusts_its_own_group_alone(context: Context, acme: Grouped) -> None:
    acme.uses(*JANUARY)
    acme.bills()
    acme.uses(
        ("late", 4, {"status": "ok", "region": "uk"}),
        ("late and excluded", 4, {"status": "failed", "region": "us"}),
    )

    assert told(acme.bills("adjustment")) == [
        ("Flow: late runs, region eu or uk", "25", 14, ["late"]),  # 15 at 3.5 = 52.5; 53 less 39
        ("Flow: late runs, any other model and region", "12", 0, ["late and excluded"]),
    ]
    assert invariants.check(context) == []


def test_a_record_in_the_line_of_another_group_is_a_breach(
    context: Context, acme: Grouped, database: TestDatabase
) -> None:
    acme.uses(*JANUARY)
    acme.bills()
    database.break_by(
        "UPDATE tenant.usage_records SET invoice_line_id = "
        "(SELECT invoice_line_id FROM tenant.usage_records WHERE event_id = 'a') WHERE event_id = 'e'"
    )

    found = [breach for breach in invariants.check(context) if breach.subject_id == "e"]
    assert [(breach.invariant, breach.detail) for breach in found] == [
        ("I1", "usage event e is rated by a line of another item, meter, group or period")
    ]


@pytest.mark.parametrize("acme", [("sum", [{**GROUPS[0], "minimum_minor": 500}], {})], indirect=True)
def test_a_minimum_is_due_without_any_event(context: Context, acme: Grouped) -> None:
    assert told(acme.bills()) == [("Flow: Runs, model large or xl, region eu", "0", 500, [])]
    assert told(acme.bills("adjustment")) == []
    assert invariants.check(context) == []


@pytest.mark.parametrize(
    ("acme", "quantities"),
    [
        (("count", GROUPS, FILTERS), ["2", "2", "1"]),
        (("max", GROUPS, FILTERS), ["7", "20", "12"]),
        (("min", GROUPS, FILTERS), ["5", "1", "12"]),
        (("avg", GROUPS, FILTERS), ["6", "10.5", "12"]),
        (("last", GROUPS, FILTERS), ["7", "1", "12"]),
    ],
    indirect=["acme"],
)
def test_every_aggregation_counts_by_group(acme: Grouped, quantities: list[str]) -> None:
    acme.uses(*JANUARY)

    assert [line[1] for line in told(acme.bills())] == quantities


@pytest.mark.parametrize("acme", [("time_weighted_sum", GROUPS, {})], indirect=True)
def test_a_mean_level_is_that_of_its_group(acme: Grouped) -> None:
    acme.uses(*JANUARY)

    # From 5 January 10:00 on: 26 days and 14 hours of 31 days.
    part = Fraction(26 * 24 + 14, 31 * 24)
    assert [Fraction(line[1]) for line in told(acme.bills())] == [12 * part, 120 * part, 111 * part]


VALUES = ("eu", "uk", "", "1", 1, 0, True, False, 2**62, "ß", "null", '"', "\\u0041", "A")


def test_sql_and_python_answer_alike(database: TestDatabase) -> None:
    """The same events pass, in the same group, with the same values, whoever is asked."""
    seed = random.SystemRandom().randrange(10**9)
    rng = random.Random(seed)
    names = ("region", "model", "a b", 'qu"ote')

    def properties() -> dict[str, Any]:
        return {name: rng.choice(VALUES) for name in names if rng.random() < 0.7}

    def match() -> dict[str, Any]:
        drawn = {name: rng.sample(VALUES, rng.randint(1, 5)) for name in rng.sample(names, rng.randint(0, 2))}
        return match_record(read_match(drawn, field="match"))

    statement = text(
        f"SELECT {passes('p', 'f')}, {group_number('p', 'g')}, {group_values('p', 'n')} "
        "FROM (SELECT CAST(:p AS jsonb) p, CAST(:f AS jsonb) f, CAST(:g AS jsonb) g, CAST(:n AS jsonb) n) q"
    )
    with database.owner.connect() as connection:
        for _ in range(2_000):
            had, filters, listed = properties(), match(), [match() for _ in range(rng.randint(0, 4))]
            group_by = rng.sample(names, rng.randint(0, 3))
            values = {
                "p": json.dumps(had) if had or rng.random() < 0.5 else None,
                "f": json.dumps(filters),
                "g": json.dumps(listed),
                "n": json.dumps(group_by),
            }
            passing, number, grouped = connection.execute(statement, values).one()
            place = next((n for n, each in enumerate(listed, start=1) if matches(had, each)), 0)
            assert (passing, number) == (matches(had, filters), place), f"seed {seed}: {values}"
            assert grouped == json.loads(group_key(had, group_by) or "{}"), f"seed {seed}: {values}"
