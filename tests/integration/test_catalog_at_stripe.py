"""The catalog at Stripe: every object once, whatever goes wrong on the way."""

import json
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from gateway.errors import GatewayError, Refused, Unreachable
from models import catalog_queries as queries
from models.catalog import PlanPrice, ProductPlan
from models.subscriptions import ProductSubscription, SubscriptionItem
from tasks import catalog
from tasks.context import Context
from tasks.stripe_catalog import AnotherAccount, SyncReport, sync
from tests.contract.account import Account, sandbox_account
from tests.integration.factories import TestDatabase, fresh_database, offline_context, organization

NOW = datetime(2026, 4, 3, tzinfo=UTC)
# 3 products, 9 plans x 2 currencies x 3 intervals, 3 bundles x 2 x 3, 1 tax rate
EVERYTHING = {"product": 3, "price": 54, "coupon": 18, "tax_rate": 1}
ALL = sum(EVERYTHING.values())
ID_COLUMNS = {
    "products": "stripe_product_id",
    "plan_prices": "stripe_price_id",
    "bundle_prices": "stripe_coupon_id",
    "tax_rates": "stripe_tax_rate_id",
}


@pytest.fixture(scope="module")
def database() -> Iterator[TestDatabase]:
    with fresh_database("stripe_catalog") as made:
        yield made


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Account]:
    with sandbox_account() as account:
        yield account


@pytest.fixture
def account(sandbox: Account) -> Iterator[Account]:
    """An empty account without faults."""
    _post(sandbox, "/_sandbox/reset", {})
    yield sandbox
    _post(sandbox, "/_sandbox/faults", {}, method="DELETE")


@pytest.fixture
def context(database: TestDatabase, account: Account) -> Iterator[Context]:
    database.empty()
    with at(database, account, NOW) as made:
        catalog.seed(made)
        yield made


@pytest.fixture
def few(context: Context, database: TestDatabase) -> dict[str, int]:
    """A catalog of TeamSpace Starter alone, for stories that need no more; how many objects it has."""
    for statement in (
        "DELETE FROM catalog.bundle_products",
        "DELETE FROM catalog.bundle_prices",
        "DELETE FROM catalog.subscription_bundles",
        "DELETE FROM catalog.plan_charges",
        "DELETE FROM catalog.meters",
        "DELETE FROM catalog.plan_prices WHERE plan_id <>"
        " (SELECT id FROM catalog.product_plans WHERE code = 'teamspace-starter')",
        "DELETE FROM catalog.product_plans WHERE code <> 'teamspace-starter'",
        "DELETE FROM catalog.products WHERE code <> 'teamspace'",
    ):
        database.break_by(statement)
    return {"product": 1, "price": 6, "coupon": 0, "tax_rate": 1}


@contextmanager
def at(database: TestDatabase, account: Account, wall: datetime) -> Iterator[Context]:
    assert account.base is not None
    with offline_context(database, wall=wall, stripe_api_base=account.base) as made:
        yield made


def counted(account: Account) -> dict[str, int]:
    """How many objects stand at Stripe, each held against the judge."""
    return {kind: len(account.rows(kind)) for kind in EVERYTHING}


def forget_ids(database: TestDatabase) -> None:
    for table, column in ID_COLUMNS.items():
        database.break_by(f"UPDATE catalog.{table} SET {column} = NULL")


def missing_ids(database: TestDatabase) -> int:
    with database.owner.connect() as connection:
        return sum(
            connection.execute(
                text(f"SELECT count(*) FROM catalog.{table} WHERE {column} IS NULL")
            ).scalar_one()
            for table, column in ID_COLUMNS.items()
        )


def _post(account: Account, path: str, body: dict[str, Any], method: str = "POST") -> None:
    request = urllib.request.Request(
        f"{account.base}{path}",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
        method=method,
    )
    with urllib.request.urlopen(request, timeout=10) as reply:
        assert reply.status < 300


