"""A backtest comes to what the facts say, rated the slow way; of an unchanged plan it comes to nothing."""

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from billing.calendar import calendar_period
from billing.errors import InvalidTerms
from billing.groups import Group, GroupedTerms
from billing.rating import ChargeModel, ChargeTerms, Tier
from models.invoices import Invoice
from models.organizations import Organization
from models.usage import UsageRecord
from tasks import backtest, backtest_text
from tasks.backtest import Backtest, BacktestTerms
from tasks.catalog import export
from tasks.catalog_spec import CatalogSpec
from tasks.catalog_stored import as_file, stored
from tasks.context import Context
from tests.integration.factories import (
    Subscribed,
    TestDatabase,
    acme_with_a_quarter,
    batch,
    catalog,
    catalog_rows,
    fresh_database,
    offline_context,
    organization,
    subscribed,
)
from tests.integration.test_usage_groups import FILTERS, GROUPS, JANUARY, Grouped
from tests.property.slow_rater import Fact, slow_charge, slow_quantity

QUARTER = BacktestTerms(period=calendar_period("2026-Q1"))
AGGREGATIONS = ("sum", "count", "max", "min", "avg", "unique", "last", "time_weighted_sum")


@pytest.fixture(scope="module")
def database() -> Iterator[TestDatabase]:
    with fresh_database("backtest") as made:
        yield made


@pytest.fixture
def context(database: TestDatabase) -> Iterator[Context]:
    database.empty()
    with offline_context(database, wall=datetime(2026, 4, 3, tzinfo=UTC)) as made:
        yield made


@pytest.fixture
def quarter(context: Context, database: TestDatabase) -> None:
    with Session(database.owner) as session, session.begin():
        acme_with_a_quarter(session)


def drafted(context: Context, terms: ChargeTerms | GroupedTerms | None, price_minor: int = 4900) -> str:
    """The catalog as it is, but for the plan's price and what its meter costs."""
    with context.system() as unit:
        spec = stored(unit.session)
    plan = spec.plans["flow-pro"]
    grouped = GroupedTerms(terms) if isinstance(terms, ChargeTerms) else terms
    charges = {} if grouped is None else {("runs", "USD"): grouped}
    changed = replace(plan, prices={("USD", "month"): price_minor}, charges=charges)
    return as_file(CatalogSpec(tiers=spec.tiers, products=spec.products, plans={"flow-pro": changed}))


def total(found: Backtest) -> tuple[int, int, int]:
    tally = found.tally.currencies["USD"].total
    return tally.invoiced, tally.before, tally.after


def test_the_unchanged_plan_differs_by_nothing(context: Context, quarter: None) -> None:
    found = backtest.run(context, export(context), QUARTER)

    # 1.60 of January; 49.00 for February and March (January's was charged before the rows begin).
    assert total(found) == (9960, 9960, 9960)
    assert found.proven
    assert found.tally.currencies["USD"].counted() == (0, 0, 1)
    assert (found.counts.periods, found.counts.events, found.counts.still_open) == (3, 4, 0)


