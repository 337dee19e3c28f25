"""The task queue: the Celery application, the decorators of a use case, and the doorbell.

A Celery message carries at most one id. Postgres holds the work: a job row is claimed with a
lease before it runs, and `jobs.sweep` rings again for what nobody claimed.
"""

import logging
import math
import random
import threading
import time
from collections.abc import Callable, Sequence, Set
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import redis
from celery import Celery
from kombu.exceptions import LimitExceeded, OperationalError
from sqlalchemy.exc import OperationalError as DatabaseError

from billing.errors import BillingError
from gateway.errors import Throttled, Unreachable
from models import work
from models.database import OrganizationBusy
from models.work import ClaimedJob
from tasks.context import AT_ONCE, Context

log = logging.getLogger("dunlin.queue")

celery = Celery("dunlin")

_MARK_LIFETIME_MS = 2_000
_BETWEEN_RINGS_S = 0.1
# A wait as long as the sweep's interval is the sweep's. So is what comes when this many are waited for: while
# Stripe is away a busy worker puts back all that it takes.
_LONGEST_WAIT = timedelta(seconds=15)
_MOST_WAITS = 100

QUEUES = ("usage", "webhooks", "clocks", "stripe", "invoicing", "dunning", "ops")

UseCase = Callable[[Context, ClaimedJob], None]
Tick = Callable[[Context], None]

# Every job kind and its use case; a job row whose kind is not here is a defect of a deploy.
_use_cases: dict[str, UseCase] = {}
# Kinds that do not touch what the organization's lock guards, and wait for others' servers.
_without_lock: set[str] = set()


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of jobs that were tried together: done, or not begun and put back for their turn.

    All others were not for this, or something stood in their way: they are tried alone.
    """

    done: Set[UUID]
    later: Set[UUID] = frozenset()


Together = Callable[[Context, Sequence[ClaimedJob]], Settled]
# Kinds of which one message does many jobs.
_together: dict[str, Together] = {}
# Enough to make a statement worth its while, few enough to wait for; their organizations are held meanwhile.
MOST_TOGETHER = 100
# A message that has found work for this long hands the rest to the next one: messages have a time limit.
_LONGEST_S = 60.0


# Task name -> queue; Celery asks `route` for each message.
_queues: dict[str, str] = {}


def route(name: str, *_: object, **__: object) -> dict[str, str] | None:
    """Where a task's messages go; the decorators below say it."""
    return {"queue": _queues[name]} if name in _queues else None


def _register(name: str, queue: str, run: Callable[..., object]) -> None:
    _queues[name] = queue
    celery.task(name=name)(run)


class TryLater(BillingError):
    """The world is not ready for this job; it goes back without using up an attempt.

    For `delay`, or each time for longer than the last.
    """

    code = "try_later"

    def __init__(self, reason: str, delay: timedelta | None = None) -> None:
        super().__init__(reason)
        self.delay = delay


class _Process:
    """The context of this process, bound once by its composition root."""

    context: Context | None = None


def bind(context: Context) -> None:
    _Process.context = context


def bound() -> Context:
    assert _Process.context is not None, "bind() runs in the composition root before any task"
    return _Process.context


def job(name: str, queue: str, *, locked: bool = True) -> Callable[[UseCase], UseCase]:
    """Make a use case of a job row a Celery task `name` on `queue`; its argument is the job's id.

    It runs under its organization's lock, unless it is not `locked`.
    """

    def register(use_case: UseCase) -> UseCase:
        _use_cases[name] = use_case
        if not locked:
            _without_lock.add(name)

        def run(job_id: str | None = None) -> str:
            if name in _together:
                return run_due(bound(), name)
            return run_job(bound(), UUID(job_id))

        _register(name, queue, run)
        return use_case

    return register


def together(name: str) -> Callable[[Together], Together]:
    """Make a function of many claimed jobs the first thing that is tried with jobs of this kind.

    It runs under the locks of their organizations, and may fail: what it has not done is done alone.
    """

    def register(function: Together) -> Together:
        _together[name] = function
        return function

    return register


def tick(name: str, queue: str) -> Callable[[Tick], Tick]:
    """Make a function of the context a Celery task without argument: "everything due up to now"."""

    def register(function: Tick) -> Tick:
        def run() -> None:
            bound().bell.answered(name)
            function(bound())

        _register(name, queue, run)
        return function

    return register


