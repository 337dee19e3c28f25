"""The smallest system with the same process tree as the real one: granian, Celery's prefork, beat."""

import os
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

from celery import Celery

queue = Celery("tiny", broker=os.environ["REDIS_URL"])
queue.conf.beat_schedule = {"tick": {"task": "tiny.tick", "schedule": timedelta(seconds=1)}}
queue.conf.task_ignore_result = True
queue.conf.broker_connection_retry_on_startup = True


def tick() -> None:
    """Nothing: a message went from beat through the broker to a worker."""


queue.task(name="tiny.tick")(tick)


def web(
    environ: dict[str, Any], start_response: Callable[[str, list[tuple[str, str]]], Any]
) -> Iterable[bytes]:
    """Answer that we are ready, whatever is asked."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ready"]