def test_a_dearer_draft_says_who_pays_what(context: Context, quarter: None) -> None:
    # 125 runs at 2 cents are 2.50, 7 are 0.14; 55.00 twice.
    draft = drafted(context, ChargeTerms(ChargeModel.per_unit, "USD", unit_price=Fraction(2)), 5500)

    found = backtest.run(context, draft, QUARTER)

    assert backtest_text.as_text(found, "draft.toml") == (
        "draft.toml: billing periods that began 2026-01-01 to 2026-04-01 (UTC)\n"
        "  plans        flow-pro\n"
        "  compared     3 billing periods of 1 organization, 4 events\n"
        "  amounts      Before discounts, coupons, bundle savings, tax and credit: list prices and usage "
        "alone. A bundle's own price is not part of it.\n"
        "\n"
        "USD: 1 organization pays more, 0 less, 0 the same\n"
        "  organization            before             draft        difference\n"
        "  all                     $99.60           $112.64           +$13.04    +13.1 %\n"
        "  acme                    $99.60           $112.64           +$13.04    +13.1 %\n"
        "\n"
        "  plan and charge               before             draft        difference\n"
        "  flow-pro recurring            $98.00           $110.00           +$12.00    +12.2 %\n"
        "  flow-pro runs                  $1.60             $2.64            +$1.04    +65.0 %\n"
        "\n"
        "proof: each of the 5 charges, computed anew by the terms of its time, comes to what was invoiced, "
        "to the cent"
    )
    record = backtest_text.as_record(found)
    assert record["currencies"][0]["organizations"] == [
        {
            "organization": "acme",
            "invoiced_minor": 9960,
            "before_minor": 9960,
            "after_minor": 11264,
            "difference_minor": 1304,
            "percent": "13.1",
        }
    ]
    assert list(backtest_text.as_rows(found)) == [("acme", "USD", 9960, 9960, 11264, 1304)]


def test_a_file_may_hold_the_draft_plan_alone(context: Context, quarter: None) -> None:
    draft = """
    [[products]]
    code = "flow"
    [products.plans.pro]
    prices.USD = 5000
    charges.runs.USD = { model = "per_unit", unit_price = "2" }
    """

    assert total(backtest.run(context, draft, QUARTER)) == (9960, 9960, 10000 + 264)


def test_a_charge_that_is_dropped_costs_nothing(context: Context, quarter: None) -> None:
    assert total(backtest.run(context, drafted(context, None), QUARTER)) == (9960, 9960, 9800)


def test_a_meter_that_the_plan_did_not_charge_counts_its_waiting_events(
    context: Context, quarter: None, database: TestDatabase
) -> None:
    database.break_by("DELETE FROM catalog.plan_charges")
    database.break_by("DELETE FROM tenant.invoice_lines WHERE kind = 'usage'")
    database.break_by(
        "UPDATE tenant.usage_records SET state = 'waiting', invoice_line_id = NULL WHERE state = 'rated'"
    )
    draft = drafted(context, ChargeTerms(ChargeModel.per_unit, "USD", unit_price=Fraction(2)))

    found = backtest.run(context, draft, QUARTER)

    assert total(found) == (9800, 9800, 9800 + 264)
    assert found.proven


def test_only_closed_periods_that_begin_in_the_stretch_count(context: Context, quarter: None) -> None:
    text = export(context)
    february = backtest.run(context, text, BacktestTerms(period=calendar_period("2026-02")))
    april = backtest.run(context, text, BacktestTerms(period=calendar_period("2026-04")))

    assert total(february) == (4900, 4900, 4900)
    assert (april.counts.periods, april.counts.still_open) == (0, 1)
    assert april.tally.currencies == {}


def test_a_period_with_a_voided_line_is_left_out_and_said(
    context: Context, quarter: None, database: TestDatabase
) -> None:
    database.break_by("UPDATE tenant.invoices SET status = 'void' WHERE number = 'ACME-000001'")

    found = backtest.run(context, export(context), QUARTER)

    # The first invoice carries January's usage and February's 49.00: two periods go with it.
    assert found.counts.void == 2
    assert total(found) == (4900, 4900, 4900)
    assert "left out     2 billing periods with a voided invoice" in backtest_text.as_text(found, "x")


def test_a_charge_that_was_not_invoiced_as_its_terms_say_is_told(
    context: Context, quarter: None, database: TestDatabase
) -> None:
    database.break_by("UPDATE tenant.usage_records SET quantity = 61 WHERE event_id = 'e1'")

    found = backtest.run(context, export(context), QUARTER)

    assert not found.proven
    assert (
        "NOT PROVEN: 1 of 5 charges do not come to what was invoiced:\n"
        "  acme, flow-pro version 1, runs, 2026-01-01 to 2026-02-01: invoiced $1.60, computed $1.61"
    ) in backtest_text.as_text(found, "x")


