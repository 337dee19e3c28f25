"""Many drafts rated in one transaction: every row is as if each had been rated alone."""

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text

from models import usage_intake
from tasks import drafting, invoice_rows, rating_together
from tasks.context import Context
from tasks.rating_together import Draft
from tests.integration.databases import TestDatabase, fresh_database, offline_context
from tests.integration.month_end import NOW, made, stored, taken_back, written

USUAL = ("sum", "count")


@pytest.fixture(scope="module")
def database() -> Iterator[TestDatabase]:
    with fresh_database("rating_together") as created:
        yield created


@pytest.fixture
def context(database: TestDatabase) -> Iterator[Context]:
    database.empty()
    with offline_context(database, wall=NOW) as created:
        yield created


def rated_alone(context: Context, draft: Draft) -> dict[str, list[Any]]:
    """The rows that an organization would have, had its draft been rated alone."""
    with taken_back(context, draft.organization_id) as unit:
        drafting.rate_draft(unit, invoice_rows.find(unit, draft.invoice_id), draft.facts)
        return written(unit.session, draft.organization_id)


@pytest.mark.parametrize("aggregation", USUAL)
@pytest.mark.parametrize("first", [0, 1_000, 2_000])
def test_rated_together_is_rated_alone(
    context: Context, database: TestDatabase, first: int, aggregation: str
) -> None:
    """Seats, allowances, tiers, groups, filters, minimums, trials, both kinds of tax, bundles, currencies."""
    drafts = made(database, range(first, first + 60), aggregation=aggregation)
    alone = {draft.organization_id: rated_alone(context, draft) for draft in drafts}

    rated = rating_together.rate(context, drafts)

    assert rated.keys() == {draft.invoice_id for draft in drafts}
    for draft in drafts:
        assert stored(context, draft.organization_id) == alone[draft.organization_id]
    lines = [line for rows in alone.values() for line in rows["invoice_lines"]]
    assert {line["kind"] for line in lines} == {"recurring", "seats", "usage"}
    assert {rows["invoices"][0]["tax_inclusive"] for rows in alone.values()} == {True, False}
    assert len({line["currency"] for line in lines}) >= 3
    assert any("group" in line["explanation"] for line in lines)
    assert any("discounts" in line["explanation"] for line in lines)


def test_rated_once_is_rated(context: Context, database: TestDatabase) -> None:
    drafts = made(database, range(8), aggregation="sum")
    rating_together.rate(context, drafts)
    before = [stored(context, draft.organization_id) for draft in drafts]

    assert rating_together.rate(context, drafts) == {}
    assert [stored(context, draft.organization_id) for draft in drafts] == before


