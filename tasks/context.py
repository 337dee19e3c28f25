"""What a use case works with: the database, Stripe's door, the doorbell, the settings, the clock."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from billing.errors import NotFound
from gateway.client import StripeGateway
from models import organization_queries, work
from models.database import Database, Session, rehearse
from models.ops import Job
from models.organizations import Organization, TestClock
from tasks.settings import Settings

log = logging.getLogger("dunlin")

AT_ONCE = timedelta(0)
Rings = list[tuple[str, str | None]]


class Bell(Protocol):
    """Rings a worker; a ring may be lost, so nothing may depend on it but speed."""

    def ring(self, task: str, subject: str | None = None, *, after: timedelta = AT_ONCE) -> None:
        """Have a worker run `task`; rings without a subject are debounced until one is answered.

        With `after` once that is over, unless the sweep comes sooner.
        """

    def answered(self, task: str) -> None:
        """The worker looks now: what comes after this must ring again."""


@dataclass(frozen=True, slots=True)
class Context:
    """One per process, made by the composition roots; `wall` is the only clock of the process."""

    database: Database
    auditor: Database
    gateway: StripeGateway
    settings: Settings
    bell: Bell
    wall: Callable[[], datetime]

    @contextmanager
    def system(self) -> Iterator["Unit"]:
        """A transaction outside any organization, on wall time."""
        with self.database.system() as session:
            now = self.wall()
            unit = Unit(session=session, now=now, wall=now, settings=self.settings)
            yield unit
        self._ring(unit.rings)

    @contextmanager
    def tenant(self, organization_id: UUID) -> Iterator["TenantUnit"]:
        """A transaction inside one organization, on that organization's clock.

        Raises NotFound for an unknown organization.
        """
        with self.database.system() as session:
            unit = self._unit(session, organization_id)
            yield unit
        self._ring(unit.rings)

    @contextmanager
    def ringing_at_last(self, rings: Rings) -> Iterator[None]:
        """Do here and now what jobs were stored for; their rings come when that is over, however it ended.

        A worker that came earlier would wait for the organization's lock. Should this process die, the
        sweep rings, and a worker goes on.
        """
        try:
            yield
        finally:
            self._ring(rings)

    @contextmanager
    def billing(self) -> Iterator["Unit"]:
        """A transaction for cycle invoices of many organizations at once; `Unit.of` is one of them."""
        with self.database.billing() as session:
            now = self.wall()
            unit = Unit(session=session, now=now, wall=now, settings=self.settings)
            yield unit
        self._ring(unit.rings)

    @contextmanager
    def rehearsal(self, organization_id: UUID) -> Iterator["TenantUnit"]:
        """A tenant transaction that is taken back at its end; rows read in it stay readable.

        For previews: the same code as the real thing, and nothing is written or rung.
        """
        with self.database.system() as session:
            rehearse(session)
            yield self._unit(session, organization_id)
            session.flush()
            session.expunge_all()
            session.rollback()

    def _unit(self, session: Session, organization_id: UUID) -> "TenantUnit":
        entered = organization_queries.enter(session, organization_id)
        if entered is None:
            raise NotFound("no such organization")
        wall = self.wall()
        return Unit(session=session, now=wall, wall=wall, settings=self.settings).of(*entered)

    def _ring(self, rings: Rings) -> None:
        """After the commit: a worker that came earlier would not find the rows."""
        for task, subject in rings:
            self.bell.ring(task, subject)


@dataclass(slots=True)
class Unit:
    """One transaction's hands: its session, its now, and the bells to ring after its commit."""

    session: Session
    now: datetime
    wall: datetime
    settings: Settings
    rings: Rings = field(default_factory=list)

    def ring(self, task: str, subject: str | None = None) -> None:
        if (task, subject) not in self.rings:
            self.rings.append((task, subject))

    def take_rings(self) -> Rings:
        """The rings so far, which do not come with the commit then."""
        taken, self.rings = self.rings, []
        return taken

    def enqueue(
        self, kind: str, key: str, *, subject_id: UUID | None = None, due_at: datetime | None = None
    ) -> UUID | None:
        """Add a system job (on the wall clock) once per `key`. Returns its id, None when it was there."""
        return self._add(
            Job(kind=kind, unique_key=f"{kind}:{key}", subject_id=subject_id, due_at=due_at or self.now)
        )

    def of(self, organization: Organization, clock: TestClock | None) -> "TenantUnit":
        """This transaction as that of one organization, where it is one of many: its session sees all."""
        return TenantUnit(
            session=self.session,
            now=clock.frozen_at if clock else self.wall,
            wall=self.wall,
            settings=self.settings,
            rings=self.rings,
            organization=organization,
        )

    def enqueue_all(self, jobs: Sequence[tuple["TenantUnit", Job]]) -> None:
        """Add the jobs of many organizations, each once per its key."""
        added = work.add_jobs(self.session, [job for _, job in jobs])
        for owner, job in jobs:
            job_id = added.get(job.unique_key)
            if job_id is not None and job.due_at <= (owner.now if job.clock_id else owner.wall):
                self.ring(job.kind, str(job_id))

    def _add(self, job: Job) -> UUID | None:
        job_id = work.add_job(self.session, job)
        if job_id is not None and job.due_at <= self.now:
            self.ring(job.kind, str(job_id))
        return job_id


@dataclass(slots=True, kw_only=True)
class TenantUnit(Unit):
    """A unit inside one organization; `now` is the organization's now."""

    organization: Organization

    def enqueue(
        self, kind: str, key: str, *, subject_id: UUID | None = None, due_at: datetime | None = None
    ) -> UUID | None:
        """Add a job of this organization, due on its own clock, once per `key`."""
        return self._add(self.job(kind, key, subject_id=subject_id, due_at=due_at))

    def enqueue_apart(self, kind: str, key: str, *, subject_id: UUID) -> UUID | None:
        """Add a job of this organization on the wall clock, once per `key`: what leaves the house at once.

        Its kind must run without the organization's lock.
        """
        job_id = work.add_job(self.session, self.job_apart(kind, key, subject_id=subject_id))
        if job_id is not None:
            self.ring(kind, str(job_id))
        return job_id

    def job(
        self, kind: str, key: str, *, subject_id: UUID | None = None, due_at: datetime | None = None
    ) -> Job:
        """What `enqueue` adds."""
        return Job(
            kind=kind,
            unique_key=f"{kind}:{key}",
            organization_id=self.organization.id,
            clock_id=self.organization.test_clock_id,
            subject_id=subject_id,
            due_at=due_at or self.now,
        )

    def job_apart(self, kind: str, key: str, *, subject_id: UUID) -> Job:
        """What `enqueue_apart` adds."""
        return Job(
            kind=kind,
            unique_key=f"{kind}:{key}",
            organization_id=self.organization.id,
            subject_id=subject_id,
            due_at=self.wall,
        )
