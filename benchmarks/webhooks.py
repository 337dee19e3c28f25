"""Signed webhooks, HTTP to applied state: how many a second are acknowledged, and how many are applied.

`python -m benchmarks.webhooks [--events 6000] [--objects 200] [--clients 32]` starts Postgres, Valkey, the
web process, the workers and a local Stripe. Each event says that a subscription changed; a worker fetches
that subscription from the local Stripe and applies it. The local Stripe stands on the same cores: its own CPU
is taken out of the applied rate, and stated. The limit beside the door is the same row inserted by bare
psycopg, one commit each. Exits with 1 when an acknowledged event is not in Postgres, or not applied.
"""

import argparse
import json
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg

from benchmarks import machine
from benchmarks.posting import Load, Tally, post
from cli.context import opened
from cli.local import http as probing
from cli.local.stack import LocalStack
from cli.preparing import prepare
from gateway import webhooks
from gateway.client import API_VERSION
from models.migrate import upgrade
from tasks import organizations, payment_methods, subscriptions
from tasks.context import Context
from tasks.organizations import OrganizationTerms
from tasks.subscriptions import SubscriptionTerms

_PATH = "/api/subscriptions/webhooks/stripe/"
_STAGES = ("web", "worker-ingest", "postgres", "valkey", "sandbox")
_OURS = "event_id LIKE 'evt\\_bench\\_%'"
_INSERT = (
    "INSERT INTO ops.webhook_inbox (id, event_id, type, payload, source, state, attempts) "
    "VALUES (gen_random_uuid(), %s, 'bench', %s, 'delivered', 'done', 0)"
)


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments.add_argument("--events", type=int, default=6_000)
    arguments.add_argument("--objects", type=int, default=200, help="subscriptions that the events are about")
    arguments.add_argument("--clients", type=int, default=32)
    chosen = arguments.parse_args()
    print(machine.describe())
    with tempfile.TemporaryDirectory(prefix="dunlin-webhooks-") as folder:
        stack = LocalStack(
            Path(folder) / "state",
            profile="demo",
            fresh=True,
            processes=("web", "worker-ingest", "sandbox"),
            environ={"STRIPE_CALLS_PER_SECOND": "0"},
            migrate=upgrade,
            on_notice=lambda _notice: None,
        )
        with stack, opened(stack.environment) as context:
            return _measure(stack, context, chosen)


def _measure(stack: LocalStack, context: Context, chosen: argparse.Namespace) -> int:
    prepare(context, stack.environment)
    machine.wait_for(lambda: probing.probe(stack.urls["web"] + "/health/live") is None, "the web process")
    changed = [_subscribed(context, number) for number in range(chosen.objects)]
    assert stack.postgres_admin_url is not None
    with psycopg.connect(stack.postgres_admin_url, dbname="dunlin", autocommit=True) as look:
        machine.wait_for(lambda: not _open(look), "the sandbox's own webhooks")
        bodies = [_event(changed[number % len(changed)]) for number in range(chosen.events)]
        limit = _raw_limit(stack.environment["DATABASE_URL"], bodies[:2_000], chosen.clients)
        before = {name: machine.cpu_s(stack.pid(name)) for name in _STAGES}
        tally = _posted(stack, bodies, chosen.clients)
        machine.wait_for(lambda: not _open(look), "the events to be applied", 600)
        seconds = max(tally.seconds, _applied_s(look))
        spent = {name: machine.cpu_s(stack.pid(name)) - before[name] for name in _STAGES}
        spent["load generator"] = tally.cpu_s
        _report(tally, limit, seconds, spent, len(bodies))
        stored = _stored(look)
        print(f"acknowledged {len(tally.spans_s)}, stored and applied {stored}, refused {len(tally.refused)}")
        return 0 if stored == len(bodies) and not tally.refused else 1


def _report(tally: Tally, limit: float, seconds: float, spent: dict[str, float], events: int) -> None:
    print(
        f"door: {tally.per_second:,.0f} webhooks/s acknowledged, p50 {tally.percentile_ms(50):.1f} ms, "
        f"p99 {tally.percentile_ms(99):.1f} ms; bare inserts {limit:,.0f}/s, ratio "
        f"{tally.per_second / limit:.2f}"
    )
    # The local Stripe's share of both cores while all of it ran.
    without = seconds - spent["sandbox"] / 2
    print(
        f"applied: {events / seconds:,.0f}/s from the first POST to the last; "
        f"{events / without:,.0f}/s without the local Stripe's own {spent['sandbox']:.1f} s of CPU"
    )
    each = {name: worked / events * 1e6 for name, worked in spent.items()}
    print("CPU per event, us: " + ", ".join(f"{name} {us:.0f}" for name, us in each.items()))


def _subscribed(context: Context, number: int) -> dict[str, Any]:
    """An organization with a card and a subscription. Returns Stripe's subscription."""
    terms = OrganizationTerms(
        slug=f"org-{number}", name=f"Org {number}", email="o@org.example", currency="USD"
    )
    organization = organizations.create(context, terms)
    payment_methods.attach(context, organization.id, "pm_card_visa", organization.id)
    sale = SubscriptionTerms(plan="autoflow-starter", currency="USD")
    made = subscriptions.create(context, organization.id, sale)
    return context.gateway.fetch("subscription", str(made.subscription.stripe_subscription_id))


def _event(subscription: dict[str, Any]) -> bytes:
    return json.dumps(
        {
            "id": f"evt_bench_{uuid4().hex}",
            "object": "event",
            "api_version": API_VERSION,
            "created": int(datetime.now(UTC).timestamp()),
            "livemode": False,
            "pending_webhooks": 1,
            "request": {"id": None, "idempotency_key": None},
            "type": "customer.subscription.updated",
            "data": {"object": subscription, "previous_attributes": {}},
        },
        default=str,
    ).encode()


def _posted(stack: LocalStack, bodies: Sequence[bytes], clients: int) -> Tally:
    secret, now = stack.environment["STRIPE_WEBHOOK_SECRET"].partition(",")[0], datetime.now(UTC)
    return post(
        Load(
            stack.urls["web"] + _PATH,
            ["Content-Type: application/json"],
            bodies,
            clients,
            own_headers=[f"Stripe-Signature: {webhooks.sign(body, secret, now)}" for body in bodies],
        )
    )


def _raw_limit(url: str, bodies: Sequence[bytes], clients: int) -> float:
    """The same rows by bare psycopg, one commit each, from as many threads as there are clients."""

    def client(own: Sequence[bytes]) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            for body in own:
                connection.execute(_INSERT, (f"evt_{uuid4().hex}", body.decode()))

    threads = [threading.Thread(target=client, args=(bodies[each::clients],)) for each in range(clients)]
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(bodies) / (time.monotonic() - begun)


def _open(look: psycopg.Connection[Any]) -> bool:
    found = look.execute("SELECT EXISTS (SELECT FROM ops.webhook_inbox WHERE state IN ('queued', 'running'))")
    return bool(found.fetchall()[0][0])


def _stored(look: psycopg.Connection[Any]) -> int:
    found = look.execute(f"SELECT count(*) FROM ops.webhook_inbox WHERE state = 'done' AND {_OURS}")
    return int(found.fetchall()[0][0])


def _applied_s(look: psycopg.Connection[Any]) -> float:
    found = look.execute(
        "SELECT extract(epoch FROM max(handled_at) - min(received_at))::float FROM ops.webhook_inbox "
        f"WHERE {_OURS}"
    )
    return float(found.fetchall()[0][0])


if __name__ == "__main__":
    sys.exit(main())
