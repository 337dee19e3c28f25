"""Celery's settings, each with its reason. Publishers and workers share them."""

from datetime import timedelta
from typing import Any

from celery import Celery
from kombu.entity import Exchange, Queue

from tasks.queue import QUEUES, route

_HARD_LIMIT_S = 240
_VISIBILITY_S = 600


def configure(celery: Celery, redis_url: str) -> None:
    """Set the application up for a broker that is a doorbell: work lives in Postgres."""
    celery.conf.update(
        broker_url=redis_url,
        **_messages(),
        **_execution(),
        **_broker(),
        **_visibility_to_ops(),
    )
    # Else a process that is set up for another broker goes on ringing at the first one.
    celery.__dict__.pop("amqp", None)


def _messages() -> dict[str, Any]:
    return {
        # Pickle would run code that a stranger in Redis put there.
        "accept_content": ["json"],
        "task_serializer": "json",
        "result_accept_content": ["json"],
        # A typo must not create a queue that nobody reads.
        "task_create_missing_queues": False,
        # An exchange each: queues that share one and its key would all get every message.
        "task_queues": [Queue(name, Exchange(name), name) for name in QUEUES],  # type: ignore[no-untyped-call]
        "task_default_queue": "ops",
        "task_routes": (route,),
        # Outcomes are rows; dead result connections have silenced beat before.
        "task_ignore_result": True,
        # Daylight saving breaks schedules; local time is computed per customer.
        "timezone": "UTC",
        "enable_utc": True,
    }


def _execution() -> dict[str, Any]:
    return {
        # Without these three a killed worker's task is lost, or loops for ever.
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "task_retry_on_worker_lost": True,
        # A failure is recorded in its row; a redelivered message would only run it hot.
        "task_acks_on_failure_or_timeout": True,
        # Prefetched messages wait behind a long task while other workers idle.
        "worker_prefetch_multiplier": 1,
        # The default is none; must stay under half the visibility timeout.
        "task_soft_time_limit": 200,
        "task_time_limit": _HARD_LIMIT_S,
        # Else each reconnection doubles the work; the default from Celery 6 on.
        "worker_cancel_long_running_tasks_on_connection_loss": True,
        # A leak ends as a clean restart, not at the hands of the out-of-memory killer.
        "worker_max_tasks_per_child": 1000,
        "worker_max_memory_per_child": 300_000,
        # On a deploy unfinished tasks go back to the queue within this long.
        "worker_soft_shutdown_timeout": 30,
        # A flood of ETA messages would be held in memory; we use none beyond seconds.
        "worker_eta_task_limit": 100,
    }


def _broker() -> dict[str, Any]:
    transport = {
        # More than twice the hard limit; short, so that a killed worker's messages come back soon.
        "visibility_timeout": _VISIBILITY_S,
        # The default sweep for them is every 100 s or so.
        "unacked_restore_interval": 10,
        "unacked_restore_throttle": 1,
        # A publisher must fail fast: the row is safe and the sweep will ring.
        "socket_timeout": 10,
        "socket_connect_timeout": 3,
        "socket_keepalive": True,
        "health_check_interval": 25,
        "max_retries": 3,
    }
    return {
        "broker_transport_options": transport,
        # Celery reads it here too; where both exist the shorter one wins.
        "visibility_timeout": _VISIBILITY_S,
        # A web request must not hang on Redis.
        "task_publish_retry_policy": {
            "max_retries": 2,
            "interval_start": 0,
            "interval_step": 0.1,
            "interval_max": 0.2,
        },
        # The default blocks for ever.
        "broker_pool_acquire_timeout": 5,
        # The default gives up after 100 tries, and the worker then stays deaf.
        "broker_connection_max_retries": None,
        "broker_connection_retry_on_startup": True,
    }


def _visibility_to_ops() -> dict[str, Any]:
    return {
        # Flower lives on these events.
        "worker_send_task_events": True,
        "task_send_sent_event": True,
        # Beat: short intervals only, and a stale tick vanishes (see the timetable).
        "beat_max_loop_interval": timedelta(seconds=15).seconds,
        "worker_hijack_root_logger": False,
    }
