"""HTTP to deduplicated usage records, on durable settings, against what one writer reaches without us.

`python -m benchmarks.ingest [--events 200000] [--batch 500] [--organizations 1000] [--stored 1000000]`
starts Postgres, Valkey, the web process and the workers; the load generator runs on the same cores.
The raw limit is measured in the same run: `COPY` into a staging table and `INSERT .. SELECT .. ON
CONFLICT DO NOTHING` into a table with the same indexes, batch by batch, with one writer.
Exits with 1 when an acknowledged event is missing or stands twice.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg

from benchmarks import machine
from benchmarks.holders import holders
from benchmarks.posting import Load, Tally, post
from benchmarks.raw_limit import raw_limit
from cli.context import opened
from cli.keys import issue_bound
from cli.local import http as probing
from cli.local.stack import LocalStack
from models.migrate import upgrade
from tasks import catalog

_PATH = "/api/billing/usage/track/"
_STAGES = ("web", "worker-ingest", "postgres", "valkey")
_REGIONS = ("eu", "us", "za")


@dataclass(frozen=True, slots=True)
class Scene:
    """A running system, its key, its owner's connection, and who reports usage."""

    stack: LocalStack
    key: str
    look: psycopg.Connection[Any]
    slugs: Sequence[str]

    def headers(self) -> list[str]:
        return [f"Authorization: Bearer {self.key}", "Content-Type: application/json"]


def main() -> int:
    chosen = _arguments()
    print(machine.describe())
    with tempfile.TemporaryDirectory(prefix="dunlin-ingest-") as folder:
        stack = LocalStack(
            Path(folder) / "state",
            profile="demo",
            fresh=True,
            processes=("web", "worker-ingest"),
            environ={"USAGE_POSTS_PER_MINUTE": "0"},
            migrate=upgrade,
            on_notice=lambda _notice: None,
        )
        with stack:
            return _measure(stack, chosen)


def _arguments() -> argparse.Namespace:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments.add_argument("--events", type=int, default=200_000, help="in batches")
    arguments.add_argument("--batch", type=int, default=500)
    arguments.add_argument("--singles", type=int, default=30_000, help="POSTs of one event")
    arguments.add_argument("--clients", type=int, default=32, help="connections that post single events")
    arguments.add_argument("--organizations", type=int, default=1_000)
    arguments.add_argument(
        "--stored", type=int, nargs="+", default=[], help="measure batches again with so many events there"
    )
    return arguments.parse_args()


def _measure(stack: LocalStack, chosen: argparse.Namespace) -> int:
    with opened(stack.environment) as context:
        catalog.seed(context)
        key = issue_bound(context, "product", "bench", product="autoflow")
    machine.wait_for(lambda: probing.probe(stack.urls["web"] + "/health/live") is None, "the web process")
    assert stack.postgres_admin_url is not None
    with psycopg.connect(stack.postgres_admin_url, dbname="dunlin", autocommit=True) as look:
        scene = Scene(stack, key, look, holders(stack.postgres_admin_url, chosen.organizations))
        _warm(scene)
        limit = raw_limit(look, list(_batches(scene.slugs, chosen.events, chosen.batch)))
        good = _in_batches(scene, chosen, limit) and _singly(scene, chosen)
        for stored in chosen.stored:
            _store(look, max(0, stored - _records(look)))
            good = good and _in_batches(scene, chosen, limit)
        return 0 if good else 1


