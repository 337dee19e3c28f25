"""What products and customers ask all day, at many organizations: how long an answer takes, by which plan.

`python -m benchmarks.api [--organizations 100000] [--pace 200] [--seconds 20]` starts Postgres, Valkey and
one web process, fills the tables, and asks the access check, the usage so far and the invoice list of
organizations by chance, `pace` a second in all; the load generator runs on the same cores. A time counts from
when the request was due. Then each endpoint is asked once more in this process, and Postgres explains every
statement that it sends. Exits with 1 when a request was refused or a statement reads a large table whole.
"""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, create_engine, event, text

from benchmarks import machine, plans
from benchmarks.holders import holders
from benchmarks.many_rows import insert, numbered, sql_id
from benchmarks.plans import Finding
from benchmarks.posting import Load, Tally, post
from cli.context import opened
from cli.keys import issue_bound
from cli.local import http as probing
from cli.local.stack import LocalStack
from models.migrate import upgrade
from tasks import catalog
from tasks.context import Context
from web.factory import create_app

_INVOICES, _HOURS = 12, 24  # of each organization: invoices, and hours with usage in the running period
_CLIENTS = 16


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One thing to ask: whose key, and the path for the organization of a number."""

    name: str
    key: str
    path: str

    def of(self, number: int) -> str:
        return self.path.format(slug=f"org-{number}", subscription=numbered("subscription", number))


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments.add_argument("--organizations", type=int, default=100_000)
    arguments.add_argument("--pace", type=int, default=200, help="requests a second")
    arguments.add_argument("--seconds", type=int, default=20, help="for each endpoint")
    chosen = arguments.parse_args()
    print(machine.describe())
    with tempfile.TemporaryDirectory(prefix="dunlin-api-") as folder:
        stack = LocalStack(
            Path(folder) / "state",
            profile="demo",
            fresh=True,
            processes=("web",),
            environ={"API_CALLS_PER_MINUTE": "0"},
            migrate=upgrade,
            on_notice=lambda _notice: None,
        )
        with stack, opened(stack.environment) as context:
            return _measure(stack, context, chosen)


def _measure(stack: LocalStack, context: Context, chosen: argparse.Namespace) -> int:
    catalog.seed(context)
    begun = time.monotonic()
    assert stack.postgres_admin_url is not None
    holders(stack.postgres_admin_url, chosen.organizations)
    _fill(stack.postgres_admin_url, chosen.organizations)
    print(
        f"{chosen.organizations:,} organizations, {_INVOICES} invoices and {_HOURS} rolled up hours each, "
        f"in {time.monotonic() - begun:.0f} s"
    )
    product = issue_bound(context, "product", "bench", product="autoflow")
    admin = issue_bound(context, "admin", "bench")
    endpoints = (
        Endpoint("access check", product, "/api/billing/access/{slug}/autoflow/"),
        Endpoint("usage so far", admin, "/api/billing/usage/?subscription={subscription}"),
        Endpoint("invoice list", admin, "/api/billing/invoices/?organization={slug}"),
    )
    machine.wait_for(lambda: probing.probe(stack.urls["web"] + "/health/live") is None, "the web process")
    refused = sum(_ask(stack, each, chosen) for each in endpoints)
    found = [finding for each in endpoints for finding in _plans(context, each, chosen.organizations // 2)]
    return plans.tell(found) or int(refused > 0)


def _fill(server_url: str, organizations: int) -> None:
    """Invoices of the past, paid, and the rollups of the running period."""
    url = server_url.rsplit("/", 1)[0].replace("postgresql://", "postgresql+psycopg://", 1) + "/dunlin"
    engine = create_engine(url)
    of = {"organization_id": sql_id("organization", f"n % {organizations}")}
    with engine.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        insert(
            connection,
            "tenant.invoices",
            organizations * _INVOICES,
            **of,
            id=sql_id("invoice", "n"),
            subscription_id=sql_id("subscription", f"n % {organizations}"),
            kind="'cycle'",
            status="'paid'",
            number=f"'ORG-' || n % {organizations} || '-' || n / {organizations}",
            period_start_at=f"now() - interval '31 days' * (1 + n / {organizations})",
            finalized_at="now()",
            # Of a sum without discount, tax or credit.
            discount_minor="0",
            tax_minor="0",
            credit_minor="0",
            reduced_minor="0",
        )
        connection.execute(text(_ROLLUPS), {"hours": _HOURS})
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))
        connection.execute(text("CHECKPOINT"))
    engine.dispose()


_ROLLUPS = """
    INSERT INTO tenant.usage_rollups (organization_id, subscription_id, item_id, meter_id, hour_at, from_at,
        grouped, number, restates, count, sum, least, greatest, last_at, last_event_id, last_quantity, moment)
    SELECT i.organization_id, i.subscription_id, i.id, m.id, h.at, h.at, '{}', 1, false, 5, 50, 1, 20,
           h.at + interval '1 minute', 'e', 10, 1
    FROM tenant.subscription_items i
    JOIN catalog.meters m ON m.product_id = i.product_id
    CROSS JOIN LATERAL (SELECT i.started_at + n * interval '1 hour' AS at
                        FROM generate_series(1, :hours) n) h
"""


def _ask(stack: LocalStack, endpoint: Endpoint, chosen: argparse.Namespace) -> int:
    """Ask an endpoint at the pace, print what came of it; returns how many were refused."""
    chance = random.Random(endpoint.name)
    stages = ("web", "postgres")

    def asked(requests: int, pace: float) -> Tally:
        paths = [endpoint.of(chance.randrange(chosen.organizations)) for _ in range(requests)]
        headers = [f"Authorization: Bearer {endpoint.key}"]
        return post(Load(stack.urls["web"], headers, (), _CLIENTS, pace, paths=paths))

    asked(200, chosen.pace)  # connections and prepared statements are made once
    before = {name: machine.cpu_s(stack.pid(name)) for name in stages}
    tally = asked(chosen.pace * chosen.seconds, chosen.pace)
    many = len(tally.spans_s)
    spent = {name: (machine.cpu_s(stack.pid(name)) - before[name]) / many * 1000 for name in stages}
    print(
        f"{endpoint.name}: {tally.per_second:,.0f}/s, p50 {tally.percentile_ms(50):.1f} ms, "
        f"p99 {tally.percentile_ms(99):.1f} ms; CPU each, ms: "
        + ", ".join(f"{name} {ms:.2f}" for name, ms in spent.items())
    )
    return len(tally.refused)


def _plans(context: Context, endpoint: Endpoint, number: int) -> list[Finding]:
    """Postgres's plan of each statement that the endpoint sends, in the transaction that sends it."""
    found: list[Finding] = []
    client = create_app(context).test_client()
    headers = {"Authorization": f"Bearer {endpoint.key}"}
    client.get(endpoint.of(number), headers=headers)  # the key is known from here on
    with _listened(context, endpoint.name, found):
        assert client.get(endpoint.of(number), headers=headers).status_code == 200
    return found


@contextmanager
def _listened(context: Context, name: str, found: list[Finding]) -> Iterator[None]:
    engines = [context.database.engine, context.database.single, context.auditor.engine]

    def explain(connection: Connection, _cursor: object, statement: str, values: Any, *_: object) -> None:
        if statement.lstrip().startswith(("SELECT", "WITH")) and "reltuples" not in statement:
            found.append(plans.explained(connection, name, statement, values))

    for engine in engines:
        event.listen(engine, "before_cursor_execute", explain)
    try:
        yield
    finally:
        for engine in engines:
            event.remove(engine, "before_cursor_execute", explain)


if __name__ == "__main__":
    sys.exit(main())
