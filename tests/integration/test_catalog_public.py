"""What the public sees of the catalog: nothing that cannot be had."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tasks import catalog
from tasks.context import Context
from tests.integration.factories import TestDatabase, fresh_database, offline_context
from tests.servers import redis_url
from web.factory import create_app

NOW = datetime(2026, 4, 3, tzinfo=UTC)


@pytest.fixture(scope="module")
def database() -> Iterator[TestDatabase]:
    with fresh_database("catalog_public") as made:
        yield made


@pytest.fixture
def context(database: TestDatabase) -> Iterator[Context]:
    database.empty()
    with offline_context(database, wall=NOW) as made:
        catalog.seed(made)
        yield replace(made, settings=replace(made.settings, redis_url=redis_url()))


def items(context: Context, path: str) -> list[dict[str, Any]]:
    answer = create_app(context).test_client().get(f"/api/billing/{path}/")
    assert answer.status_code == 200
    found: list[dict[str, Any]] = answer.get_json()["items"]
    return found


def applied(context: Context, old: str, new: str) -> None:
    file = catalog.export(context)
    assert old in file
    catalog.apply(context, file.replace(old, new))


def test_plans_that_are_hidden_or_only_in_bundles_are_not_listed(context: Context) -> None:
    def listed() -> list[str]:
        return [plan["code"] for plan in items(context, "products/autoflow/plans")]

    everything = ["autoflow-starter", "autoflow-professional", "autoflow-enterprise"]
    assert listed() == everything
    for flag in ("public", "standalone"):
        file = catalog.export(context)
        start = file.index("[products.plans.starter]")
        hidden = file[:start] + file[start:].replace(f"{flag} = true", f"{flag} = false", 1)
        catalog.apply(context, hidden)
        assert listed() == everything[1:]
        catalog.apply(context, file)
    assert listed() == everything


def test_a_withdrawn_product_takes_its_bundles_along(context: Context) -> None:
    file = catalog.export(context)
    start = file.index('code = "buildeasy"')
    catalog.apply(context, file[:start] + file[start:].replace('status = "active"', 'status = "inactive"', 1))

    assert [product["code"] for product in items(context, "products")] == ["autoflow", "teamspace"]
    assert [bundle["code"] for bundle in items(context, "bundles")] == ["starter"]


def test_only_supported_currencies_are_shown(context: Context) -> None:
    in_rand = replace(context, settings=replace(context.settings, supported_currencies=("ZAR",)))

    [starter, *_] = items(in_rand, "products/autoflow/plans")
    [bundle, *_] = items(in_rand, "bundles")

    assert {price["currency"] for price in [*starter["prices"], *bundle["prices"]]} == {"ZAR"}
    assert {charge["currency"] for charge in starter["usage"]} == {"ZAR"}


def test_a_new_version_is_listed_instead_of_the_old_one(context: Context) -> None:
    applied(context, "month = 2500,", "month = 2700,")

    [starter, *_] = items(context, "products/teamspace/plans")
    [bundle, *_] = items(context, "bundles")

    assert (starter["version"], starter["prices"][0]["amount_minor"]) == (2, 27_00)
    monthly = bundle["prices"][0]
    assert (monthly["list_minor"], monthly["amount_minor"], monthly["saving_minor"]) == (62_00, 54_00, 8_00)


def test_the_trial_that_a_checkout_offers_is_the_setting(context: Context) -> None:
    changed = replace(context, settings=replace(context.settings, trial_period=timedelta(days=30)))
    for path in ("products/autoflow/plans", "bundles"):
        assert {each["trial_period_days"] for each in items(context, path)} == {14}
        assert {each["trial_period_days"] for each in items(changed, path)} == {30}
