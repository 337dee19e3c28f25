"""Pricing as code: what a file changes in the catalog, and what it never touches."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner
from sqlalchemy import text

from billing.errors import InvalidTerms
from cli.commands import catalog as commands
from models import sale_queries
from tasks import catalog
from tasks.catalog import Touching
from tasks.catalog_spec import CatalogSpec, PlanSpec
from tasks.catalog_stored import as_file, stored
from tasks.context import Context
from tests.integration.factories import TestDatabase, fresh_database, offline_context

NOW = datetime(2026, 4, 3, tzinfo=UTC)
MONTHLY = ("USD", "month")


@pytest.fixture(scope="module")
def database() -> Iterator[TestDatabase]:
    with fresh_database("catalog_as_code") as made:
        yield made


@pytest.fixture
def context(database: TestDatabase) -> Iterator[Context]:
    database.empty()
    with offline_context(database, wall=NOW) as made:
        catalog.seed(made)
        yield made


def now_sold(context: Context) -> CatalogSpec:
    with context.system() as unit:
        return stored(unit.session)


def changed_plan(context: Context, code: str = "autoflow-starter", /, **changes: object) -> str:
    """The catalog as a file, with one plan changed."""
    spec = now_sold(context)
    plan: PlanSpec = replace(spec.plans[code], **changes)  # type: ignore[arg-type]
    return as_file(replace(spec, plans={**spec.plans, code: plan}))


def priced(context: Context, minor: int) -> str:
    prices = now_sold(context).plans["autoflow-starter"].prices
    return changed_plan(context, prices={**prices, MONTHLY: minor})


def told(found: list[Touching]) -> list[tuple[str, str, str]]:
    return [(each.change.action.value, each.change.kind, each.change.code) for each in found]


def rows(database: TestDatabase, query: str) -> list[tuple[object, ...]]:
    with database.owner.connect() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


VERSIONS = (
    "SELECT p.version, x.amount_minor, p.superseded_at "
    "FROM catalog.product_plans p JOIN catalog.plan_prices x "
    "ON x.plan_id = p.id AND (x.currency, x.interval) = ('USD', 'month') "
    "WHERE p.code = 'autoflow-starter' ORDER BY p.version"
)


def test_what_is_exported_changes_nothing_when_it_is_applied(context: Context) -> None:
    exported = catalog.export(context)

    assert catalog.diff(context, exported) == []
    assert catalog.apply(context, exported) == []
    assert catalog.export(context) == exported


def test_the_shipped_file_can_be_applied_too(context: Context) -> None:
    assert catalog.diff(context, catalog.shipped()) == []


def test_a_new_price_makes_a_new_version_once(context: Context, database: TestDatabase) -> None:
    file = priced(context, 4_000)

    found = catalog.apply(context, file)
    again = catalog.apply(context, file)

    assert told(found) == [("version", "plan", "autoflow-starter"), ("edit", "bundle", "starter")]
    assert found[0].change.details == ("price USD per month: $35.00 -> $40.00",)
    assert again == []
    assert rows(database, VERSIONS) == [(1, 3_500, NOW), (2, 4_000, None)]


def test_back_to_an_old_price_is_a_third_version(context: Context, database: TestDatabase) -> None:
    for minor in (4_000, 3_500):
        catalog.apply(context, priced(context, minor))

    assert [row[:2] for row in rows(database, VERSIONS)] == [(1, 3_500), (2, 4_000), (3, 3_500)]


def test_bundles_follow_their_members_and_keep_their_price(context: Context, database: TestDatabase) -> None:
    found = catalog.apply(context, priced(context, 4_000))

    assert found[1].change.details == (
        "follows autoflow-starter to its new version",
        "saving USD per month: $6.00 -> $11.00",
    )
    prices = (
        "SELECT x.currency, x.interval, x.version, x.amount_minor, x.superseded_at IS NULL "
        "FROM catalog.bundle_prices x JOIN catalog.subscription_bundles b ON b.id = x.bundle_id "
        "WHERE b.code = 'starter' AND x.currency = 'USD' ORDER BY x.interval, x.version"
    )
    assert rows(database, prices) == [
        ("USD", "month", 1, 5_400, False),
        ("USD", "month", 2, 5_400, True),  # its coupon takes off more
        ("USD", "quarter", 1, 15_390, True),
        ("USD", "year", 1, 54_000, True),
    ]
    with context.system() as unit:
        offer = sale_queries.bundle_offer(unit.session, "starter", "USD", "month")
    assert offer is not None
    assert [(each.plan.version, each.price.amount_minor) for each in offer.members] == [
        (2, 4_000),
        (1, 2_500),
    ]


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"features": ("visual_workflows", "sso")}, "features: +sso, -ai_automation, -email_support"),
        ({"limits": {"workflows": 50}}, "limit connections: 10 -> unlimited"),
        ({"base_charge": "per_seat"}, "base_charge: flat -> per_seat"),
    ],
)
def test_what_a_plan_gives_is_versioned(context: Context, changes: dict[str, object], detail: str) -> None:
    [version, *_] = catalog.apply(context, changed_plan(context, **changes))

    assert version.change.action == "version"
    assert detail in version.change.details


def test_names_and_visibility_change_in_place(context: Context, database: TestDatabase) -> None:
    file = changed_plan(context, name="Beginner", public=False, standalone=False)
    file = file.replace('name = "AutoFlow AI"', 'name = "AutoFlow"')

    found = catalog.apply(context, file)

    assert told(found) == [("edit", "product", "autoflow"), ("edit", "plan", "autoflow-starter")]
    assert found[1].change.details == (
        "name: Starter -> Beginner",
        "public: yes -> no",
        "standalone: yes -> no",
    )
    assert len(rows(database, VERSIONS)) == 1


def test_a_new_currency_is_added_to_the_version_that_is_sold(
    context: Context, database: TestDatabase
) -> None:
    plan = now_sold(context).plans["teamspace-starter"]
    prices = {**plan.prices, ("JPY", "month"): 3_800}

    found = catalog.apply(context, changed_plan(context, plan.code, prices=prices))

    assert told(found) == [("extend", "plan", "teamspace-starter")]
    assert found[0].change.details == ("price JPY per month: JPY 3,800",)
    assert rows(database, "SELECT max(version) FROM catalog.product_plans") == [(1,)]


def test_what_the_file_does_not_name_stays(context: Context) -> None:
    before = now_sold(context)
    alone = replace(before, products={}, plans={}, bundles={})

    assert catalog.apply(context, as_file(alone)) == []
    assert now_sold(context) == before


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ('percentage = "15"', 'percentage = "16"', "tax_rates.za-vat"),
        ('aggregation = "sum"', 'aggregation = "max"', "products.autoflow.meters.workflow_runs.aggregation"),
        ('"teamspace-starter"]', '"teamspace-basic"]', "bundles.starter.members"),
        ('"teamspace-starter"]', '"autoflow-professional"]', "bundles.starter.members"),
        ("month = 5400", "month = 6001", "bundles.starter.prices.USD.month"),
        ("prices.ZAR = { month = 45900, quarter = 130815, year = 459000 }\n", "",
         "bundles.starter.prices.ZAR.month"),
    ],
)  # fmt: skip
def test_a_bad_file_is_refused_by_place_and_nothing_is_applied(
    context: Context, old: str, new: str, place: str
) -> None:
    before = now_sold(context)
    # A change that would be fine comes along.
    file = catalog.export(context).replace('name = "BuildEasy"', 'name = "Built"')
    assert old in file

    with pytest.raises(InvalidTerms) as refused:
        catalog.apply(context, file.replace(old, new))

    assert refused.value.field == place
    assert now_sold(context) == before


def test_a_member_cannot_leave_bundles_while_it_is_in_one(context: Context) -> None:
    with pytest.raises(InvalidTerms, match="autoflow-starter is not available in bundles"):
        catalog.apply(context, changed_plan(context, in_bundles=False))


def test_nothing_is_sold_that_is_hidden_withdrawn_or_of_an_inactive_product(context: Context) -> None:
    def sold(*, private: bool = False) -> bool:
        with context.system() as unit:
            found = sale_queries.plan_offer(unit.session, "autoflow-starter", "USD", "month", private=private)
        return found is not None

    assert sold()
    catalog.apply(context, changed_plan(context, public=False))
    assert not sold() and sold(private=True)  # staff may still sell it
    catalog.apply(context, changed_plan(context, public=True, standalone=False))
    assert not sold() and not sold(private=True)
    catalog.apply(context, changed_plan(context, standalone=True))
    assert sold()
    withdrawn = catalog.export(context).replace('status = "active"', 'status = "inactive"')
    catalog.apply(context, withdrawn)
    assert not sold(private=True)
    with context.system() as unit:
        assert sale_queries.bundle_offer(unit.session, "starter", "USD", "month") is None


def test_the_command_says_what_would_change(
    context: Context, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path_factory.mktemp("catalog") / "catalog.toml"
    file.write_text(priced(context, 4_000), encoding="utf-8")
    monkeypatch.setenv("DATABASE_URL", context.settings.database_url)
    monkeypatch.setenv("DATABASE_AUDITOR_URL", context.settings.auditor_url)
    for name in ("REDIS_URL", "STRIPE_API_KEY", "STRIPE_WEBHOOK_SECRET", "SECRET_KEY", "KEY_PEPPER"):
        monkeypatch.setenv(name, "redis://127.0.0.1:9/0" if name == "REDIS_URL" else "sk_test_1")

    shown = CliRunner().invoke(commands.command, ["diff", str(file)])
    applied = CliRunner().invoke(commands.command, ["apply", str(file), "--no-sync"])
    again = CliRunner().invoke(commands.command, ["diff", str(file)])

    assert shown.output.splitlines() == [
        "^ plan autoflow-starter: new version; 0 live subscriptions stay on the old one",
        "    price USD per month: $35.00 -> $40.00",
        "~ bundle starter: new prices for new subscriptions; 0 live subscriptions keep the old ones",
        "    follows autoflow-starter to its new version",
        "    saving USD per month: $6.00 -> $11.00",
        "2 changes",
    ]
    assert applied.output == shown.output
    assert again.output == "no changes\n"


METER = """
[[products.meters]]
code = "tokens"
name = "Tokens"
unit = "token"
aggregation = "sum"
filters = { "status" = ["ok"], "cached" = [false] }
group_by = ["model", "region"]

