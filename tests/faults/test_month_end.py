"""kill -9 among invoices that are billed together: each is there once, and is charged once."""

import multiprocessing
import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from cli.context import opened
from models import work
from models.work import ClaimedJob
from tasks import queue
from tasks.context import Context
from tests.scenarios.world import Customer, World

JOB = "invoicing.bill"
CUSTOMERS = 3
# 1,000 runs are included: 500 at 2 cents.
TOTALS = [("first", "paid", 35_00), ("cycle", "paid", 45_00)]
CHARGES = [("succeeded", 35_00), ("succeeded", 45_00)]


class Mortal:
    """Stripe's door in a process that dies right after so many calls, their last answer unread."""

    def __init__(self, gateway: Any, calls: int) -> None:
        self._gateway, self._calls = gateway, calls
        self._counter = count(1)  # several threads ask

    def __getattr__(self, name: str) -> Any:
        return getattr(self._gateway, name)

    def fetch(self, *arguments: Any) -> Any:
        return self._counted(self._gateway.fetch(*arguments))

    def send(self, *arguments: Any) -> Any:
        return self._counted(self._gateway.send(*arguments))

    def _counted(self, answer: Any) -> Any:
        if next(self._counter) == self._calls:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer


def bill_until_death(environment: dict[str, str], jobs: list[UUID], calls: int | None) -> None:
    """Bill together, and die: after some calls to Stripe, or when all is written and no job is settled."""
    with opened(environment) as context:
        with context.database.system() as session:
            claimed = [work.claim_job(session, job, context.settings.lease) for job in jobs]
        if calls is None:
            work.finish_jobs = _die
        mortal = replace(context, gateway=Mortal(context.gateway, calls or 10**6))  # type: ignore[arg-type]
        queue._attempt_together(mortal, [job for job in claimed if job is not None])


def _die(session: Session, jobs: Sequence[ClaimedJob]) -> None:
    assert len(jobs) == CUSTOMERS, "all of them were for together"
    os.kill(os.getpid(), signal.SIGKILL)


def waiting_jobs(context: Context, customers: list[Customer]) -> list[UUID]:
    """The jobs that bill what these customers' drafts wait for."""
    waiting = "kind = :kind AND state = 'queued' AND organization_id = ANY(:ids)"
    values = {"kind": JOB, "ids": [customer.id for customer in customers]}
    with context.database.system() as session:
        return list(session.execute(text(f"SELECT id FROM ops.jobs WHERE {waiting}"), values).scalars())


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "calls",
    # Three looks; then the lines and the finalization of each, several at once.
    [2, 4, 7, 9, None],
    ids=["looking", "first lines", "some finalized", "all finalized", "all numbered"],
)
def test_who_dies_among_many_leaves_each_with_one_invoice_and_one_charge(
    world: World, calls: int | None
) -> None:
    customers = [world.on("2026-04-01", name) for name in ("ada", "bob", "cyd")]
    for customer in customers:
        customer.card()
        customer.subscribes("autoflow-starter")
        customer.uses("2026-04-01T00:00", 1_500)
        customer.lives_until("2026-05-01T00:30")
    jobs = waiting_jobs(world.context, customers)
    assert len(jobs) == CUSTOMERS

    spawn = multiprocessing.get_context("spawn")
    short = {"LEASE_SECONDS": "4", **world.stack.environment}
    child = spawn.Process(target=bill_until_death, args=(short, jobs, calls))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL

    for customer in customers:
        customer.lives_until("2026-05-01T02:00")
    assert [customer.totals for customer in customers] == [TOTALS] * len(customers)
    assert [customer.charges for customer in customers] == [CHARGES] * len(customers)
    world.holds(*customers)