RARE = {
    "late usage": (
        "UPDATE tenant.usage_records SET late = true WHERE organization_id = :id AND occurred_at = "
        "(SELECT min(occurred_at) FROM tenant.usage_records WHERE organization_id = :id)"
    ),
    "a correction": (
        "INSERT INTO tenant.usage_corrections (organization_id, id, product_id, event_id, number, kind, "
        "reason, who, meter_id, occurred_at) SELECT organization_id, gen_random_uuid(), product_id, "
        "event_id, 1, 'void', 'double', 'ada', meter_id, occurred_at FROM tenant.usage_records "
        "WHERE organization_id = :id LIMIT 1"
    ),
    "a charge of a change": (
        "INSERT INTO tenant.pending_charges (organization_id, id, subscription_id, key, item_id, product_id, "
        "description, quantity, currency, amount_minor, period_start_at, period_end_at, explanation) "
        "SELECT organization_id, gen_random_uuid(), subscription_id, 'change', id, product_id, 'More', 1, "
        "'USD', 100, started_at, started_at, '{}' FROM tenant.subscription_items WHERE organization_id = :id "
        "LIMIT 1"
    ),
    "a change under way": (
        "INSERT INTO tenant.subscription_changes (organization_id, id, subscription_id, item_id, quantity, "
        "proration, changed_at) SELECT organization_id, gen_random_uuid(), subscription_id, id, 2, "
        "'prorate', '2026-11-30T00:00Z' FROM tenant.subscription_items WHERE organization_id = :id LIMIT 1"
    ),
    "a coupon": (
        "WITH coupon AS (INSERT INTO catalog.coupons (id, code, name, percent_off, duration, active, "
        "times_redeemed) VALUES (gen_random_uuid(), 'ten', 'Ten', 10, 'forever', true, 1) RETURNING id) "
        "INSERT INTO tenant.coupon_redemptions "
        "(organization_id, id, subscription_id, coupon_id, redeemed_at) "
        "SELECT s.organization_id, gen_random_uuid(), s.id, coupon.id, s.started_at "
        "FROM tenant.product_subscriptions s, coupon WHERE s.organization_id = :id"
    ),
    "a parked invoice": (
        "UPDATE tenant.invoices SET parked_at = now(), parked_reason = 'odd' WHERE organization_id = :id"
    ),
    "a parked organization": (
        "UPDATE catalog.organizations SET parked_at = now(), parked_reason = 'odd' WHERE id = :id"
    ),
    "more usage than a statement for many should take": (
        "INSERT INTO tenant.usage_records (organization_id, product_id, event_id, batch_id, batch_index, "
        "meter_id, quantity, occurred_at, subscription_id, item_id, late, state) "
        "SELECT organization_id, product_id, 'more-' || n, batch_id, n, meter_id, 1, '2026-11-15T00:00Z', "
        "subscription_id, item_id, false, 'waiting' FROM generate_series(0, 2000) n, "
        "(SELECT * FROM tenant.usage_records WHERE organization_id = :id LIMIT 1) r"
    ),
}


@pytest.mark.parametrize("rare", RARE)
def test_what_is_rare_is_left_as_it_was(context: Context, database: TestDatabase, rare: str) -> None:
    drafts = made(database, SEEDS_WITH_USAGE, aggregation="sum")
    odd = drafts[1]
    with database.owner.begin() as owner:
        done = owner.execute(text(RARE[rare]), {"id": odd.organization_id})
        assert done.rowcount > 0
    before = stored(context, odd.organization_id)

    rated = rating_together.rate(context, drafts)

    assert rated.keys() == {draft.invoice_id for draft in drafts} - {odd.invoice_id}
    assert stored(context, odd.organization_id) == before


# Some histories have no events.
SEEDS_WITH_USAGE = (3, 5, 7)


@pytest.mark.parametrize("aggregation", ["max", "unique", "time_weighted_sum"])
def test_what_postgres_does_not_add_up_is_left(
    context: Context, database: TestDatabase, aggregation: str
) -> None:
    drafts = made(database, SEEDS_WITH_USAGE, aggregation=aggregation)
    before = [stored(context, draft.organization_id) for draft in drafts]

    assert rating_together.rate(context, drafts) == {}
    assert [stored(context, draft.organization_id) for draft in drafts] == before


def test_what_stripe_has_finalized_itself_is_left(context: Context, database: TestDatabase) -> None:
    usual, quick = made(database, (3, 5), aggregation="sum")
    opened = replace(quick, facts=replace(quick.facts, status="open"))

    assert rating_together.rate(context, [usual, opened]).keys() == {usual.invoice_id}


def test_batches_and_usage_that_arrives_meanwhile_wait_for_each_other(
    context: Context, database: TestDatabase
) -> None:
    """All lock subscriptions in one sequence: whoever comes later waits, and nobody for ever."""
    drafts = made(database, range(40), aggregation="sum")
    alone = {draft.organization_id: rated_alone(context, draft) for draft in drafts}
    owners = [draft.organization_id for draft in drafts]
    random.shuffle(drafts)

    def rate(part: int) -> int:
        return len(rating_together.rate(context, drafts[part::3]))

    def take_usage(_: int) -> int:
        with context.database.intake() as session:
            usage_intake.hold_subscriptions(session, owners)
        return 0

    with ThreadPoolExecutor(6) as pool:
        begun = [pool.submit(does, part) for part in range(3) for does in (take_usage, rate)]
        assert sum(each.result() for each in begun) == len(drafts)

    for draft in drafts:
        assert stored(context, draft.organization_id) == alone[draft.organization_id]