"""
CHARGES = """
[products.plans.starter.charges.tokens.{currency}]
model = "per_unit"
unit_price = "0.5"

[[products.plans.starter.charges.tokens.{currency}.groups]]
match = {{ model = ["large", "xl"], region = "eu" }}
model = "graduated"
included = "100"
tiers = [{{ up_to = "1000", unit_price = "2" }}, {{ unit_price = "1" }}]
"""


def with_tokens(context: Context) -> str:
    """The catalog with a meter for AutoFlow that filters, and a price for it with a group."""
    charges = "".join(CHARGES.format(currency=currency) for currency in ("USD", "ZAR"))
    head, product, rest = catalog.export(context).partition('code = "autoflow"')
    rest = rest.replace("[[products.meters]]", f"{METER}[[products.meters]]", 1)
    rest = rest.replace("[products.plans.professional]", f"{charges}\n[products.plans.professional]", 1)
    return head + product + rest


def test_meters_with_filters_and_prices_with_groups_come_back_as_they_went(context: Context) -> None:
    found = catalog.apply(context, with_tokens(context))

    assert told(found)[:2] == [("add", "meter", "autoflow.tokens"), ("version", "plan", "autoflow-starter")]
    assert found[1].change.details[0] == (
        "charge tokens in USD: none -> per_unit, unit_price 0.5; model large or xl, region eu: graduated, "
        "included 100, tiers [{'up_to': '1000', 'unit_price': '2'}, {'unit_price': '1'}]"
    )
    exported = catalog.export(context)
    assert catalog.diff(context, exported) == []
    assert 'filters = { cached = [false], status = ["ok"] }' in exported
    assert 'match = { model = ["large", "xl"], region = "eu" }' in exported


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("filters", ('["ok"]', '["ok", "slow"]')),
        ("group_by", ('["model", "region"]', '["model", "region", "a"]')),
    ],
)
def test_what_a_meter_counts_and_tells_apart_never_changes(
    context: Context, name: str, change: tuple[str, str]
) -> None:
    catalog.apply(context, with_tokens(context))
    changed = catalog.export(context).replace(*change)

    with pytest.raises(InvalidTerms) as refusal:
        catalog.apply(context, changed)
    assert refusal.value.field == f"products.autoflow.meters.tokens.{name}"
