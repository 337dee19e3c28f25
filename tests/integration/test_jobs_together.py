"""Due jobs of one kind, done by one message: each settled by itself, and alone where that does not go."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from models import work
from models.ops import Job
from models.organizations import TestClock
from models.work import ClaimedJob
from tasks import queue
from tasks.context import Context
from tasks.queue import Settled, TryLater
from tests.integration.factories import TestDatabase, fresh_database, offline_context, organization

NOW = datetime.now(UTC)
KIND = "tests.deed"


class Deeds:
    """Jobs of organizations of their own, and what is done with them: together, and alone."""

    def __init__(self, context: Context, database: TestDatabase) -> None:
        self._context, self._database = context, database
        self.together: list[list[UUID]] = []
        self.alone: list[UUID] = []
        self.is_for_together = set[UUID]()
        self.has_no_turn = set[UUID]()
        self.breaks = False
        self.meanwhile: Callable[[], None] = lambda: None

    def add(self, due_at: datetime = NOW, clock_at: datetime | None = None) -> UUID:
        """A job that is for together, on the wall or on a clock that stands at `clock_at`."""
        with Session(self._database.owner) as session, session.begin():
            owner = organization(session, f"org-{uuid4().hex}")
            if clock_at is not None:
                clock = TestClock(name="slow", frozen_at=clock_at)
                session.add(clock)
                session.flush()
                owner.test_clock_id = clock.id
            organization_id = owner.id
        subject_id = uuid4()
        with self._context.tenant(organization_id) as unit:
            assert unit.enqueue(KIND, str(subject_id), subject_id=subject_id, due_at=due_at) is not None
        self.is_for_together.add(subject_id)
        return subject_id

    def do_together(self, _context: Context, jobs: Sequence[ClaimedJob]) -> Settled:
        self.together.append([job.subject for job in jobs])
        self.meanwhile()
        if self.breaks:
            raise RuntimeError("together it breaks")
        later = {job.id for job in jobs if job.subject in self.has_no_turn}
        self.has_no_turn.clear()
        return Settled({job.id for job in jobs if job.subject in self.is_for_together} - later, later)

    def do_alone(self, _context: Context, claimed: ClaimedJob) -> None:
        self.alone.append(claimed.subject)

    def row(self, subject_id: UUID) -> Job:
        with self._context.database.system() as session:
            return session.execute(select(Job).where(Job.subject_id == subject_id)).scalar_one()

    def owner(self, subject_id: UUID) -> UUID:
        found = self.row(subject_id).organization_id
        assert found is not None
        return found


@pytest.fixture(scope="module")
def database() -> Iterator[TestDatabase]:
    with fresh_database("jobs_together") as made:
        yield made


@pytest.fixture
def context(database: TestDatabase) -> Iterator[Context]:
    database.empty()
    with offline_context(database, wall=NOW) as made:
        yield made


@pytest.fixture
def deeds(context: Context, database: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> Deeds:
    made = Deeds(context, database)
    monkeypatch.setitem(queue._use_cases, KIND, made.do_alone)
    monkeypatch.setitem(queue._together, KIND, made.do_together)
    return made


def test_one_message_does_all_that_are_due_on_the_wall_and_on_clocks(context: Context, deeds: Deeds) -> None:
    first, second = deeds.add(NOW - timedelta(hours=2)), deeds.add(NOW - timedelta(hours=1))
    long_ago = datetime(2025, 5, 1, tzinfo=UTC)
    on_a_clock = deeds.add(long_ago, clock_at=long_ago)
    coming = [deeds.add(NOW + timedelta(hours=1)), deeds.add(NOW, clock_at=long_ago)]

    queue.run_due(context, KIND)

    assert deeds.together == [[on_a_clock, first, second]]
    assert deeds.alone == []
    assert {deeds.row(each).state for each in (first, second, on_a_clock)} == {"done"}
    assert [deeds.row(each).state for each in coming] == ["queued", "queued"]


def test_a_single_one_is_done_alone(context: Context, deeds: Deeds) -> None:
    only = deeds.add()

    queue.run_due(context, KIND)

    assert (deeds.together, deeds.alone) == ([], [only])
    assert deeds.row(only).state == "done"


def test_what_was_not_for_together_is_done_alone(context: Context, deeds: Deeds) -> None:
    usual, odd, last = [deeds.add() for _ in range(3)]
    deeds.is_for_together.remove(odd)

    queue.run_due(context, KIND)

    assert deeds.alone == [odd]
    assert [deeds.row(each).state for each in (usual, odd, last)] == ["done"] * 3


def test_when_together_breaks_each_is_done_alone(context: Context, deeds: Deeds) -> None:
    jobs = [deeds.add() for _ in range(3)]
    deeds.breaks = True

    queue.run_due(context, KIND)

    assert sorted(deeds.alone) == sorted(jobs)
    assert {deeds.row(each).state for each in jobs} == {"done"}


def test_a_bad_one_keeps_no_other(context: Context, deeds: Deeds, monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad, early = [deeds.add() for _ in range(3)]
    deeds.is_for_together -= {bad, early}

    def fail(_context: Context, claimed: ClaimedJob) -> None:
        raise RuntimeError("poison") if claimed.subject == bad else TryLater("not yet")

    monkeypatch.setitem(queue._use_cases, KIND, fail)
    queue.run_due(context, KIND)

    assert deeds.row(good).state == "done"
    assert (deeds.row(bad).state, deeds.row(bad).attempts) == ("queued", 1)
    assert (deeds.row(early).state, deeds.row(early).attempts, deeds.row(early).deferrals) == ("queued", 0, 1)


def test_whose_turn_has_not_come_is_taken_in_the_next_round(context: Context, deeds: Deeds) -> None:
    jobs = [deeds.add() for _ in range(4)]
    deeds.has_no_turn = set(jobs[2:])

    queue.run_due(context, KIND)

    assert [sorted(each) for each in deeds.together] == [sorted(jobs), sorted(jobs[2:])]
    assert {(deeds.row(each).state, deeds.row(each).attempts) for each in jobs} == {("done", 1)}


def test_an_organization_that_is_held_is_waited_for_alone(context: Context, deeds: Deeds) -> None:
    free, other, held = [deeds.add() for _ in range(3)]
    with ExitStack() as busy:
        busy.enter_context(context.database.organization_lock(deeds.owner(held)))
        deeds.meanwhile = busy.close

        queue.run_due(context, KIND)

    assert [sorted(each) for each in deeds.together] == [sorted([free, other])]
    assert deeds.alone == [held]
    with context.database.free_organizations([deeds.owner(free)]) as found:
        assert found == {deeds.owner(free)}, "nobody's lock is kept"


def test_what_a_dead_worker_has_left_is_taken_when_its_lease_is_over(
    context: Context, deeds: Deeds, database: TestDatabase
) -> None:
    jobs = [deeds.add() for _ in range(2)]
    with context.database.system() as session:
        lost = work.claim_due(session, KIND, NOW, timedelta(seconds=60), 10)
    assert {job.subject for job in lost} == set(jobs)

    queue.run_due(context, KIND)
    assert deeds.together == []

    database.break_by("UPDATE ops.jobs SET lease_until_at = now() - interval '1 second'")
    queue.run_due(context, KIND)
    assert [sorted(each) for each in deeds.together] == [sorted(jobs)]
    with context.database.system() as session:
        work.finish_jobs(session, lost)  # who lost the lease cannot write the outcome
    assert {(deeds.row(each).state, deeds.row(each).attempts) for each in jobs} == {("done", 2)}
