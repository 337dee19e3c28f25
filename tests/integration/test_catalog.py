"""The catalog that ships, as it stands in the database and as the public sees it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from itertools import product as every

import pytest
from sqlalchemy.orm import Session

from billing.money import Money
from billing.rating import ChargeTerms, rate
from models import catalog_queries as queries
from models.catalog import PlanCharge
from models.organization_queries import tax_rate_by_code
from models.reading import product_by_code
from tasks import catalog
from tasks.context import Context
from tests.integration.factories import TestDatabase, fresh_database, offline_context

TIERS = ("starter", "professional", "enterprise")
# The published monthly prices, in minor units: (USD, ZAR), from Starter to Enterprise.
MONTHLY = {
    "autoflow": ((3_500, 64_900), (7_500, 139_900), (14_900, 279_900)),
    "buildeasy": ((3_000, 55_900), (5_000, 92_900), (9_900, 184_900)),
    "teamspace": ((2_500, 45_900), (4_000, 72_900), (7_900, 147_900)),
}
PLANS = list(every(MONTHLY, enumerate(TIERS), enumerate(("USD", "ZAR"))))


@pytest.fixture(scope="module")
def database() -> Iterator[TestDatabase]:
    with fresh_database("catalog") as made:
        yield made


@pytest.fixture
def context(database: TestDatabase) -> Iterator[Context]:
    database.empty()
    with offline_context(database, wall=datetime(2026, 4, 3, tzinfo=UTC)) as made:
        yield made


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    """Inside a seeded catalog that nobody changes."""
    wall = datetime(2026, 4, 3, tzinfo=UTC)
    with fresh_database("catalog_shelf") as made, offline_context(made, wall=wall) as context:
        catalog.seed(context)
        with Session(made.owner) as session:
            yield session


def test_a_second_seed_changes_nothing(context: Context) -> None:
    first = catalog.seed(context)
    second = catalog.seed(context)

    assert first.unchanged == 0 and first.created > 0
    assert (second.created, second.unchanged) == (0, first.created)


def test_two_seeds_at_once_make_one_catalog(context: Context) -> None:
    with ThreadPoolExecutor(2) as both:
        reports = [each.result() for each in [both.submit(catalog.seed, context) for _ in range(2)]]

    made, found = sorted(reports, key=lambda report: report.unchanged)
    assert made.unchanged == 0
    assert (found.created, found.unchanged) == (0, made.created)


def test_a_seed_leaves_what_was_edited_and_puts_back_what_is_gone(
    context: Context, database: TestDatabase
) -> None:
    catalog.seed(context)
    database.break_by("UPDATE catalog.products SET name = 'AutoFlow' WHERE code = 'autoflow'")
    gone = database.break_by("DELETE FROM catalog.plan_prices WHERE currency = 'ZAR' AND interval = 'year'")

    report = catalog.seed(context)

    assert report.created == gone == 9
    with context.database.system() as session:
        edited = product_by_code(session, "autoflow")
        assert edited is not None and edited.name == "AutoFlow"


def test_an_edited_bundle_keeps_its_members(context: Context, database: TestDatabase) -> None:
    catalog.seed(context)
    database.break_by(
        "DELETE FROM catalog.bundle_products WHERE plan_id ="
        " (SELECT id FROM catalog.product_plans WHERE code = 'buildeasy-professional')"
    )

    assert catalog.seed(context).created == 0
    with context.database.system() as session:
        bundle = queries.bundle_by_code(session, "professional")
        assert bundle is not None
        members = [member.plan.code for member in queries.bundle_members(session, bundle.id)]
    assert members == ["autoflow-professional", "teamspace-professional"]


def test_three_products_are_for_sale(session: Session) -> None:
    products = [
        (each.code, each.icon, each.color, each.billing_type) for each in queries.public_products(session)
    ]

    assert products == [
        ("autoflow", "🤖", "#4F46E5", "hybrid"),
        ("buildeasy", "🏗️", "#10B981", "per_user"),
        ("teamspace", "👥", "#F59E0B", "per_user"),
    ]


@pytest.mark.parametrize(("product", "tier", "currency"), PLANS)
def test_each_plan_has_its_price_per_currency_and_interval(
    session: Session, product: str, tier: tuple[int, str], currency: tuple[int, str]
) -> None:
    (rank, tier_code), (column, code) = tier, currency
    monthly = MONTHLY[product][rank][column]
    plan = queries.current_plan(session, f"{product}-{tier_code}")
    assert plan is not None
    prices = {
        interval: queries.plan_price(session, plan.id, code, interval)
        for interval in ("month", "quarter", "year")
    }

    assert {interval: price and price.amount_minor for interval, price in prices.items()} == {
        "month": monthly,
        "quarter": Money(monthly * 3, code).scaled(Fraction(95, 100)).minor,
        "year": monthly * 10,
    }
    assert plan.base_charge == ("flat" if product == "autoflow" else "per_seat")
    assert plan.features and plan.limits


def test_plans_are_listed_from_the_lowest_tier_up(session: Session) -> None:
    listed = queries.public_plans(session, "autoflow")

    assert [(each.tier.code, each.plan.name, len(each.prices), len(each.charges)) for each in listed] == [
        ("starter", "Starter", 6, 2),
        ("professional", "Professional", 6, 2),
        ("enterprise", "Enterprise", 6, 2),
    ]
    assert queries.public_plans(session, "no-such-product") == []


@pytest.mark.parametrize(
    ("tier", "runs", "usd"),
    [
        ("starter", 1_000, 0),
        ("starter", 1_001, 2),
        ("starter", 3_500, 5_000),  # 2,500 x 0.02
        ("professional", 10_000, 0),
        ("professional", 100_000, 135_000),  # 90,000 x 0.015
        ("professional", 150_000, 185_000),  # and 50,000 x 0.01
        ("enterprise", 50_000, 0),
        ("enterprise", 1_000_000, 855_000),  # 950,000 x 0.009
        ("enterprise", 1_500_000, 1_155_000),  # and 500,000 x 0.006
    ],
)
def test_workflow_runs_cost_what_is_published(session: Session, tier: str, runs: int, usd: int) -> None:
    charge = _charge(session, tier, "USD")

    assert rate(Fraction(runs), ChargeTerms.from_record(charge.terms)).amount == Money(usd, "USD")


@pytest.mark.parametrize("tier", TIERS)
def test_rand_terms_have_the_same_shape_as_dollar_terms(session: Session, tier: str) -> None:
    usd, zar = (ChargeTerms.from_record(_charge(session, tier, code).terms) for code in ("USD", "ZAR"))

    assert (zar.currency, zar.model, zar.included) == ("ZAR", usd.model, usd.included)
    assert [step.up_to for step in zar.tiers] == [step.up_to for step in usd.tiers]


def test_seats_have_no_usage_charge(session: Session) -> None:
    for code in ("buildeasy-professional", "teamspace-professional"):
        plan = queries.current_plan(session, code)
        assert plan is not None
        assert queries.plan_charges(session, plan.id, "USD") == []


def test_bundles_show_their_saving(session: Session) -> None:
    listed = {
        (listing.bundle.code, entry.price.currency): (entry.bundle_price.minor, entry.list_price.minor, entry)
        for listing in queries.public_bundles(session)
        for entry in listing.prices
        if entry.price.interval == "month"
    }

    assert {key: (price, alone) for key, (price, alone, _) in listed.items()} == {
        ("starter", "USD"): (5_400, 6_000),
        ("professional", "USD"): (13_500, 16_500),
        ("enterprise", "USD"): (24_900, 32_700),
        ("starter", "ZAR"): (99_900, 110_800),
        ("professional", "ZAR"): (249_900, 305_700),
        ("enterprise", "ZAR"): (464_900, 612_700),
    }
    for (bundle, _), (_, _, entry) in listed.items():
        assert entry.saving_percent == {"starter": 10, "professional": 18, "enterprise": 24}[bundle]


def test_bundles_save_in_every_interval(session: Session) -> None:
    listings = queries.public_bundles(session)

    assert [listing.bundle.code for listing in listings] == list(TIERS)
    for listing in listings:
        assert len(listing.prices) == 6
        assert all(entry.saving.minor > 0 for entry in listing.prices)


def test_south_african_vat_comes_on_top(session: Session) -> None:
    vat = tax_rate_by_code(session, "za-vat")

    assert vat is not None
    assert (vat.percentage, vat.inclusive, vat.country) == (Decimal(15), False, "ZA")


def _charge(session: Session, tier: str, currency: str) -> PlanCharge:
    plan = queries.current_plan(session, f"autoflow-{tier}")
    assert plan is not None
    [(meter, charge)] = queries.plan_charges(session, plan.id, currency)
    assert meter.code == "workflow_runs"
    return charge