def test_everything_is_made_once(context: Context, account: Account, database: TestDatabase) -> None:
    said: list[str] = []

    first = sync(context, progress=said.append)
    again = sync(context, progress=said.append)

    assert first == SyncReport(created=ALL)
    assert again == SyncReport(unchanged=ALL)
    assert counted(account) == EVERYTHING
    assert missing_ids(database) == 0
    assert len(said) == ALL and "created: price autoflow-professional:v1:usd:month" in said


def test_stripe_has_our_figures(context: Context, account: Account) -> None:
    sync(context)

    at_stripe = {
        found["lookup_key"]: (found["id"], found["unit_amount"], found["currency"], _interval(found))
        for found in account.rows("price")
    }
    with context.database.system() as session:
        ours = {
            f"{plan.code}:v1:{price.currency.lower()}:{price.interval}": (
                price.stripe_price_id,
                price.amount_minor,
                price.currency.lower(),
                price.interval,
            )
            for price, plan, _ in queries.all_prices(session)
        }
    assert at_stripe == ours


def test_a_bundle_coupon_takes_off_the_exact_difference(context: Context, account: Account) -> None:
    sync(context)

    coupons = {found["id"]: found for found in account.rows("coupon", expand=["data.applies_to"])}
    with context.database.system() as session:
        listings = queries.all_bundles(session)
    for listing in listings:
        products = {member.product.stripe_product_id for member in listing.members}
        for entry in listing.prices:
            found = coupons[entry.price.stripe_coupon_id]
            assert found["amount_off"] == entry.list_price.minor - entry.price.amount_minor
            assert (found["currency"].upper(), found["duration"]) == (entry.price.currency, "forever")
            assert set(found["applies_to"]["products"]) == products


def test_a_dry_run_writes_nowhere(context: Context, account: Account, database: TestDatabase) -> None:
    said: list[str] = []

    report = sync(context, dry_run=True, progress=said.append)

    assert report == SyncReport(created=ALL)
    assert len(said) == ALL
    assert counted(account) == dict.fromkeys(EVERYTHING, 0)
    assert missing_ids(database) == ALL


def test_what_stands_at_stripe_is_adopted(context: Context, account: Account, database: TestDatabase) -> None:
    sync(context)
    before = _ids(database)
    forget_ids(database)
    database.break_by("DELETE FROM ops.stripe_calls")  # as after restoring an old backup

    report = sync(context)

    assert report == SyncReport(adopted=ALL)
    assert _ids(database) == before
    assert counted(account) == EVERYTHING


def test_a_price_of_another_amount_is_not_adopted(
    context: Context, account: Account, database: TestDatabase
) -> None:
    sync(context)
    forget_ids(database)
    database.break_by("DELETE FROM ops.stripe_calls")
    database.break_by(
        "UPDATE catalog.plan_prices SET amount_minor = 1 WHERE amount_minor = 7500 AND interval = 'month'"
    )

    # AutoFlow Professional's price, and the coupon of the bundle that it is in.
    database.break_by(
        "UPDATE catalog.bundle_prices SET amount_minor = amount_minor - 7499 WHERE amount_minor = 13500"
    )
    report = sync(context)

    assert (report.created, report.adopted) == (1, ALL - 1)
    assert counted(account)["price"] == EVERYTHING["price"] + 1


def test_two_syncs_at_once_make_one_catalog(
    context: Context, account: Account, database: TestDatabase, few: dict[str, int]
) -> None:
    with at(database, account, NOW) as other, ThreadPoolExecutor(2) as both:
        runs = [both.submit(sync, each) for each in (context, other)]
        for run in runs:
            run.result()

    assert counted(account) == few
    assert missing_ids(database) == 0


@pytest.mark.parametrize("fault", ["http_500_after", "timeout_after"])
def test_an_answer_that_is_lost_costs_nothing(
    context: Context, account: Account, database: TestDatabase, few: dict[str, int], fault: str
) -> None:
    # As often as the SDK tries: the price is made, and we hear nothing of it.
    once = [{"operation": "POST /v1/prices", "fault": fault}] * 3
    _post(account, "/_sandbox/faults", {"once": once})

    with suppress(Unreachable):
        sync(context)
    sync(context)

    assert counted(account) == few
    assert missing_ids(database) == 0
    assert states(database) == {"succeeded": 8}


