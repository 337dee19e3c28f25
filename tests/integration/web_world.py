"""The web application on a real database: two organizations with a past, a key of each kind, a client.

The doorbell is one that nobody hears, which the law allows at any time. Stripe is a closed port.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch

from argon2 import PasswordHasher
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from gateway.client import StripeGateway
from models.database import Database
from tasks import keys, users
from tasks.context import AT_ONCE, Context
from tasks.settings import Settings
from tests.integration.factories import (
    Quarter,
    TestDatabase,
    acme_with_a_quarter,
    catalog,
    fresh_database,
)
from tests.servers import redis_url
from web.factory import create_app

NOW = datetime(2026, 4, 20, 12, tzinfo=UTC)
WEBHOOK_SECRET = "whsec_of_the_tests"
SCHEMAS = ("catalog", "ops", "tenant")


class UnheardBell:
    """A doorbell that nobody hears; what was rung is remembered."""

    def __init__(self) -> None:
        self.rung: list[tuple[str, str | None]] = []

    def ring(self, task: str, subject: str | None = None, *, after: timedelta = AT_ONCE) -> None:
        self.rung.append((task, subject))

    def answered(self, task: str) -> None:
        """Nobody answers this door."""


@dataclass
class Wall:
    """A wall clock that stands until a test moves it."""

    at: datetime = NOW

    def __call__(self) -> datetime:
        return self.at

    def passes(self, span: timedelta) -> None:
        self.at += span


@dataclass
class WebWorld:
    """Acme and Globex each used Flow for a quarter; `keys` holds one bearer text per kind of caller."""

    database: TestDatabase
    context: Context
    app: Flask
    wall: Wall
    bell: UnheardBell
    acme: Quarter
    globex: Quarter
    keys: dict[str, str] = field(default_factory=dict)

    @property
    def client(self) -> FlaskClient:
        return self.app.test_client()

    def call(self, method: str, path: str, who: str | None = None, **options: Any) -> TestResponse:
        """One request to the API as `who` (a name in `keys`), or without a key."""
        headers = dict(options.pop("headers", {}))
        if who is not None:
            headers["Authorization"] = f"Bearer {self.keys[who]}"
        return self.client.open(path, method=method, headers=headers, **options)

    def rows(self) -> dict[str, int]:
        """How many rows every table holds: two of these tell whether a request wrote anything."""
        with self.database.owner.connect() as connection:
            names = connection.execute(
                text("SELECT schemaname || '.' || tablename FROM pg_tables WHERE schemaname = ANY(:schemas)"),
                {"schemas": list(SCHEMAS)},
            )
            return {
                name: connection.execute(text(f"SELECT count(*) FROM {name}")).scalar_one()
                for name in sorted(names.scalars())
            }

    def sql(self, statement: str, **values: Any) -> list[Any]:
        """What the owner of the schema sees; for looking, and for setting a scene."""
        with self.database.owner.begin() as connection:
            found = connection.execute(text(statement), values)
            return list(found.all()) if found.returns_rows else []


def settings_for(database: TestDatabase, **changes: Any) -> Settings:
    values: dict[str, Any] = {
        "database_url": database.app_url,
        "auditor_url": database.auditor_url,
        "redis_url": redis_url(),
        "stripe_api_key": "sk_test_of_the_tests",
        "stripe_webhook_secrets": (WEBHOOK_SECRET,),
        "secret_key": "a secret key of the tests",
        "key_pepper": "a pepper of the tests",
        "stripe_api_base": "http://127.0.0.1:1",
    }
    return Settings(**{**values, **changes})


@contextmanager
def context_for(database: TestDatabase, wall: Wall, bell: UnheardBell) -> Iterator[Context]:
    settings = settings_for(database)
    made = Context(
        database=Database(settings.database_url),
        auditor=Database(settings.auditor_url),
        gateway=StripeGateway(
            settings.stripe_api_key, api_base=settings.stripe_api_base, wall=wall, limiter=None
        ),
        settings=settings,
        bell=bell,
        wall=wall,
    )
    try:
        yield made
    finally:
        made.database.close()
        made.auditor.close()


@contextmanager
def web_world(name: str) -> Iterator[WebWorld]:
    """A world on a database of its own."""
    wall, bell = Wall(), UnheardBell()
    # A password that is dear to guess costs each sign-in a tenth of a second.
    cheap = patch.object(users, "_HASHER", PasswordHasher(time_cost=1, memory_cost=64, parallelism=1))
    with cheap, fresh_database(name) as database, context_for(database, wall, bell) as context:
        with Session(database.owner) as session, session.begin():
            rows = catalog(session)
            acme = acme_with_a_quarter(session, "acme", rows)
            globex = acme_with_a_quarter(session, "globex", rows)
        world = WebWorld(database, context, create_app(context), wall, bell, acme, globex)
        world.keys = {
            "admin": keys.issue(context, "admin", "ops")[1],
            "product": keys.issue(context, "product", "flow", product_id=acme.product_id)[1],
            "acme": keys.issue(context, "organization", "acme", organization_id=acme.organization_id)[1],
            "globex": keys.issue(context, "organization", "globex", organization_id=globex.organization_id)[
                1
            ],
        }
        bell.rung.clear()
        yield world
