"""Many invoices numbered and sealed in one transaction: every row is as if each had been finished alone."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from models.invoices import InvoiceSequence, Notification
from models.ops import Job
from models.organizations import Organization
from tasks import drafting, finishing, finishing_together, invariants, invoice_rows, rating_together
from tasks.context import Context
from tasks.finishing_together import Final
from tasks.rating_together import Draft
from tasks.settings import MailServer
from tests.integration.databases import TestDatabase, fresh_database, offline_context
from tests.integration.month_end import NOW, MonthEnd, finalized, made, stored, taken_back, written
from tests.property.histories import random_history


@pytest.fixture(scope="module")
def database() -> Iterator[TestDatabase]:
    with fresh_database("finishing_together") as created:
        yield created


@pytest.fixture
def context(database: TestDatabase) -> Iterator[Context]:
    database.empty()
    with offline_context(database, wall=NOW) as opened:
        yield opened


def finished_alone(context: Context, draft: Draft) -> dict[str, list[Any]]:
    """The rows that an organization would have, had its draft been rated and finished alone."""
    with taken_back(context, draft.organization_id) as unit:
        invoice = invoice_rows.find(unit, draft.invoice_id)
        drafting.rate_draft(unit, invoice, draft.facts)
        invoice.pushed_at = unit.now
        finishing.finish(unit, invoice, finalized(draft.facts, invoice), [])
        return written(unit.session, draft.organization_id)


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


def test_two_of_one_organization_get_numbers_one_after_the_other(
    context: Context, database: TestDatabase
) -> None:
    with Session(database.owner, expire_on_commit=False) as session, session.begin():
        month_end = MonthEnd(session)
        history = random_history(3)._replace(aggregation="sum")
        first = month_end.of(3, aggregation="sum")
        owner = session.get_one(Organization, first.organization_id)
        drafts = [first, month_end.beside(owner, 3, history), month_end.of(5, aggregation="sum")]
        session.add(InvoiceSequence(organization_id=owner.id, last_number=41))

    finished = finishing_together.finish(context, rated(context, drafts))

    assert finished == {draft.invoice_id for draft in drafts}
    invoices = stored(context, owner.id)["invoices"]
    assert sorted(row["number"] for row in invoices) == ["ORG-3-000042", "ORG-3-000043"]
    assert stored(context, owner.id)["invoice_sequences"][0]["last_number"] == 43
    assert stored(context, drafts[2].organization_id)["invoices"][0]["number"] == "ORG-5-000001"


def test_mails_are_sent_by_jobs_of_their_own(context: Context, database: TestDatabase) -> None:
    drafts = made(database, (3, 5), aggregation="sum")
    mailing = replace(context, settings=replace(context.settings, smtp=MailServer("localhost", 25, "none")))

    finishing_together.finish(mailing, rated(mailing, drafts))

    for draft in drafts:
        with context.tenant(draft.organization_id) as unit:
            told = unit.session.query(Notification).filter_by(channel="mail").one()
            jobs = unit.session.query(Job).filter_by(organization_id=draft.organization_id)
            wanted = {("payments.collect", draft.invoice_id), ("mails.send", told.id)}
            assert {(job.kind, job.subject_id) for job in jobs} == wanted
            assert told.state == "queued"


RARE = {
    "Stripe's total is another": lambda facts: replace(facts, total_minor=facts.total_minor + 1),
    "the balance paid a part": lambda facts: replace(facts, starting_balance_minor=-1, amount_due_minor=0),
    "Stripe has it paid": lambda facts: replace(facts, status="paid"),
    "a person took it back": lambda facts: replace(facts, status="void"),
}


@pytest.mark.parametrize("rare", RARE)
def test_what_is_rare_is_left_as_it_was(context: Context, database: TestDatabase, rare: str) -> None:
    usual, odd = rated(context, made(database, (3, 5), aggregation="sum"))
    before = stored(context, odd.organization_id)

    finished = finishing_together.finish(context, [usual, replace(odd, facts=RARE[rare](odd.facts))])

    assert finished == {usual.invoice_id}
    assert stored(context, odd.organization_id) == before


def test_with_credit_or_debt_here_it_is_left(context: Context, database: TestDatabase) -> None:
    """Stripe says that no balance was used: whether that is right is for `balance.use` to say."""
    usual, indebted = rated(context, made(database, (3, 5), aggregation="sum"))
    with database.owner.begin() as owner:
        owner.execute(
            text(
                "INSERT INTO tenant.credit_entries "
                "(organization_id, id, key, currency, amount_minor, reason, created_at) "
                "SELECT id, gen_random_uuid(), 'k', currency, -5, 'carried', now() "
                "FROM catalog.organizations WHERE id = :id"
            ),
            {"id": indebted.organization_id},
        )

    assert finishing_together.finish(context, [usual, indebted]) == {usual.invoice_id}