def test_of_other_currencies_and_organizations_nothing_is_told(context: Context, quarter: None) -> None:
    with context.system() as unit:
        acme = unit.session.execute(text("SELECT id FROM catalog.organizations")).scalar_one()
    own = replace(QUARTER, organization_id=acme, currency="USD")

    assert total(backtest.run(context, export(context), own)) == (9960, 9960, 9960)
    assert backtest.run(context, export(context), replace(QUARTER, currency="ZAR")).tally.currencies == {}


def test_a_currency_that_the_draft_does_not_sell_in_is_left_out(context: Context, quarter: None) -> None:
    draft = drafted(context, None).replace("USD", "EUR")

    found = backtest.run(context, draft, QUARTER)

    assert found.counts.unpriced == 5
    assert found.tally.currencies == {}


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ('name = "Flow"', 'name = "Flow', "file"),
        ('billing_type = "hybrid"', 'billing_type = "odd"', "products.flow.billing_type"),
        ('model = "graduated"', 'model = "odd"', "products.flow.plans.pro.charges.runs.USD.model"),
        ("month = 4900", "month = -1", "products.flow.plans.pro.prices.USD.month"),
        ('aggregation = "sum"', 'aggregation = "max"', "products.flow.meters.runs"),
        ('code = "flow"', 'code = "glow"', "file"),
    ],
)
def test_a_bad_file_is_refused_by_its_place(
    context: Context, quarter: None, old: str, new: str, field: str
) -> None:
    with pytest.raises(InvalidTerms) as refusal:
        backtest.run(context, export(context).replace(old, new), QUARTER)
    assert refusal.value.field == field


def test_nothing_can_be_written(context: Context, quarter: None) -> None:
    with context.auditor.snapshot() as session, pytest.raises(Exception, match="read-only transaction"):
        session.execute(text("UPDATE tenant.invoices SET status = 'void'"))


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("seed", range(3))
def test_any_draft_comes_to_what_the_facts_come_to_the_slow_way(
    context: Context, database: TestDatabase, aggregation: str, seed: int
) -> None:
    chance = random.Random(f"{aggregation} {seed}")
    sold, rest = _any_terms(chance), _any_terms(chance)
    groups = [Group({"workflow": ("w0", "w9")}, _any_terms(chance)), Group({"workflow": ("w1",)}, rest)]
    draft = GroupedTerms(rest, tuple(groups[: seed % 3]))
    with Session(database.owner) as session, session.begin():
        catalog(session, aggregation=aggregation, terms=sold).meter.group_by = ["workflow"]
        for number in range(3):
            _with_a_past(session, chance, f"org-{number}", sold)

    unchanged = backtest.run(context, export(context), QUARTER)
    found = backtest.run(context, drafted(context, draft, 6100), QUARTER)

    assert unchanged.proven and found.proven, backtest_text.as_text(found, "draft")
    assert all(each.difference == 0 for _, each in unchanged.tally.currencies["USD"].ranked())
    by_hand = _by_hand(database, aggregation, draft, 6100)
    assert {slug: each.after for slug, each in found.tally.currencies["USD"].ranked()} == by_hand


def _any_terms(chance: random.Random) -> ChargeTerms:
    model = chance.choice([each for each in ChargeModel if each is not ChargeModel.per_seat])
    common: dict[str, Any] = {"fixed": Fraction(chance.choice((0, 30)))}
    if chance.random() < 0.4:
        common["minimum_minor"] = chance.randint(0, 400)
    if chance.random() < 0.4:
        common["maximum_minor"] = chance.randint(500, 2000)
    if model is not ChargeModel.flat:
        common["included"] = Fraction(chance.choice((0, 5, 40)))
    prices = [Fraction(chance.randint(1, 40), chance.choice((1, 2, 10))) for _ in range(3)]
    if model in (ChargeModel.graduated, ChargeModel.volume, ChargeModel.stairstep):
        unit = model is not ChargeModel.stairstep
        common["tiers"] = tuple(
            Tier(bound, price if unit else Fraction(0), Fraction(chance.choice((0, 100))))
            for bound, price in zip((Fraction(20), Fraction(60), None), prices, strict=True)
        )
    elif model is ChargeModel.percentage:
        common["share"] = Fraction(chance.randint(1, 300), 100)
    else:
        common["unit_price"] = prices[0]
        common["package_size"] = Fraction(10) if model is ChargeModel.package else None
    return ChargeTerms(model, "USD", **common)


