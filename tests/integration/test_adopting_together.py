"""Many drafts of Stripe's adopted in one transaction: every row is as if each had been adopted alone."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import text

from models import billing_queries
from tasks import adopting_together, mirroring
from tasks.adopting_together import Seen
from tasks.context import Context
from tasks.rating_together import Draft
from tests.integration.databases import TestDatabase, fresh_database, offline_context
from tests.integration.month_end import NOW, made, stored, taken_back, written
from tests.property.histories import END


@pytest.fixture(scope="module")
def database() -> Iterator[TestDatabase]:
    with fresh_database("adopting_together") as created:
        yield created


@pytest.fixture
def context(database: TestDatabase) -> Iterator[Context]:
    database.empty()
    with offline_context(database, wall=NOW) as opened:
        yield opened


def unknown(database: TestDatabase, seeds: Sequence[int]) -> list[Draft]:
    """Drafts at Stripe that we have no row of."""
    drafts = made(database, seeds, aggregation="sum")
    database.break_by("DELETE FROM tenant.invoices")
    return drafts


def seen(drafts: Sequence[Draft]) -> list[Seen]:
    return [Seen(draft.organization_id, draft.facts) for draft in drafts]


def shown(rows: dict[str, list[Any]]) -> tuple[list[Any], list[Any]]:
    """What is written of an adoption, but for the new row's id."""
    invoices = [{name: value for name, value in row.items() if name != "id"} for row in rows["invoices"]]
    own = {row["id"] for row in rows["invoices"]}
    jobs = [
        (kind, str(subject) in own, key.split(":")[1] in own, due_at)
        for kind, key, subject, due_at in rows["jobs"]
    ]
    return invoices, jobs


def adopted_alone(context: Context, draft: Draft) -> tuple[list[Any], list[Any]]:
    with taken_back(context, draft.organization_id) as unit:
        name = str(draft.facts.subscription_id)
        subscription = billing_queries.subscription_by_stripe_id(unit.session, draft.organization_id, name)
        assert subscription is not None
        mirroring.adopt_cycle(unit, subscription, draft.facts)
        unit.session.flush()
        rows = written(unit.session, draft.organization_id)
    return shown(rows)


@pytest.mark.parametrize("percentage", [Decimal(0), Decimal(7)], ids=["no default tax", "a default tax"])
def test_adopted_together_is_adopted_alone(
    context: Context, database: TestDatabase, percentage: Decimal
) -> None:
    drafts = unknown(database, range(40))
    context = replace(context, settings=replace(context.settings, tax_rate=percentage))
    with database.owner.begin() as owner:
        owner.execute(
            text(
                "INSERT INTO catalog.tax_rates (id, code, name, percentage, inclusive, active) "
                "VALUES (gen_random_uuid(), 'default-7', 'Tax', 7, false, true)"
            )
        )
        owner.execute(text("UPDATE catalog.organizations SET tax_exempt = 'exempt' WHERE slug LIKE '%-1_'"))
    alone = [adopted_alone(context, draft) for draft in drafts]

    adopted = adopting_together.adopt(context, seen(drafts))

    months = [draft for draft, rows in zip(drafts, alone, strict=True) if not rows[0][0]["parked_at"]]
    assert adopted.keys() == {draft.facts.id for draft in months}
    assert len(months) > 10
    for draft, rows in zip(drafts, alone, strict=True):
        if draft in months:
            assert shown(stored(context, draft.organization_id)) == rows
    assert len({row["tax_rate_id"] for invoices, _ in alone for row in invoices}) == (4 if percentage else 3)


def test_told_again_it_is_there(context: Context, database: TestDatabase) -> None:
    drafts = unknown(database, range(5))
    assert len(adopting_together.adopt(context, seen(drafts))) > 0
    before = [stored(context, draft.organization_id) for draft in drafts]

    assert adopting_together.adopt(context, seen(drafts)) == {}
    assert [stored(context, draft.organization_id) for draft in drafts] == before


def test_what_is_not_known_is_left(context: Context, database: TestDatabase) -> None:
    usual, stranger, odd = unknown(database, (3, 5, 7))
    strange = replace(stranger.facts, subscription_id="sub_of_nobody")
    shifted = replace(odd.facts, period_end_at=END - timedelta(days=3))
    given = [*seen([usual]), Seen(stranger.organization_id, strange), Seen(odd.organization_id, shifted)]

    assert adopting_together.adopt(context, given).keys() == {usual.facts.id}
    assert stored(context, stranger.organization_id)["invoices"] == []
    assert stored(context, odd.organization_id)["invoices"] == []
