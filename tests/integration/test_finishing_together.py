"""Many invoices numbered and sealed in one transaction: every row is as if each had been finished alone."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from tasks import drafting, finishing, finishing_together, invariants, invoice_rows, rating_together
from tasks.context import Context
from tasks.finishing_together import Final
from tasks.rating_together import Draft
from tests.integration.databases import TestDatabase, fresh_database, offline_context
from tests.integration.month_end import NOW, finalized, made, stored, written


@pytest.fixture(scope="module")
def database() -> Iterator[TestDatabase]:
    with fresh_database("finishing_together") as created:
        yield created


@pytest.fixture
def context(database: TestDatabase) -> Iterator[Context]:
    database.empty()
    with offline_context(database, wall=NOW) as opened:
        yield opened


class _TakenBack(Exception):
    """Ends a transaction that only shows what would be."""


def finished_alone(context: Context, draft: Draft) -> dict[str, list[Any]]:
    """The rows that an organization would have, had its draft been rated and finished alone."""
    rows: dict[str, list[Any]] = {}
    with suppress(_TakenBack), context.tenant(draft.organization_id) as unit:
        invoice = invoice_rows.find(unit, draft.invoice_id)
        drafting.rate_draft(unit, invoice, draft.facts)
        invoice.pushed_at = unit.now
        finishing.finish(unit, invoice, finalized(draft.facts, invoice), [])
        rows = written(unit.session, draft.organization_id)
        raise _TakenBack
    return rows


def rated(context: Context, drafts: list[Draft]) -> list[Final]:
    """Rate drafts together, and what Stripe then answers when it finalizes them."""
    rating_together.rate(context, drafts)
    finals = []
    for draft in drafts:
        with context.tenant(draft.organization_id) as unit:
            facts = finalized(draft.facts, invoice_rows.find(unit, draft.invoice_id))
        finals.append(Final(draft.organization_id, draft.invoice_id, facts))
    return finals


def test_finished_together_is_finished_alone(context: Context, database: TestDatabase) -> None:
    drafts = made(database, range(60), aggregation="sum")
    alone = {draft.organization_id: finished_alone(context, draft) for draft in drafts}
    finals = rated(context, drafts)

    finished = finishing_together.finish(context, finals)

    below_zero = {final.invoice_id for final in finals if final.facts.total_minor < 0}
    assert finished == {draft.invoice_id for draft in drafts} - below_zero
    for draft in drafts:
        if draft.invoice_id in finished:
            rows = stored(context, draft.organization_id)
            assert rows == alone[draft.organization_id]
            assert (rows["invoices"][0]["number"] or "").endswith("-000001")
    assert [each for each in invariants.check(context) if each.invariant in ("I2", "I8", "I10")] == []