def _with_a_past(session: Session, chance: random.Random, slug: str, sold: ChargeTerms) -> Subscribed:
    """Three months of any usage, each invoiced; begun on any day of January."""
    rows = replace(catalog_rows(session), terms=sold)
    owner = organization(session, slug)
    began = datetime(2026, 1, chance.randint(1, 20), chance.randint(0, 23), 17, 5, tzinfo=UTC)
    made = subscribed(session, rows, owner, began)
    events = [
        (
            f"{slug}-{number}",
            chance.randint(0, 30),
            began + timedelta(microseconds=chance.randint(0, 95 * 86_400 * 10**6)),
        )
        for number in range(chance.randint(0, 25))
    ]
    made.uses(batch(session, rows, owner, accepted=len(events)), events)
    for month in range(3):
        made.is_invoiced(month)
    return made


def _by_hand(
    database: TestDatabase, aggregation: str, draft: GroupedTerms, price_minor: int
) -> dict[str, int]:
    """Two periods that were charged in advance, and each rated fact of three periods, one by one."""
    of_group = {group.match["workflow"][0]: group.terms for group in draft.groups}
    after: dict[str, int] = {}
    with Session(database.owner) as session:
        for invoice in session.query(Invoice):
            start, end = invoice.period_start_at, invoice.period_end_at
            facts: dict[object, list[Fact]] = {name: [] for name in [*of_group, None]}
            for row in session.query(UsageRecord).filter_by(subscription_id=invoice.subscription_id):
                workflow = str((row.properties or {})["workflow"])
                if row.state == "rated" and start <= row.occurred_at < end:
                    fact = Fact(Fraction(row.quantity), row.occurred_at, row.event_id, workflow)
                    facts[workflow if workflow in of_group else None].append(fact)
            slug = session.get_one(Organization, invoice.organization_id).slug
            for name, those in facts.items():
                terms = of_group.get(str(name), draft.rest).to_record()
                quantity = slow_quantity(aggregation, those, start, end)
                after[slug] = after.get(slug, 2 * price_minor) + slow_charge(quantity, terms)
    return after


def test_filters_and_groups_of_what_was_sold_and_of_the_draft_are_each_their_own(
    context: Context, database: TestDatabase
) -> None:
    with Session(database.owner, expire_on_commit=False) as owner, owner.begin():
        acme = Grouped(context, owner, "sum", GROUPS, FILTERS)
    acme.uses(*JANUARY)
    acme.bills()
    database.break_by(
        "UPDATE tenant.invoices SET status = 'open', number = 'ACME-000001', finalized_at = rated_at"
    )
    # All of the EU at 10 cents, everything else at 1; nothing is included.
    cheap = ChargeTerms(ChargeModel.per_unit, "USD", unit_price=Fraction(1))
    europe = Group({"region": ("eu",)}, replace(cheap, unit_price=Fraction(10)))

    unchanged = backtest.run(context, export(context), QUARTER)
    found = backtest.run(context, drafted(context, GroupedTerms(cheap, (europe,))), QUARTER)

    assert unchanged.proven, backtest_text.as_text(unchanged, "x")
    assert found.tally.currencies["USD"].parts["flow-pro", "runs"].before == 99 + 39 + 4
    counting = [(quantity, told.get("region")) for _, quantity, told in JANUARY if told.get("status") == "ok"]
    by_hand = sum(quantity * (10 if region == "eu" else 1) for quantity, region in counting)
    assert found.tally.currencies["USD"].parts["flow-pro", "runs"].after == by_hand
    assert unchanged.counts.events == len(JANUARY)
