"""Jobs: claimed once, fenced by the attempt, back after a failure, dead after five."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from gateway.errors import Unreachable
from models import work
from models.ops import Job
from tasks import jobs, queue
from tasks.context import AT_ONCE, Context
from tasks.queue import TryLater
from tests.integration.databases import SilentBell
from tests.integration.factories import TestDatabase, fresh_database, offline_context

NOW = datetime.now(UTC)
LEASE = timedelta(seconds=60)


@pytest.fixture(scope="module")
def database() -> Iterator[TestDatabase]:
    with fresh_database("jobs") as made:
        yield made


@pytest.fixture
def context(database: TestDatabase) -> Iterator[Context]:
    database.empty()
    with offline_context(database, wall=NOW) as made:
        yield made


@pytest.fixture
def kind(monkeypatch: pytest.MonkeyPatch) -> str:
    """A kind of job whose use case is what `does` holds."""
    monkeypatch.setitem(queue._use_cases, "tests.deed", lambda context, claimed: does[0]())
    return "tests.deed"


does = [lambda: None]


@dataclass
class RememberedBell(SilentBell):
    """Remembers what is rung for now, and what is for later, and how much later."""

    now: list[tuple[str, str | None]] = field(default_factory=list)
    later: list[tuple[str, str | None, timedelta]] = field(default_factory=list)

    def ring(self, task: str, subject: str | None = None, *, after: timedelta = AT_ONCE) -> None:
        if after:
            self.later.append((task, subject, after))
        else:
            self.now.append((task, subject))


def added(context: Context, kind: str, key: str = "k", due_at: datetime = NOW) -> UUID:
    with context.system() as unit:
        job_id = unit.enqueue(kind, key, due_at=due_at)
    assert job_id is not None
    return job_id


def row(context: Context, job_id: UUID) -> Job:
    with context.database.system() as session:
        return session.execute(select(Job).where(Job.id == job_id)).scalar_one()


def test_the_same_key_is_one_job(context: Context, kind: str) -> None:
    added(context, kind)
    with context.system() as unit:
        assert unit.enqueue(kind, "k") is None


def test_a_claimed_job_is_not_claimed_again_before_its_lease_is_over(context: Context, kind: str) -> None:
    job_id = added(context, kind)
    with context.database.system() as session:
        first = work.claim_job(session, job_id, LEASE)
        again = work.claim_job(session, job_id, LEASE)
    assert first is not None
    assert again is None


def test_who_lost_the_lease_cannot_write_the_outcome(
    context: Context, kind: str, database: TestDatabase
) -> None:
    job_id = added(context, kind)
    with context.database.system() as session:
        slow = work.claim_job(session, job_id, LEASE)
    database.break_by("UPDATE ops.jobs SET lease_until_at = now() - interval '1 second'")
    with context.database.system() as session:
        quick = work.claim_job(session, job_id, LEASE)
        assert slow is not None
        assert quick is not None
        assert not work.finish_job(session, slow)
        assert work.finish_job(session, quick)


def test_a_finished_job_does_not_run_again(context: Context, kind: str) -> None:
    job_id = added(context, kind)
    assert queue.run_job(context, job_id) == "done"
    assert queue.run_job(context, job_id) == "not mine"


@pytest.mark.parametrize(
    ("problem", "least_s", "most_s"),
    [
        (TryLater("not yet"), 0.5, 1),
        (TryLater("not before noon", timedelta(hours=1)), 3_600, 3_600),
        (Unreachable("Stripe is away"), 0.5, 1),
        (RuntimeError("a defect"), 1, 2),
    ],
)
def test_what_is_put_back_is_rung_for_when_its_wait_is_over(
    context: Context, kind: str, problem: Exception, least_s: float, most_s: float
) -> None:
    def wait() -> None:
        raise problem

    bell = RememberedBell()
    listening = replace(context, bell=bell)
    job_id = added(context, kind)
    does[0] = wait
    queue.run_job(listening, job_id)
    does[0] = lambda: None

    [(task, subject, after)] = bell.later
    assert (task, subject) == (kind, str(job_id))
    assert least_s <= after.total_seconds() <= most_s
    until = row(context, job_id).not_before_at - datetime.now(UTC)
    assert after - timedelta(seconds=5) < until <= after


@pytest.mark.parametrize("end", [None, Unreachable("Stripe is away")])
def test_what_is_done_here_is_rung_for_when_that_is_over_however_it_ended(
    context: Context, kind: str, end: Exception | None
) -> None:
    listening = replace(context, bell=(bell := RememberedBell()))
    with listening.system() as unit:
        job_id = unit.enqueue(kind, "k")
        rings = unit.take_rings()
    assert bell.now == []

    with nullcontext() if end is None else pytest.raises(type(end)), listening.ringing_at_last(rings):
        assert bell.now == []
        if end is not None:
            raise end

    assert bell.now == [(kind, str(job_id))]


@pytest.mark.parametrize("passing", [TryLater("not yet"), Unreachable("Stripe is away")])
def test_a_world_that_is_not_ready_uses_up_no_attempt(
    context: Context, kind: str, passing: Exception
) -> None:
    def wait() -> None:
        raise passing

    does[0] = wait
    job_id = added(context, kind)
    assert queue.run_job(context, job_id) == "deferred"
    waiting = row(context, job_id)
    assert (waiting.state, waiting.attempts, waiting.deferrals) == ("queued", 0, 1)
    does[0] = lambda: None


def test_a_poison_job_is_dead_after_five_attempts_until_it_is_driven_again(
    context: Context, kind: str, database: TestDatabase
) -> None:
    def fail() -> None:
        raise RuntimeError("poison")

    does[0] = fail
    job_id = added(context, kind)
    for _ in range(7):
        queue.run_job(context, job_id)
        database.break_by("UPDATE ops.jobs SET not_before_at = now() WHERE state = 'queued'")
    dead = row(context, job_id)
    assert (dead.state, dead.attempts, dead.last_error) == ("dead", 5, "RuntimeError: poison")

    does[0] = lambda: None
    with context.database.system() as session:
        assert work.redrive_job(session, job_id)
    assert queue.run_job(context, job_id) == "done"


def test_a_job_whose_worker_dies_at_every_attempt_is_buried(
    context: Context, kind: str, database: TestDatabase
) -> None:
    job_id = added(context, kind)
    for _ in range(5):
        with context.database.system() as session:
            assert work.claim_job(session, job_id, LEASE) is not None
        database.break_by("UPDATE ops.jobs SET lease_until_at = :past", past=NOW - timedelta(minutes=1))
    jobs.sweep(context)
    assert row(context, job_id).state == "dead"


def test_the_sweep_rings_for_what_is_due_and_for_what_a_dead_worker_left(
    context: Context, kind: str, database: TestDatabase
) -> None:
    due = added(context, kind, "due")
    added(context, kind, "later", NOW + timedelta(hours=1))
    left = added(context, kind, "left")
    with context.database.system() as session:
        work.claim_job(session, left, LEASE)
    database.break_by("UPDATE ops.jobs SET lease_until_at = :past WHERE id = :id", past=NOW - LEASE, id=left)

    with context.database.system() as session:
        wall = datetime.now(UTC)
        assert {job_id for job_id, _ in work.due_jobs(session, wall, 10)} == {due, left}


def test_an_organization_lock_is_free_when_its_holder_dies(context: Context, database: TestDatabase) -> None:
    organization_id = UUID("00000000-0000-7000-8000-000000000001")
    with pytest.raises(OperationalError):
        lose_the_lock(context, database, organization_id)


def lose_the_lock(context: Context, database: TestDatabase, organization_id: UUID) -> None:
    """The holder's connection dies, and another gets the lock at once."""
    with context.database.organization_lock(organization_id):
        database.break_by(
            "SELECT pg_terminate_backend(pid) FROM pg_locks "
            "WHERE locktype = 'advisory' AND pid <> pg_backend_pid()"
        )
        with context.database.organization_lock(organization_id):
            pass
