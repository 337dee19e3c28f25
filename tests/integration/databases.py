"""A migrated database of a test module's own, and a context that works in it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from sqlalchemy import Engine, create_engine, text

from gateway.client import StripeGateway
from models import migrate
from models.base import SCHEMAS
from models.database import Database
from tasks.context import AT_ONCE, Context
from tasks.settings import Settings
from tests.servers import postgres_url


@dataclass(frozen=True, slots=True)
class TestDatabase:
    """A migrated database of its own. `owner` bypasses row-level security; the urls are of our two roles."""

    __test__ = False

    owner: Engine
    app_url: str
    auditor_url: str

    def empty(self) -> None:
        """Take every row out of it."""
        with self.owner.begin() as connection:
            rows = connection.execute(
                text("SELECT schemaname || '.' || tablename FROM pg_tables WHERE schemaname = ANY(:schemas)"),
                {"schemas": list(SCHEMAS)},
            )
            deletions = [f"DELETE FROM {table}" for table in rows.scalars().all()]
            # Seventy statements in one message: tests do this hundreds of times.
            connection.exec_driver_sql(
                "; ".join(["SET LOCAL session_replication_role = replica", *deletions])
            )

    def break_by(self, statement: str, **values: Any) -> int:
        """Do what no code of ours can: triggers, foreign keys and row-level security look away."""
        with self.owner.begin() as connection:
            connection.execute(text("SET LOCAL session_replication_role = replica"))
            return connection.execute(text(statement), values).rowcount


@contextmanager
def fresh_database(name: str, *, to: str = "head") -> Iterator[TestDatabase]:
    """Create (as of a revision) and afterwards drop a database on the test server."""
    url = _created(f"{name}_{os.getpid()}", _migrated(to))
    owner = create_engine(_driver(url))
    host = url.rsplit("@", 1)[1]
    try:
        yield TestDatabase(
            owner, f"postgresql://dunlin_app:app@{host}", f"postgresql://dunlin_auditor:audit@{host}"
        )
    finally:
        owner.dispose()
        _on_server(f"DROP DATABASE {name}_{os.getpid()} WITH (FORCE)")


@cache
def _migrated(to: str) -> str:
    """The name of an empty database of a revision: a copy of it is made in a tenth of the time."""
    name = f"migrated_to_{to}"
    migrate.upgrade(_created(name, "template1"), "app", "audit", to=to)
    return name


def _created(name: str, template: str) -> str:
    """Returns the new database's URL."""
    _on_server(f"CREATE DATABASE {name} TEMPLATE {template}")
    return postgres_url().rsplit("/", 1)[0] + f"/{name}"


def _on_server(statement: str) -> None:
    server = create_engine(_driver(postgres_url()), isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text(statement))
    server.dispose()


class SilentBell:
    """No worker listens: what a use case rings for is done by calling it."""

    def ring(self, task: str, subject: str | None = None, *, after: timedelta = AT_ONCE) -> None:
        """Nothing happens; Postgres has the work."""

    def answered(self, task: str) -> None:
        """Nobody was rung."""


@contextmanager
def offline_context(
    database: TestDatabase, *, wall: datetime, stripe_api_base: str = "http://127.0.0.1:9"
) -> Iterator[Context]:
    """A context of our two roles at a standing instant; without an address, nobody answers for Stripe."""
    gateway = StripeGateway("sk_test_1", api_base=stripe_api_base, wall=lambda: wall, limiter=None)
    settings = Settings(
        database_url=database.app_url,
        auditor_url=database.auditor_url,
        redis_url="redis://127.0.0.1:9/0",
        stripe_api_key="sk_test_1",
        stripe_webhook_secrets=("whsec_1",),
        secret_key="s" * 32,
        key_pepper="p" * 32,
    )
    app, auditor = Database(database.app_url), Database(database.auditor_url)
    try:
        yield Context(app, auditor, gateway, settings, SilentBell(), lambda: wall)
    finally:
        app.close()
        auditor.close()


def _driver(url: str) -> str:
    return url.replace("postgresql://", "postgresql+psycopg://", 1)
