"""A month's end: subscriptions with usage are closed, rated and made final invoices; how many a second.

`python -m benchmarks.billing [--subscriptions 100000] [--closed 20000]` starts Postgres on durable settings
and writes organizations with a subscription and usage each, in the period to close and in the running one.
As many processes as there are cores then do what the jobs of cycle invoices do in Postgres: adopt the
drafts, rate them, number and seal them, many in a transaction each, as Stripe's calls stand between them.
Those calls and the queue's messages are left out, and the calls counted apart, in a running system. The limit
beside it is one writer that copies the same rows with a statement for each thousand invoices. Exits with 1
unless each that was closed has one final invoice that has taken its own period's usage and no other, and the
invariants hold.
"""

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from multiprocessing.pool import AsyncResult
from pathlib import Path
from typing import Any

import psycopg

from benchmarks import machine, stripe_calls
from benchmarks.holders import holders
from benchmarks.many_rows import numbered
from billing.periods import Interval, period_at
from cli.context import opened
from cli.local.stack import LocalStack
from gateway.translate import InvoiceFacts
from models import invariants
from models.migrate import upgrade
from models.subscriptions import ProductSubscription
from tasks import adopting_together, catalog, finishing_together, rating_together
from tasks.adopting_together import Seen
from tasks.context import AT_ONCE, Context
from tasks.finishing_together import Final
from tasks.queue import MOST_TOGETHER
from tasks.rating_together import Draft

_HELD = ("I1", "I2", "I3", "I8")
_A_STATEMENT = 1_000  # invoices that the limit writes at once


@dataclass(frozen=True, slots=True)
class Share:
    """What one process has closed: seconds of wall and of its own CPU."""

    begun_at_s: float
    ended_at_s: float
    cpu_s: float


class _NoBell:
    """Nobody is rung: no worker runs here."""

    def ring(self, task: str, subject: str | None = None, *, after: timedelta = AT_ONCE) -> None:
        """Nothing to do."""

    def answered(self, task: str) -> None:
        """Nothing to do."""


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments.add_argument("--subscriptions", type=int, default=100_000)
    arguments.add_argument("--events", type=int, default=10, help="of each subscription in each period")
    arguments.add_argument("--closed", type=int, default=20_000, help="how many of them to close; 0 is all")
    arguments.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    arguments.add_argument("--together", type=int, default=MOST_TOGETHER, help="invoices in a transaction")
    chosen = arguments.parse_args()
    chosen.closed = min(chosen.closed or chosen.subscriptions, chosen.subscriptions)
    print(machine.describe())
    with tempfile.TemporaryDirectory(prefix="dunlin-billing-") as folder:
        stack = LocalStack(
            Path(folder) / "state",
            profile="demo",
            fresh=True,
            processes=(),
            environ={"STRIPE_API_KEY": "sk_test_never_used"},
            migrate=upgrade,
            on_notice=lambda _notice: None,
        )
        with stack, opened(stack.environment) as context:
            failed = _measure(stack, context, chosen)
    stripe_calls.report(stripe_calls.count())
    return failed


def _measure(stack: LocalStack, context: Context, chosen: argparse.Namespace) -> int:
    catalog.seed(context)
    assert stack.postgres_admin_url is not None
    holders(stack.postgres_admin_url, chosen.subscriptions)
    with psycopg.connect(stack.postgres_admin_url, dbname="dunlin", autocommit=True) as look:
        _store_usage(look, chosen.events)
        before_s = machine.cpu_s(stack.pid("postgres"))
        shares = _close_all(stack.environment, chosen)
        postgres_s = machine.cpu_s(stack.pid("postgres")) - before_s
        limit = _raw_limit(look)
        _report(shares, postgres_s, chosen, limit)
        return 0 if _is_true(context, look, chosen) else 1