def subject_task(
    name: str, queue: str
) -> Callable[[Callable[[Context, UUID], None]], Callable[[Context, UUID], None]]:
    """Make a function of the context and one id a Celery task that is not backed by a job row.

    Only for what a sweep repeats anyway.
    """

    def register(function: Callable[[Context, UUID], None]) -> Callable[[Context, UUID], None]:
        def run(subject_id: str) -> None:
            bound().bell.answered(_name(name, subject_id))
            function(bound(), UUID(subject_id))

        _register(name, queue, run)
        return function

    return register


def run_job(context: Context, job_id: UUID) -> str:
    """Claim the job, run its use case under its organization's lock, record the outcome.

    Returns what happened, for the worker's log: "done", "deferred", "failed" or "not mine".
    """
    with context.database.system() as session:
        claimed = work.claim_job(session, job_id, context.settings.lease)
    if claimed is None:
        return "not mine"
    outcome = _attempt(context, claimed)
    if claimed.clock_id is not None:
        # A clock that is being advanced goes on when its organizations have come to rest.
        context.bell.ring("clocks.step", str(claimed.clock_id))
    return outcome


def run_due(context: Context, kind: str) -> str:
    """Claim the jobs of a kind that are due, many at a time, until none is left."""
    context.bell.answered(kind)
    until_s = time.monotonic() + _LONGEST_S
    done = 0
    while time.monotonic() < until_s:
        with context.database.system() as session:
            claimed = work.claim_due(session, kind, context.wall(), context.settings.lease, MOST_TOGETHER)
        if not claimed:
            return f"{done} done"
        done += _attempt_all(context, claimed, until_s)
        for clock_id in {job.clock_id for job in claimed if job.clock_id is not None}:
            context.bell.ring("clocks.step", str(clock_id))
    context.bell.ring(kind)
    return f"{done} done, more to do"


def _attempt_all(context: Context, claimed: Sequence[ClaimedJob], until_s: float) -> int:
    """Try jobs together, then what is left alone, as long as there is time. Returns how many are done."""
    settled = _attempt_together(context, claimed) if len(claimed) > 1 else Settled(frozenset())
    done = len(settled.done)
    for job in claimed:
        if job.id in settled.done:
            continue
        if job.id in settled.later or time.monotonic() > until_s:
            _put_back(context, job, timedelta(0), "its turn has not come")
        else:
            done += _attempt(context, job) == "done"
    return done


def _attempt_together(context: Context, claimed: Sequence[ClaimedJob]) -> Settled:
    """What could be done together. Whatever goes wrong here goes wrong again, by itself, where it belongs."""
    kind = claimed[0].kind
    try:
        with context.database.free_organizations({job.organization for job in claimed}) as free:
            settled = _together[kind](context, [job for job in claimed if job.organization in free])
            done = [job for job in claimed if job.id in settled.done]
            with context.database.system() as session:
                work.finish_jobs(session, done)
    except Exception:
        log.exception("%d jobs %s could not be done together", len(claimed), kind)
        return Settled(frozenset())
    return settled


def _attempt(context: Context, claimed: ClaimedJob) -> str:
    lock = (
        context.database.organization_lock(claimed.organization_id)
        if claimed.organization_id and claimed.kind not in _without_lock
        else nullcontext()
    )
    try:
        with lock:
            _use_cases[claimed.kind](context, claimed)
    except TryLater as later:
        return _put_back(context, claimed, later.delay or _backoff(claimed.deferrals), str(later))
    except (Throttled, Unreachable, OrganizationBusy, DatabaseError) as passing:
        log.warning("%s %s waits: %s", claimed.kind, claimed.id, type(passing).__name__)
        return _put_back(
            context, claimed, _backoff(claimed.deferrals), f"{type(passing).__name__}: {passing}"
        )
    except Exception as error:
        log.exception("%s %s failed at attempt %d", claimed.kind, claimed.id, claimed.attempts)
        delay = _backoff(claimed.attempts)
        with context.database.system() as session:
            work.fail_job(session, claimed, delay, f"{type(error).__name__}: {error}")
        context.bell.ring(claimed.kind, str(claimed.id), after=delay)
        return "failed"
    with context.database.system() as session:
        work.finish_job(session, claimed)
    return "done"