def _batches(slugs: Sequence[str], events: int, size: int) -> Iterator[list[dict[str, Any]]]:
    """Batches as a product posts them: each of many organizations, in about the sequence of time."""
    chance, begun = random.Random(events), datetime.now(UTC) - timedelta(days=20)
    for number in range(max(1, events // size)):
        yield [
            {
                "event_id": str(uuid4()),
                "organization": chance.choice(slugs),
                "product": "autoflow",
                "metric": "workflow_runs",
                "quantity": str(chance.randint(1, 9)),
                "timestamp": (begun + timedelta(seconds=number + chance.random()))
                .isoformat(timespec="milliseconds")
                .replace("+00:00", "Z"),
                "properties": {
                    "workflow": f"intake-{chance.randint(1, 400)}",
                    "region": chance.choice(_REGIONS),
                },
            }
            for _ in range(size)
        ]


def _in_batches(scene: Scene, chosen: argparse.Namespace, limit: float) -> bool:
    made = list(_batches(scene.slugs, chosen.events, chosen.batch))
    bodies = [json.dumps({"events": batch}).encode() for batch in made]
    size = sum(map(len, bodies)) / chosen.events
    tally, seconds, spent, good = _posted(scene, bodies, clients=4, pace=0, events=chosen.events)
    rate = chosen.events / seconds
    print(
        f"batches of {chosen.batch} ({size:.0f} bytes an event, {chosen.organizations} organizations): "
        f"{rate:,.0f} events/s from the first POST to the last record, acknowledged at "
        f"{chosen.events / tally.seconds:,.0f}/s"
    )
    print(
        f"raw limit (COPY to staging, INSERT .. SELECT, one writer): {limit:,.0f} events/s; "
        f"ratio {rate / limit:.2f}"
    )
    print(f"CPU per event, us: {_by_stage(spent, chosen.events)}")
    return good


def _singly(scene: Scene, chosen: argparse.Namespace) -> bool:
    bodies = [json.dumps(batch[0]).encode() for batch in _batches(scene.slugs, chosen.singles, 1)]
    tally, _, spent, good = _posted(scene, bodies, clients=chosen.clients, pace=0, events=chosen.singles)
    print(
        f"single events, {chosen.clients} clients: {tally.per_second:,.0f} POSTs/s acknowledged, "
        f"p50 {tally.percentile_ms(50):.1f} ms, p99 {tally.percentile_ms(99):.1f} ms"
    )
    print(f"CPU per POST, us: {_by_stage(spent, chosen.singles)}")
    half = tally.per_second / 2
    bodies = [json.dumps(batch[0]).encode() for batch in _batches(scene.slugs, int(half * 10), 1)]
    paced, _, _, also = _posted(scene, bodies, clients=chosen.clients, pace=half, events=len(bodies))
    print(
        f"at half that load ({half:,.0f}/s): p50 {paced.percentile_ms(50):.1f} ms, "
        f"p99 {paced.percentile_ms(99):.1f} ms"
    )
    return good and also


def _posted(
    scene: Scene, bodies: Sequence[bytes], *, clients: int, pace: float, events: int
) -> tuple[Tally, float, dict[str, float], bool]:
    """Post and wait for the records. Returns the tally, seconds until the last record, CPU, and the proof."""
    before, written, worked = (
        _records(scene.look),
        _wal(scene.look),
        {name: machine.cpu_s(scene.stack.pid(name)) for name in _STAGES},
    )
    tally = post(Load(scene.stack.urls["web"] + _PATH, scene.headers(), bodies, clients, pace))
    machine.wait_for(lambda: not _waiting(scene.look), "the inbox to be emptied", 600)
    seconds = time.monotonic() - tally.begun
    spent = {name: machine.cpu_s(scene.stack.pid(name)) - worked[name] for name in _STAGES}
    spent["load generator"] = tally.cpu_s
    print(f"write-ahead log: {(_wal(scene.look) - written) / events:,.0f} bytes an event")
    stored = _records(scene.look) - before
    print(
        f"acknowledged {len(tally.spans_s)} POSTs of {events} events, stored {stored}, "
        f"refused {len(tally.refused)}"
    )
    return tally, seconds, spent, stored == events and not tally.refused


def _by_stage(spent: dict[str, float], events: int) -> str:
    each = {name: worked / events * 1e6 for name, worked in spent.items()}
    return ", ".join(f"{name} {us:.1f}" for name, us in each.items()) + f"; in all {sum(each.values()):.1f}"


def _wal(look: psycopg.Connection[Any]) -> int:
    """How much the write-ahead log holds by now, in bytes."""
    return int(look.execute("SELECT pg_current_wal_lsn() - '0/0'").fetchall()[0][0])


def _records(look: psycopg.Connection[Any]) -> int:
    return int(look.execute("SELECT count(*) FROM tenant.usage_records").fetchall()[0][0])


def _waiting(look: psycopg.Connection[Any]) -> bool:
    open_ones = "SELECT FROM ops.usage_inbox WHERE state IN ('queued', 'running')"
    found = look.execute(f"SELECT EXISTS ({open_ones})".encode()).fetchall()
    return bool(found[0][0])


def _warm(scene: Scene) -> None:
    bodies = [json.dumps({"events": batch}).encode() for batch in _batches(scene.slugs, 5_000, 50)]
    _posted(scene, bodies, clients=8, pace=0, events=5_000)


def _store(look: psycopg.Connection[Any], count: int) -> None:
    """So many records more, of earlier days. Indexes are built afterwards, as full as inserts leave them."""
    print(f"storing {count:,} events first ...", flush=True)
    indexes, references = look.execute(_INDEXES).fetchall(), look.execute(_REFERENCES).fetchall()
    for table, name, _ in references:
        look.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}".encode())
    for name, _ in indexes:
        look.execute(f"DROP INDEX {name}".encode())
    look.execute("ALTER TABLE tenant.usage_records DROP CONSTRAINT pk_usage_records")
    look.execute(_FILL, {"count": count, "batch": uuid4()})
    look.execute("SET maintenance_work_mem = '1GB'")
    look.execute(
        "ALTER TABLE tenant.usage_records ADD CONSTRAINT pk_usage_records "
        "PRIMARY KEY (organization_id, product_id, event_id) WITH (fillfactor = 70)"
    )
    look.execute("ALTER INDEX tenant.pk_usage_records SET (fillfactor = 90)")
    for _, definition in indexes:
        look.execute(definition.encode())
    for table, name, definition in references:
        look.execute(f"ALTER TABLE {table} ADD CONSTRAINT {name} {definition}".encode())
    look.execute("VACUUM ANALYZE tenant.usage_records")
    look.execute("CHECKPOINT")


_INDEXES = """
    SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index
    WHERE indrelid = 'tenant.usage_records'::regclass AND NOT indisprimary
"""
_REFERENCES = """
    SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
    WHERE confrelid = 'tenant.usage_records'::regclass
"""
_FILL = """
    INSERT INTO tenant.usage_records (
        organization_id, product_id, event_id, batch_id, batch_index, meter_id, quantity,
        occurred_at, properties, subscription_id, item_id, late, state, received_at)
    SELECT i.organization_id, i.product_id, md5(%(batch)s::text || n)::uuid::text, %(batch)s, n, c.meter_id,
           1 + n %% 9,
           now() - interval '39 days' + n * interval '30 days' / %(count)s,
           '{"workflow": "intake-7", "region": "eu"}', i.subscription_id, i.id, false, 'waiting', now()
    FROM (SELECT *, row_number() OVER () - 1 AS place FROM tenant.subscription_items) i
    JOIN catalog.plan_charges c ON c.plan_id = i.plan_id AND c.currency = 'USD'
    JOIN generate_series(0, %(count)s - 1) n
         ON n %% (SELECT count(*) FROM tenant.subscription_items) = i.place
"""


if __name__ == "__main__":
    sys.exit(main())
