"""The composition root of the web process: `granian --interface wsgi web.app:app`."""

import os
from collections.abc import Mapping
from datetime import UTC, datetime

from flask import Flask

from gateway.client import StripeGateway
from gateway.ratelimit import RateLimiter
from models.database import Database, PoolTerms
from tasks.context import Context
from tasks.queue import CeleryBell, celery
from tasks.settings import Settings
from web.factory import create_app
from web.log import configure_logging

# A request must not hang on a lock or a long statement: its sender waits for it.
_STATEMENT_TIMEOUT_S = 5


def build(environ: Mapping[str, str]) -> Flask:
    """The application of an environment. Raises BadSetting, UnsafeDatabaseRole."""
    settings = Settings.from_environ(environ)
    context = Context(
        database=_database(settings.database_url, environ, "dunlin-web"),
        auditor=_database(settings.auditor_url, environ, "dunlin-web-auditor"),
        gateway=_gateway(settings),
        settings=settings,
        bell=_bell(settings),
        wall=_wall,
    )
    hosts = [host.strip() for host in environ.get("TRUSTED_HOSTS", "").split(",") if host.strip()]
    return create_app(context, trusted_hosts=hosts)


def _database(url: str, environ: Mapping[str, str], name: str) -> Database:
    pool = PoolTerms(size=int(environ.get("WEB_CONNECTIONS", "8")), statement_timeout_s=_STATEMENT_TIMEOUT_S)
    return Database(url, pool, name=name)


def _gateway(settings: Settings) -> StripeGateway:
    limiter = None
    if settings.stripe_calls_per_second > 0:
        limiter = RateLimiter(settings.redis_url, per_second=settings.stripe_calls_per_second)
    return StripeGateway(
        settings.stripe_api_key, api_base=settings.stripe_api_base, wall=_wall, limiter=limiter
    )


def _bell(settings: Settings) -> CeleryBell:
    """Rings that give up at once: the row is safe, and the sweep rings again."""
    celery.conf.update(
        broker_url=settings.redis_url,
        task_ignore_result=True,
        task_publish_retry_policy={
            "max_retries": 1,
            "interval_start": 0,
            "interval_step": 0.1,
            "interval_max": 0.1,
        },
        broker_transport_options={"socket_timeout": 2, "socket_connect_timeout": 1, "max_retries": 1},
        broker_pool_acquire_timeout=2,
    )
    return CeleryBell()


def _wall() -> datetime:
    return datetime.now(UTC)


configure_logging()
app = build(os.environ)
