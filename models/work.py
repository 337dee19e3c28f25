"""Claims on rows of work: jobs and inbox rows, with a lease and an attempt count.

A claim is fenced by its attempt number: who lost the lease cannot write the outcome.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import CursorResult, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from models import bulk
from models.base import new_id
from models.ops import Job

MAX_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class ClaimedJob:
    id: UUID
    kind: str
    unique_key: str
    organization_id: UUID | None
    subject_id: UUID | None
    clock_id: UUID | None
    due_at: datetime
    attempts: int
    deferrals: int

    @property
    def organization(self) -> UUID:
        """Whose job it is: every job that a tenant's unit has added is somebody's."""
        assert self.organization_id is not None
        return self.organization_id

    @property
    def subject(self) -> UUID:
        """What it is about, for jobs that are about a row."""
        assert self.subject_id is not None
        return self.subject_id

    @property
    def is_first_try(self) -> bool:
        """Nothing of it has been done before: what Stripe answers is an answer of now."""
        return self.attempts == 1 and self.deferrals == 0

    @property
    def number(self) -> int:
        """The number at the end of the key, for jobs that are counted."""
        return int(self.unique_key.rpartition(":")[2])


def add_job(session: Session, job: Job) -> UUID | None:
    """Store a job unless its `unique_key` exists. Returns its id, or None when it was there."""
    statement = (
        insert(Job).values(_row(job)).on_conflict_do_nothing(index_elements=["unique_key"]).returning(Job.id)
    )
    return session.execute(statement).scalar_one_or_none()


def add_jobs(session: Session, jobs: Sequence[Job]) -> dict[str, UUID]:
    """Store jobs unless their keys exist. Returns the ids of those that were not there, by their keys."""
    rows = [_row(job) for job in jobs]
    added = bulk.insert_missing(session, Job, rows)
    return {row["unique_key"]: row["id"] for row in rows if row["id"] in added}


def _row(job: Job) -> dict[str, Any]:
    return {
        "id": new_id(),
        "kind": job.kind,
        "organization_id": job.organization_id,
        "subject_id": job.subject_id,
        "unique_key": job.unique_key,
        "clock_id": job.clock_id,
        "due_at": job.due_at,
    }


_CLAIM_JOB = text(
    """
    UPDATE ops.jobs SET state = 'running', attempts = attempts + 1,
           lease_until_at = clock_timestamp() + make_interval(secs => :lease_s)
    WHERE id = :id AND attempts < :max_attempts
      AND ((state = 'queued' AND not_before_at <= clock_timestamp())
           OR (state = 'running' AND lease_until_at < clock_timestamp()))
    RETURNING id, kind, unique_key, organization_id, subject_id, clock_id, due_at, attempts, deferrals
    """
)


def claim_job(session: Session, job_id: UUID, lease: timedelta) -> ClaimedJob | None:
    """Take the job for the length of a lease; None when another has it or it is finished."""
    row = session.execute(
        _CLAIM_JOB, {"id": job_id, "lease_s": lease.total_seconds(), "max_attempts": MAX_ATTEMPTS}
    ).one_or_none()
    return ClaimedJob(*row) if row else None


# What a claim reads: jobs due on the wall, on clocks of their own, and those that a dead worker has left.
_CLAIM_DUE = text(
    """
    WITH of_the_wall AS (
        SELECT id FROM ops.jobs
        WHERE kind = :kind AND clock_id IS NULL AND state = 'queued' AND due_at <= :wall
          AND not_before_at <= clock_timestamp() AND attempts < :max_attempts
        ORDER BY due_at LIMIT :most FOR UPDATE SKIP LOCKED
    ), of_clocks AS (
        SELECT j.id FROM ops.test_clocks c JOIN ops.jobs j ON j.clock_id = c.id AND j.due_at <= c.frozen_at
        WHERE j.kind = :kind AND j.state = 'queued' AND j.not_before_at <= clock_timestamp()
          AND j.attempts < :max_attempts
        ORDER BY j.due_at LIMIT :most FOR UPDATE OF j SKIP LOCKED
    ), abandoned AS (
        SELECT id FROM ops.jobs
        WHERE kind = :kind AND state = 'running' AND lease_until_at < clock_timestamp()
          AND attempts < :max_attempts
        LIMIT :most FOR UPDATE SKIP LOCKED
    ), due AS (
        SELECT id FROM of_the_wall UNION ALL SELECT id FROM of_clocks UNION ALL SELECT id FROM abandoned
    )
    UPDATE ops.jobs SET state = 'running', attempts = attempts + 1,
           lease_until_at = clock_timestamp() + make_interval(secs => :lease_s)
    WHERE id = ANY(ARRAY(SELECT id FROM due LIMIT :most))
    RETURNING id, kind, unique_key, organization_id, subject_id, clock_id, due_at, attempts, deferrals
    """
)


def claim_due(session: Session, kind: str, wall: datetime, lease: timedelta, most: int) -> list[ClaimedJob]:
    """Take up to `most` jobs of a kind that are due now and that nobody has, the longest due first."""
    values = {
        "kind": kind,
        "wall": wall,
        "most": most,
        "lease_s": lease.total_seconds(),
        "max_attempts": MAX_ATTEMPTS,
    }
    claimed = [ClaimedJob(*row) for row in session.execute(_CLAIM_DUE, values)]
    return sorted(claimed, key=lambda job: (job.due_at, job.id))


_FINISH_ALL = text(
    f"""
    UPDATE ops.jobs j SET state = 'done', finished_at = clock_timestamp(), lease_until_at = NULL,
           last_error = NULL
    FROM {bulk.listed({"id": "uuid", "attempts": "integer"}, "d")}
    WHERE j.id = d.id AND j.attempts = d.attempts AND j.state = 'running'
    """
)


def finish_jobs(session: Session, jobs: Sequence[ClaimedJob]) -> None:
    """Mark jobs done, but for those whose lease was lost to another worker."""
    rows = [{"id": job.id, "attempts": job.attempts} for job in jobs]
    session.execute(_FINISH_ALL, {"rows": bulk.as_json(rows)})


def finish_job(session: Session, job: ClaimedJob) -> bool:
    """Mark the job done; False when the lease was lost to another worker."""
    return _settle(
        session,
        "UPDATE ops.jobs SET state = 'done', finished_at = clock_timestamp(), lease_until_at = NULL, "
        "last_error = NULL "
        "WHERE id = :id AND attempts = :attempts AND state = 'running'",
        {"id": job.id, "attempts": job.attempts},
    )


def defer_job(session: Session, job: ClaimedJob, delay: timedelta, reason: str) -> bool:
    """Put the job back for later without using up an attempt: the world was not ready."""
    return _settle(
        session,
        "UPDATE ops.jobs SET state = 'queued', attempts = attempts - 1, deferrals = deferrals + 1, "
        "lease_until_at = NULL, last_error = :reason, "
        "not_before_at = clock_timestamp() + make_interval(secs => :delay_s) "
        "WHERE id = :id AND attempts = :attempts AND state = 'running'",
        {"id": job.id, "attempts": job.attempts, "delay_s": delay.total_seconds(), "reason": reason},
    )


def fail_job(session: Session, job: ClaimedJob, delay: timedelta, reason: str) -> bool:
    """Record a failed attempt; after MAX_ATTEMPTS the job is dead until a person re-drives it."""
    return _settle(
        session,
        "UPDATE ops.jobs SET state = CASE WHEN attempts >= :max_attempts THEN 'dead' ELSE 'queued' END, "
        "lease_until_at = NULL, last_error = :reason, "
        "not_before_at = clock_timestamp() + make_interval(secs => :delay_s) "
        "WHERE id = :id AND attempts = :attempts AND state = 'running'",
        {
            "id": job.id,
            "attempts": job.attempts,
            "delay_s": delay.total_seconds(),
            "reason": reason,
            "max_attempts": MAX_ATTEMPTS,
        },
    )


def _settle(session: Session, statement: str, values: dict[str, Any]) -> bool:
    result = session.execute(text(statement), values)
    assert isinstance(result, CursorResult)
    return result.rowcount == 1


_DUE_JOBS = text(
    """
    (SELECT id, kind FROM ops.jobs
     WHERE state = 'queued' AND clock_id IS NULL AND due_at <= :wall AND not_before_at <= :wall
     ORDER BY due_at LIMIT :most)
    UNION ALL
    (SELECT j.id, j.kind FROM ops.test_clocks c
     JOIN ops.jobs j ON j.clock_id = c.id AND j.due_at <= c.frozen_at
     WHERE j.state = 'queued' AND j.not_before_at <= :wall
     ORDER BY j.due_at LIMIT :most)
    UNION ALL
    (SELECT id, kind FROM ops.jobs WHERE state = 'running' AND lease_until_at < :wall LIMIT :most)
    """
)


def due_jobs(session: Session, wall: datetime, most: int) -> Sequence[tuple[UUID, str]]:
    """Jobs that somebody should run now: due on their own clock, or abandoned by a dead worker."""
    return [(row.id, row.kind) for row in session.execute(_DUE_JOBS, {"wall": wall, "most": most})]


def bury_exhausted(session: Session, wall: datetime) -> int:
    """Jobs whose worker died at every attempt: dead, so that a poison job cannot loop."""
    result = session.execute(
        text(
            "UPDATE ops.jobs SET state = 'dead', lease_until_at = NULL, "
            "last_error = coalesce(last_error, 'the worker died at every attempt') "
            "WHERE state = 'running' AND lease_until_at < :wall AND attempts >= :max_attempts"
        ),
        {"wall": wall, "max_attempts": MAX_ATTEMPTS},
    )
    assert isinstance(result, CursorResult)
    return result.rowcount


def redrive_job(session: Session, job_id: UUID) -> bool:
    """Give a dead job its attempts back."""
    return _settle(
        session,
        "UPDATE ops.jobs SET state = 'queued', attempts = 0, not_before_at = clock_timestamp() "
        "WHERE id = :id AND state = 'dead'",
        {"id": job_id},
    )
