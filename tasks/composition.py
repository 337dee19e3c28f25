"""Builds a process's context from its settings; the one place that reads the wall clock."""

import importlib
import pkgutil
from datetime import UTC, datetime

import tasks
from gateway.client import StripeGateway
from gateway.ratelimit import LIVE_PER_SECOND, TEST_PER_SECOND, RateLimiter
from models.database import Database, PoolTerms
from tasks.context import Context
from tasks.queue import CeleryBell
from tasks.settings import Settings


def build_context(settings: Settings, name: str, pool: PoolTerms | None = None) -> Context:
    """A context with connections of its own; `name` shows in pg_stat_activity."""
    live = settings.stripe_api_key.startswith(("sk_live_", "rk_live_"))
    limit = settings.stripe_calls_per_second
    if limit is None:
        limit = LIVE_PER_SECOND if live else TEST_PER_SECOND
    return Context(
        database=Database(settings.database_url, pool, name=f"dunlin {name}"),
        auditor=Database(settings.auditor_url, PoolTerms(size=2), name=f"dunlin {name} auditor"),
        gateway=StripeGateway(
            settings.stripe_api_key,
            api_base=settings.stripe_api_base,
            wall=wall_now,
            limiter=RateLimiter(settings.redis_url, per_second=limit) if limit else None,
        ),
        settings=settings,
        bell=CeleryBell(settings.redis_url),
        wall=wall_now,
    )


def load_use_cases() -> None:
    """Import every use case, so that Celery knows each task by its name: any of them may be rung for."""
    for module in pkgutil.iter_modules(tasks.__path__, "tasks."):
        importlib.import_module(module.name)


def wall_now() -> datetime:
    return datetime.now(UTC)