def test_a_call_that_never_arrived_is_sent_again(
    context: Context, account: Account, database: TestDatabase, few: dict[str, int]
) -> None:
    once = [{"operation": "POST /v1/prices", "fault": "http_500_before"}] * 3
    _post(account, "/_sandbox/faults", {"once": once})

    with suppress(Unreachable):
        sync(context)
    sync(context)

    assert counted(account) == few
    assert missing_ids(database) == 0


def test_an_old_intention_is_looked_up_and_never_sent_again(
    context: Context, account: Account, database: TestDatabase, few: dict[str, int]
) -> None:
    sync(context)
    before = _ids(database)
    forget_ids(database)
    database.break_by("UPDATE ops.stripe_calls SET state = 'unknown', reply = NULL, resolved_at = NULL")

    with at(database, account, NOW + timedelta(days=2)) as later:
        sync(later)

    assert _ids(database) == before
    assert counted(account) == few
    assert states(database) == {"succeeded": 8}


def test_an_old_intention_without_a_trace_gives_way_to_a_new_one(
    context: Context, account: Account, database: TestDatabase, few: dict[str, int]
) -> None:
    sync(context)
    forget_ids(database)
    database.break_by("UPDATE ops.stripe_calls SET state = 'unknown', reply = NULL, resolved_at = NULL")
    _post(account, "/_sandbox/reset", {})

    with at(database, account, NOW + timedelta(days=2)) as later:
        sync(later)

    assert counted(account) == few
    # The prices name the new product: new intentions. The product and the tax rate gave up their keys.
    assert states(database) == {"refused": 2, "unknown": 6, "succeeded": 8}


def test_what_stripe_refused_is_tried_again_once_it_is_mended(
    context: Context, account: Account, database: TestDatabase, few: dict[str, int]
) -> None:
    database.break_by("UPDATE catalog.products SET name = ''")
    with pytest.raises(Refused):
        sync(context)

    database.break_by("UPDATE catalog.products SET name = 'TeamSpace'")
    sync(context)

    assert counted(account) == few


def test_a_renamed_product_is_renamed_at_stripe(
    context: Context, account: Account, database: TestDatabase, few: dict[str, int]
) -> None:
    sync(context)
    # Back and forth within a second, where Stripe's own `updated` does not move.
    for name in ("Team Space", "Teamspace", "Team Space", "Teamspace"):
        database.break_by(f"UPDATE catalog.products SET name = '{name}'")

        assert sync(context) == SyncReport(updated=1, unchanged=8)
        assert sync(context) == SyncReport(unchanged=8)
        assert [found["name"] for found in account.rows("product")] == [name]


def test_a_superseded_price_is_archived_and_its_successor_has_a_name_of_its_own(
    context: Context, account: Account, few: dict[str, int]
) -> None:
    sync(context)
    file = catalog.export(context)
    dearer = file.replace("prices.USD = { month = 2500,", "prices.USD = { month = 2700,")
    assert dearer != file
    catalog.apply(context, dearer)

    planned = sync(context, dry_run=True)
    done = sync(context)
    again = sync(context)

    assert planned == done == SyncReport(created=6, archived=6, unchanged=8)
    assert again == SyncReport(unchanged=14)
    prices = {found["lookup_key"]: (found["unit_amount"], found["active"]) for found in account.rows("price")}
    assert prices["teamspace-starter:v1:usd:month"] == (2_500, False)
    assert prices["teamspace-starter:v2:usd:month"] == (2_700, True)
    assert Counter(active for _, active in prices.values()) == {True: 6, False: 6}


