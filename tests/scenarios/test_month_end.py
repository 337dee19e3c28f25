"""Months that end together: what is usual is billed at once, and what is not keeps nobody."""

import time
from collections.abc import Sequence
from uuid import UUID

import pytest
from sqlalchemy import text

from gateway import requests
from models import work
from models.work import ClaimedJob
from tasks import billing_together, queue
from tasks.context import Context
from tasks.queue import Settled
from tests.scenarios.test_dashboard import Person
from tests.scenarios.world import Customer, World

JOB = "invoicing.bill"
# 1,000 runs are included: 500 at 2 cents.
BILLED = [("first", "paid", 35_00), ("cycle", "paid", 45_00)]
_WAITING = text(
    f"SELECT id FROM ops.jobs WHERE kind = '{JOB}' AND state = 'queued' AND organization_id = ANY(:ids)"
)


def waits(world: World, name: str) -> Customer:
    """A customer whose month has ended with some usage, and whose draft waits for its window to close."""
    customer = world.on("2026-04-01", name)
    customer.card()
    customer.subscribes("autoflow-starter")
    customer.uses("2026-04-01T00:00", 1_500)
    customer.lives_until("2026-05-01T00:30")
    return customer


def claimed(world: World, customers: list[Customer]) -> list[ClaimedJob]:
    """The jobs that bill them, in the hands of this process."""
    with world.context.database.system() as session:
        ids = list(session.execute(_WAITING, {"ids": [each.id for each in customers]}).scalars())
        jobs = [work.claim_job(session, each, world.context.settings.lease) for each in ids]
    return [job for job in jobs if job is not None]


def test_what_people_did_to_some_holds_up_none_of_the_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, bob, cyd, dan, eve = [waits(world, name) for name in ("ada", "bob", "cyd", "dan", "eve")]
    line: requests.Line = {"description": "Onboarding", "amount_minor": 5_00}
    line |= {"period_start": 1_777_593_600, "period_end": 1_777_593_600}
    Person(cyd).does(requests.add_lines(Person(cyd).draft(), [line]))
    Person(dan).changes({"id": Person(dan).item(), "quantity": 3}, how="none")
    Person(eve).does(requests.finalize_invoice(Person(eve).draft()))
    jobs = claimed(world, [ada, bob, cyd, dan, eve])
    together = list[UUID]()

    def noted(context: Context, given: Sequence[ClaimedJob]) -> Settled:
        settled = billing_together.bill(context, given)
        together.extend(job.organization for job in given if job.id in settled.done)
        return settled

    monkeypatch.setitem(queue._together, JOB, noted)
    queue._attempt_all(world.context, jobs, time.monotonic() + 60)

    assert sorted(together) == sorted([ada.id, bob.id])
    for customer in (ada, bob, cyd, dan, eve):
        customer.lives_until("2026-05-01T02:00")
    assert (ada.totals, bob.totals) == (BILLED, BILLED)
    parked = "SELECT parked_reason FROM tenant.invoices WHERE parked_at IS NOT NULL"
    ((reason,),) = cyd.rows(parked)
    assert "a person added there: Onboarding" in reason
    assert cyd.charges == [("succeeded", 35_00)]
    world.holds(ada, bob, eve)
