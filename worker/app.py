"""The Celery application of workers, beat and Flower: `celery -A worker.app worker|beat|flower`."""

import logging
import os
from typing import Any

from celery.signals import setup_logging, worker_init, worker_process_init

from tasks.composition import build_context, load_use_cases
from tasks.queue import bind, celery
from tasks.queue_settings import configure
from tasks.settings import Settings
from worker.timetable import timetable

settings = Settings.from_environ(os.environ)
configure(celery, settings.redis_url)
celery.conf.beat_schedule = timetable()
load_use_cases()

app = celery


def _log_lines(**_: Any) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    # One line per message received and done would drown what matters; Flower shows them.
    logging.getLogger("celery.worker.strategy").setLevel(logging.WARNING)
    logging.getLogger("celery.app.trace").setLevel(logging.WARNING)


def _refuse_unsafe_start(**_: Any) -> None:
    """Before the pool forks: a role that could read across organizations starts nothing."""
    context = build_context(settings, "worker-start")
    context.database.refuse_unsafe_role()
    context.database.close()
    context.auditor.close()


def _own_context(**_: Any) -> None:
    """After the fork: each child has its own connections."""
    bind(build_context(settings, "worker"))


setup_logging.connect(_log_lines)
worker_init.connect(_refuse_unsafe_start)
worker_process_init.connect(_own_context)