def test_a_bundle_gets_a_new_coupon_when_its_member_costs_more(context: Context, account: Account) -> None:
    sync(context)
    file = catalog.export(context)
    catalog.apply(context, file.replace("prices.USD = { month = 2500,", "prices.USD = { month = 2700,"))

    report = sync(context)

    assert (report.created, report.archived) == (7, 6)  # six prices of TeamSpace Starter, one coupon
    off = {
        found["metadata"]["bundle"]: found["amount_off"]
        for found in account.rows("coupon")
        if found["metadata"]["bundle"].startswith("starter:")
    }
    # 54.00 for 35.00 + 25.00, and then + 27.00; who has the old coupon keeps it
    assert (off["starter:v1:usd:month"], off["starter:v2:usd:month"]) == (600, 800)


def test_a_withdrawn_product_is_archived_and_comes_back(
    context: Context, account: Account, few: dict[str, int]
) -> None:
    sync(context)
    file = catalog.export(context)

    for status, active in (("inactive", False), ("active", True), ("inactive", False)):
        catalog.apply(context, file.replace('status = "active"', f'status = "{status}"'))
        assert sync(context) == SyncReport(updated=1, unchanged=8)
        assert [found["active"] for found in account.rows("product")] == [active]
    assert sync(context) == SyncReport(unchanged=8)


def test_a_price_that_a_subscription_is_about_to_start_with_is_archived_later(
    context: Context, database: TestDatabase, account: Account, few: dict[str, int]
) -> None:
    sync(context)
    _about_to_subscribe(database)
    file = catalog.export(context)
    catalog.apply(context, file.replace("prices.USD = { month = 2500,", "prices.USD = { month = 2700,"))

    first = sync(context)
    database.break_by("UPDATE tenant.product_subscriptions SET status = 'incomplete_expired'")
    second = sync(context)

    assert (first.archived, second.archived) == (5, 1)


def test_a_catalog_of_another_account_is_refused(
    context: Context, account: Account, few: dict[str, int]
) -> None:
    sync(context)
    _post(account, "/_sandbox/reset", {})

    with pytest.raises(AnotherAccount, match="teamspace"):
        sync(context)
    assert counted(account) == dict.fromkeys(few, 0)


def test_without_stripe_nothing_is_noted(
    context: Context, database: TestDatabase, few: dict[str, int]
) -> None:
    with offline_context(database, wall=NOW) as alone, pytest.raises(GatewayError):
        sync(alone)

    assert missing_ids(database) == sum(few.values())


def _about_to_subscribe(database: TestDatabase) -> None:
    """An organization whose subscription has its row, and is not at Stripe yet."""
    with Session(database.owner) as session, session.begin():
        price = session.query(PlanPrice).filter_by(currency="USD", interval="month").one()
        plan = session.get_one(ProductPlan, price.plan_id)
        acme = organization(session, "acme")
        subscription = ProductSubscription(
            organization_id=acme.id,
            product_plan_id=plan.id,
            currency="USD",
            interval="month",
            started_at=NOW,
            anchor_at=NOW,
            current_period_start_at=NOW,
            current_period_end_at=NOW + timedelta(days=30),
            usage_closed_until_at=NOW,
        )
        session.add(subscription)
        session.flush()
        session.add(
            SubscriptionItem(
                organization_id=acme.id,
                subscription_id=subscription.id,
                product_id=plan.product_id,
                plan_id=plan.id,
                price_id=price.id,
                quantity=1,
                started_at=NOW,
            )
        )


def states(database: TestDatabase) -> dict[str, int]:
    """How our intentions ended."""
    with database.owner.connect() as connection:
        return Counter(connection.execute(text("SELECT state FROM ops.stripe_calls")).scalars())


def _interval(price: dict[str, Any]) -> str:
    recurring = price["recurring"]
    names = {("month", 1): "month", ("month", 3): "quarter", ("year", 1): "year"}
    return names[recurring["interval"], recurring["interval_count"]]


def _ids(database: TestDatabase) -> set[tuple[str, str]]:
    with database.owner.connect() as connection:
        return {
            (str(row_id), str(stripe_id))
            for table, column in ID_COLUMNS.items()
            for row_id, stripe_id in connection.execute(text(f"SELECT id, {column} FROM catalog.{table}"))
        }
