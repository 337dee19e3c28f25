"""How many single usage POSTs a second the door takes, on durable settings, and whether any was lost.

`python -m benchmarks.doors [--seconds 10] [--clients 8]` starts Postgres, Valkey, the web process and a
worker of its own. The limit beside it is the same row inserted by bare psycopg, one commit each.
Exits with 1 when an acknowledged event is not in Postgres.
"""

import argparse
import contextlib
import http.client
import json
import os
import platform
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg

from cli.context import opened
from cli.keys import issue_bound
from cli.local import http as probing
from cli.local.stack import LocalStack
from models.migrate import upgrade
from models.organizations import Organization
from tasks import catalog

_PRODUCT, _METRIC = "autoflow", "workflow_runs"
_PATH = "/api/billing/usage/track/"
_INSERT = (
    "INSERT INTO ops.usage_inbox (id, product_id, body_digest, organization_ids, events, accepted, state, "
    "attempts, duplicates) VALUES (gen_random_uuid(), %s, 'bench', '{}', %s, 0, 'done', 0, 0)"
)


@dataclass(slots=True)
class Tally:
    """What the clients saw: seconds of each acknowledged POST, and what was refused."""

    spans_s: list[float] = field(default_factory=list)
    refused: int = 0

    def percentile_ms(self, percent: int) -> float:
        return statistics.quantiles(self.spans_s, n=100)[percent - 1] * 1000


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments.add_argument("--seconds", type=float, default=10)
    arguments.add_argument("--clients", type=int, default=8)
    chosen = arguments.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, load {_load()}")
    with tempfile.TemporaryDirectory(prefix="dunlin-doors-") as folder:
        stack = LocalStack(
            Path(folder) / "state",
            profile="demo",
            fresh=True,
            processes=("web", "worker-ingest"),
            environ={},
            migrate=upgrade,
            on_notice=lambda _notice: None,
        )
        with stack:
            return _measure(stack, chosen.seconds, chosen.clients)


def _measure(stack: LocalStack, seconds: float, clients: int) -> int:
    with opened(stack.environment) as context:
        catalog.seed(context)
        with context.system() as unit:
            unit.session.add(Organization(slug="acme", name="Acme", email="a@acme.example", currency="USD"))
        key = issue_bound(context, "product", "bench", product=_PRODUCT)
    _wait_for(lambda: probing.probe(stack.urls["web"] + "/health/live") is None)
    assert stack.postgres_admin_url is not None
    with psycopg.connect(stack.postgres_admin_url, dbname="dunlin", autocommit=True) as look:
        limit = _raw_limit(stack.environment["DATABASE_URL"], look, min(seconds, 5), clients)
        _post(stack.urls["web"], key, 1, clients)
        before, worked_s = _stored(look), _cpu_s(stack.pid("web"))
        seen = _post(stack.urls["web"], key, seconds, clients)
        stored, worked_s = _stored(look) - before, _cpu_s(stack.pid("web")) - worked_s
    rate = len(seen.spans_s) / seconds
    print(
        f"single usage POSTs, {clients} clients: {rate:,.0f}/s, p50 {seen.percentile_ms(50):.1f} ms, "
        f"p99 {seen.percentile_ms(99):.1f} ms, refused {seen.refused}"
    )
    print(f"bare inserts of the same row: {limit:,.0f}/s; the door gives {rate / limit:.0%} of it")
    print(f"CPU of the web process for a POST: {worked_s / len(seen.spans_s) * 1000:.2f} ms")
    print(f"acknowledged {len(seen.spans_s)}, stored {stored}")
    return 0 if stored >= len(seen.spans_s) and not seen.refused else 1


def _post(base: str, key: str, seconds: float, clients: int) -> Tally:
    seen, address = Tally(), urlsplit(base)
    give_up_at = time.monotonic() + seconds

    def client() -> None:
        door = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        while time.monotonic() < give_up_at:
            body = json.dumps(_event())
            begun = time.monotonic()
            door.request("POST", _PATH, body, headers)
            answer = door.getresponse()
            answer.read()
            if answer.status == 202:
                seen.spans_s.append(time.monotonic() - begun)
            else:
                seen.refused += 1
        door.close()

    _together(client, clients)
    return seen


def _event() -> dict[str, object]:
    return {
        "event_id": str(uuid4()),
        "organization": "acme",
        "product": _PRODUCT,
        "metric": _METRIC,
        "quantity": "3",
        "timestamp": datetime.now(UTC).isoformat(),
        "properties": {"workflow": "invoice-intake", "region": "eu"},
    }


def _raw_limit(url: str, look: psycopg.Connection[tuple[object, ...]], seconds: float, clients: int) -> float:
    product = look.execute("SELECT id FROM catalog.products WHERE code = %s", (_PRODUCT,)).fetchone()
    assert product is not None
    done: list[int] = []
    give_up_at = time.monotonic() + seconds

    def client() -> None:
        count = 0
        with psycopg.connect(url, autocommit=True) as connection:
            while time.monotonic() < give_up_at:
                connection.execute(_INSERT, (product[0], json.dumps([_event()])))
                count += 1
        done.append(count)

    _together(client, clients)
    return sum(done) / seconds


def _stored(look: psycopg.Connection[tuple[object, ...]]) -> int:
    row = look.execute("SELECT coalesce(sum(accepted), 0)::bigint FROM ops.usage_inbox").fetchone()
    assert row is not None and isinstance(row[0], int)
    return row[0]


def _cpu_s(pid: int) -> float:
    """Seconds that a process and its children have worked: what other load on the machine changes little."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if pid in (int(stat.parent.name), int(fields[1])):
                ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _together(work: Callable[[], None], count: int) -> None:
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _wait_for(happens: Callable[[], bool], timeout_s: float = 60) -> None:
    give_up_at = time.monotonic() + timeout_s
    while not happens():
        assert time.monotonic() < give_up_at, "the web process did not start"
        time.sleep(0.05)


def _load() -> str:
    return f"{os.getloadavg()[0]:.1f}"


if __name__ == "__main__":
    sys.exit(main())