def _store_usage(look: psycopg.Connection[Any], events: int) -> None:
    """As many events of each subscription in the period to close, and in the one that runs."""
    look.execute(
        """
        INSERT INTO tenant.usage_records
            (organization_id, product_id, event_id, batch_id, batch_index, meter_id, quantity, occurred_at,
             subscription_id, item_id, state, late, received_at)
        SELECT i.organization_id, i.product_id, gen_random_uuid(), uuidv7(), 0, m.id, 1 + n %% 9,
               CASE WHEN n %% 2 = 0 THEN i.started_at ELSE i.started_at + interval '1 month' END
                   + n * interval '1 hour',
               i.subscription_id, i.id, 'waiting', false, now()
        FROM generate_series(0, 2 * %s::int - 1) n
        CROSS JOIN tenant.subscription_items i
        JOIN catalog.meters m ON m.product_id = i.product_id AND m.code = 'workflow_runs'
        """,
        (events,),
    )
    look.execute("VACUUM ANALYZE")
    look.execute("CHECKPOINT")


def _close_all(environment: dict[str, str], chosen: argparse.Namespace) -> list[Share]:
    """Close as many as are to be closed, evenly out of all, by all processes at once."""
    numbers = range(0, chosen.subscriptions, chosen.subscriptions // chosen.closed)[: chosen.closed]
    end_at = _period_end(environment)
    spawn = multiprocessing.get_context("spawn")
    with spawn.Pool(chosen.processes) as pool:
        running: list[AsyncResult[Share]] = [
            pool.apply_async(
                _close_share, (environment, numbers[each :: chosen.processes], end_at, chosen.together)
            )
            for each in range(chosen.processes)
        ]
        return [each.get() for each in running]


def _period_end(environment: dict[str, str]) -> datetime:
    """When the period to close ended: the same instant for all."""
    organization_id, subscription_id = numbered("organization", 0), numbered("subscription", 0)
    with opened(environment) as context, context.tenant(organization_id) as unit:
        subscription = unit.session.get_one(ProductSubscription, (organization_id, subscription_id))
        began_at = subscription.anchor_at
    return period_at(began_at, Interval.month, began_at).end


def _close_share(environment: dict[str, str], numbers: range, end_at: datetime, together: int) -> Share:
    with opened(environment) as made:
        context = replace(made, bell=_NoBell())
        begun_at_s, worked_s = time.time(), time.process_time()
        for start in range(0, len(numbers), together):
            _close(context, numbers[start : start + together], end_at)
        return Share(begun_at_s, time.time(), time.process_time() - worked_s)


def _close(context: Context, numbers: range, end_at: datetime) -> None:
    """What the jobs of some cycle invoices do here, between their calls to Stripe."""
    owners = {f"in_{number}": numbered("organization", number) for number in numbers}
    seen = [Seen(owners[f"in_{number}"], _stripes(number, end_at)) for number in numbers]
    ours = adopting_together.adopt(context, seen)
    drafts = [Draft(each.organization_id, ours[each.facts.id], each.facts) for each in seen]
    rated = rating_together.rate(context, drafts)
    finals = [
        Final(
            each.organization_id, each.invoice_id, _finalized(each.facts, rated[each.invoice_id].total_minor)
        )
        for each in drafts
    ]
    assert len(finishing_together.finish(context, finals)) == len(numbers), "none of them is unusual"


def _stripes(number: int, end_at: datetime) -> InvoiceFacts:
    """Stripe's draft of a cycle, as the rating sees it."""
    return InvoiceFacts(
        id=f"in_{number}",
        customer_id="cus",
        subscription_id=f"sub_{number}",
        status="draft",
        billing_reason="subscription_cycle",
        auto_advance=False,
        currency="USD",
        subtotal_minor=0,
        discount_minor=0,
        tax_minor=0,
        tax_included_minor=0,
        total_minor=0,
        amount_due_minor=0,
        amount_paid_minor=0,
        amount_remaining_minor=0,
        starting_balance_minor=0,
        credited_minor=0,
        number=None,
        hosted_invoice_url=None,
        period_start_at=end_at - timedelta(days=30),
        period_end_at=end_at,
        created_at=end_at,
        finalized_at=None,
        paid_at=None,
        voided_at=None,
        metadata={},
        subscription_metadata={},
        lines=(),
        lines_complete=True,
        confirmation_secret=None,
    )


def _finalized(facts: InvoiceFacts, total: int) -> InvoiceFacts:
    return replace(
        facts, status="open", total_minor=total, amount_due_minor=total, finalized_at=datetime.now(UTC)
    )


def _raw_limit(look: psycopg.Connection[Any]) -> float:
    """Invoices a second by one writer: the same rows into the same columns and indexes, and nothing else."""
    tables = ("usage_records", "invoices", "invoice_lines", "invoice_sequences", "notifications")
    look.execute("DROP SCHEMA IF EXISTS bench CASCADE; CREATE SCHEMA bench")
    for table in tables:
        look.execute(
            f"CREATE TABLE bench.{table} (LIKE tenant.{table} INCLUDING DEFAULTS INCLUDING INDEXES)".encode()
        )
    look.execute("INSERT INTO bench.usage_records SELECT * FROM tenant.usage_records")
    look.execute("UPDATE bench.usage_records SET state = 'waiting', invoice_line_id = NULL")
    look.execute("VACUUM ANALYZE bench.usage_records")
    ids = [row[0] for row in look.execute("SELECT DISTINCT organization_id FROM tenant.invoices ORDER BY 1")]
    begun = time.monotonic()
    for start in range(0, len(ids), _A_STATEMENT):
        chunk = ids[start : start + _A_STATEMENT]
        with look.transaction():
            look.execute(
                """
                UPDATE bench.usage_records b SET state = 'rated', invoice_line_id = l.id
                FROM tenant.invoice_lines l
                WHERE l.organization_id = ANY(%s) AND b.organization_id = l.organization_id
                  AND b.subscription_id = l.subscription_id AND b.meter_id = l.meter_id
                  AND b.occurred_at >= l.period_start_at AND b.occurred_at < l.period_end_at
                """,
                (chunk,),
            )
            for table in tables[1:]:
                look.execute(
                    f"INSERT INTO bench.{table} SELECT * FROM tenant.{table} "
                    "WHERE organization_id = ANY(%s)".encode(),
                    (chunk,),
                )
    seconds = time.monotonic() - begun
    look.execute("DROP SCHEMA bench CASCADE")
    return len(ids) / seconds


def _report(shares: list[Share], postgres_s: float, chosen: argparse.Namespace, limit: float) -> None:
    seconds = max(each.ended_at_s for each in shares) - min(each.begun_at_s for each in shares)
    python_ms = sum(each.cpu_s for each in shares) / chosen.closed * 1000
    postgres_ms = postgres_s / chosen.closed * 1000
    rate = chosen.closed / seconds
    cores = os.cpu_count() or 1
    print(
        f"{chosen.closed:,} of {chosen.subscriptions:,} subscriptions by {len(shares)} processes: "
        f"{rate:,.0f}/s; one writer that copies the same rows {limit:,.0f}/s, ratio {rate / limit:.2f}"
    )
    print(
        f"CPU per subscription, ms: Python {python_ms:.2f}, Postgres {postgres_ms:.2f}; {cores} cores with "
        f"nothing else to do come to {cores * 1000 / (python_ms + postgres_ms):,.0f}/s"
    )


def _is_true(context: Context, look: psycopg.Connection[Any], chosen: argparse.Namespace) -> bool:
    """One final invoice for each subscription; each record of the closed period taken, no other."""
    final, once, rated, waiting = look.execute(
        """
        SELECT (SELECT count(*) FROM tenant.invoices WHERE status = 'open' AND content_hash IS NOT NULL),
               (SELECT count(DISTINCT (organization_id, subscription_id)) FROM tenant.invoices),
               (SELECT count(*) FROM tenant.usage_records r JOIN tenant.invoice_lines l
                  ON l.organization_id = r.organization_id AND l.id = r.invoice_line_id
                 AND r.occurred_at >= l.period_start_at AND r.occurred_at < l.period_end_at
                WHERE r.state = 'rated'),
               (SELECT count(*) FROM tenant.usage_records WHERE state = 'waiting')
        """
    ).fetchall()[0]
    many, all_events = chosen.closed, 2 * chosen.subscriptions * chosen.events
    print(f"{final:,} final invoices of {once:,} subscriptions; {rated:,} events taken, {waiting:,} left")
    with context.auditor.system() as session:
        breaches = [each for each in invariants.check(session, context.wall()) if each.invariant in _HELD]
    for breach in breaches[:5]:
        print(f"{breach.invariant}: {breach.detail}")
    print(f"{', '.join(_HELD)}: {len(breaches)} breaches")
    wanted = (many, many, many * chosen.events, all_events - many * chosen.events)
    return (final, once, rated, waiting) == wanted and not breaches


if __name__ == "__main__":
    sys.exit(main())
