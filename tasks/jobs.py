"""The sweep: rings for every job that is due and that nobody runs."""

import logging

from models import work
from models.ops import Heartbeat
from tasks.context import Context
from tasks.queue import tick

log = logging.getLogger("dunlin.jobs")

_MOST = 500


@tick("jobs.sweep", queue="ops")
def sweep(context: Context) -> None:
    """Everything due up to now: a tick that was missed or came twice changes nothing."""
    wall = context.wall()
    with context.system() as unit:
        if buried := work.bury_exhausted(unit.session, wall):
            log.error("%d jobs are dead: their worker died at every attempt", buried)
        for job_id, kind in work.due_jobs(unit.session, wall, _MOST):
            unit.ring(kind, str(job_id))


@tick("jobs.heartbeat", queue="ops")
def heartbeat(context: Context) -> None:
    """Proof that a tick came all the way: beat, Redis, a worker, Postgres."""
    with context.system() as unit:
        unit.session.merge(Heartbeat(name="beat", at=unit.now))