def _put_back(context: Context, claimed: ClaimedJob, delay: timedelta, reason: str) -> str:
    with context.database.system() as session:
        work.defer_job(session, claimed, delay, reason)
    context.bell.ring(claimed.kind, str(claimed.id), after=delay)
    return "deferred"


def _backoff(times: int) -> timedelta:
    """Exponential with full jitter, 1 s to 5 min: many waiters must not come back together."""
    jitter = random.uniform(0.5, 1)  # noqa: S311 - spreads load, hides nothing
    return timedelta(seconds=jitter * min(300, 2 ** min(times, 9)))


class CeleryBell:
    """Rings through Celery. A lost ring is logged and left to the sweep: the row is safe.

    A task that takes "everything that waits" (of one subject, or at all) needs one message for many
    rows: while a ring of it is under way no other is sent, or they would queue up faster than they
    are worked off. The mark goes when the worker starts to look, so a row that is stored later rings
    again; should the message be lost, the mark expires. A job's ring is for its row alone.

    A tick's ring within a tenth of a second of the last one of this process waits until that is over, so
    that a busy door asks Redis for none of its POSTs.

    A ring for work that was put back is kept until its time by a timer of this process. A message with a
    countdown would be in a worker's hands as long, and with enough of those it takes no other.
    """

    def __init__(self, redis_url: str) -> None:
        self._marks = redis.Redis.from_url(redis_url, socket_timeout=2, socket_connect_timeout=2)
        self._lock = threading.Lock()
        self._rung_at_s: dict[str, float] = {}
        self._waits: set[tuple[str, str | None, int]] = set()

    def ring(self, task: str, subject: str | None = None, *, after: timedelta = AT_ONCE) -> None:
        if task in _together:
            subject = None  # one message does all that are due
        if after or (subject is None and self._is_too_soon(task)):
            self._ring_later(task, subject, after)
        else:
            self._ring(task, subject)

    def _is_too_soon(self, task: str) -> bool:
        with self._lock:
            now_s = time.monotonic()
            if now_s < self._rung_at_s.get(task, 0.0) + _BETWEEN_RINGS_S:
                return True
            self._rung_at_s[task] = now_s
            return False

    def _ring_later(self, task: str, subject: str | None, after: timedelta) -> None:
        """Ring at the first full tenth of a second from then on: those of one task and tenth are one."""
        if after >= _LONGEST_WAIT:
            return
        now_s = time.monotonic()
        tenth = math.ceil((now_s + after.total_seconds()) / _BETWEEN_RINGS_S)
        wait = (task, subject, tenth)
        with self._lock:
            if wait in self._waits or (after and len(self._waits) >= _MOST_WAITS):
                return
            self._waits.add(wait)
        timer = threading.Timer(tenth * _BETWEEN_RINGS_S - now_s, self._ring_late, wait)
        timer.daemon = True
        timer.start()

    def _ring_late(self, task: str, subject: str | None, tenth: int) -> None:
        with self._lock:
            self._waits.discard((task, subject, tenth))
            self._rung_at_s[task] = time.monotonic()
        self._ring(task, subject)

    def _ring(self, task: str, subject: str | None) -> None:
        is_for_one = task in _use_cases and task not in _together
        is_marked = False
        try:
            if not is_for_one:
                is_marked = self._leave_mark(_name(task, subject))
                if not is_marked:
                    return
            celery.tasks[task].apply_async(args=() if subject is None else (subject,))
        except (OperationalError, LimitExceeded, redis.RedisError, OSError) as error:
            log.warning("could not ring %s: %s; the sweep will", task, type(error).__name__)
            if is_marked:
                # A mark without a message would keep everybody else from ringing.
                self.answered(_name(task, subject))

    def _leave_mark(self, name: str) -> bool:
        """Whether no other ring of this name is under way."""
        return bool(self._marks.set(_mark(name), 1, nx=True, px=_MARK_LIFETIME_MS))

    def answered(self, task: str) -> None:
        try:
            self._marks.delete(_mark(task))
        except (redis.RedisError, OSError) as error:
            log.warning("the mark of %s stays until it expires: %s", task, type(error).__name__)


def _name(task: str, subject: str | None) -> str:
    return task if subject is None else f"{task}:{subject}"


def _mark(task: str) -> str:
    return f"dunlin:rung:{task}"
