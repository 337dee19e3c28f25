"""How long a backtest of a quarter takes, and whether it proves what was invoiced.

`python -m benchmarks.backtests [--events 1000000] [--organizations 2000] [--runs 5]` fills a database of its
own with three invoiced months: half of the events add up, of the other half distinct values count. The
limit beside it is one bare statement that only adds the same events up, on the same machine in the same
run. Exits with 1 when a charge does not come to what was invoiced, a total is not what it must be, or the
median takes longer than a minute.
"""

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, create_engine, text

from benchmarks.many_rows import insert, numbered
from billing.calendar import calendar_period
from billing.groups import GroupedTerms
from billing.rating import rate
from cli.context import opened
from cli.local.stack import LocalStack
from models.migrate import upgrade
from models.schema import metadata
from tasks import backtest, catalog
from tasks.backtest import BacktestTerms
from tasks.context import Context

_MOST_S = 60
_MONTHS = 3
_CATALOG = """
[[tiers]]
code = "pro"
name = "Professional"
rank = 1

[[products]]
code = "flow"
name = "Flow"
billing_type = "hybrid"
[[products.meters]]
code = "runs"
name = "Runs"
unit = "run"
aggregation = "sum"
[[products.meters]]
code = "workflows"
name = "Workflows"
unit = "workflow"
aggregation = "unique"
unique_property = "workflow"
[products.plans.pro]
prices.USD = 4900
charges.runs.USD = { model = "graduated", included = "100", tiers = [
    { up_to = "1000", unit_price = "1.5" }, { unit_price = "1" } ] }
charges.workflows.USD = { model = "per_unit", unit_price = "20", included = "5" }
"""
# Each workflow costs 5 cents more, and a month 1.00 more.
_DRAFT = _CATALOG.replace('unit_price = "20"', 'unit_price = "25"').replace("4900", "5000")


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments.add_argument("--events", type=int, default=1_000_000)
    arguments.add_argument("--organizations", type=int, default=2_000)
    arguments.add_argument("--runs", type=int, default=5)
    chosen = arguments.parse_args()
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"load {os.getloadavg()[0]:.1f}"
    )
    with tempfile.TemporaryDirectory(prefix="dunlin-backtests-") as folder:
        stack = LocalStack(
            Path(folder) / "state", profile="test", fresh=True, processes=(), environ={}, migrate=upgrade
        )
        with stack, opened(stack.environment) as context:
            assert stack.postgres_admin_url is not None
            url = stack.postgres_admin_url.rsplit("/", 1)[0] + "/dunlin"
            _fill(context, url, chosen.events, chosen.organizations)
            return _measure(context, chosen.events, chosen.runs)


def _measure(context: Context, events: int, runs: int) -> int:
    terms = BacktestTerms(period=calendar_period("2026-Q1"))
    limit_s = _median_s(runs, lambda: _add_up(context))
    unchanged = backtest.run(context, _CATALOG, terms)
    took_s = _median_s(runs, lambda: backtest.run(context, _DRAFT, terms))
    found = backtest.run(context, _DRAFT, terms)
    tally = found.tally.currencies["USD"]
    print(
        f"{found.counts.events:,} events, {found.counts.periods:,} billing periods, "
        f"{found.tally.compared:,} charges, median of {runs} runs"
    )
    print(f"backtest: {took_s:.2f} s, {events / took_s:,.0f} events/s")
    print(f"one bare statement that adds the same up: {limit_s:.2f} s; {took_s / limit_s:.1f} x that")
    expected = _expected_difference(context)
    print(f"difference {tally.total.difference:,}, must be {expected:,}")
    good = (
        found.proven
        and unchanged.proven
        and unchanged.tally.currencies["USD"].total.difference == 0
        and tally.total.difference == expected
        and found.counts.events == events
        and took_s < _MOST_S
    )
    return 0 if good else 1


def _median_s(runs: int, work: Callable[[], object]) -> float:
    spans = []
    for _ in range(runs):
        begun = time.monotonic()
        work()
        spans.append(time.monotonic() - begun)
    return statistics.median(spans)


_SUMS = """
    SELECT item_id, meter_id, date_trunc('month', occurred_at), sum(quantity),
           count(DISTINCT properties ->> 'workflow')
    FROM tenant.usage_records GROUP BY 1, 2, 3
"""


def _add_up(context: Context) -> list[Any]:
    with context.auditor.snapshot() as session:
        return list(session.execute(text(_SUMS)))


def _expected_difference(context: Context) -> int:
    """From the bare statement alone: 5 cents for each workflow above five, 1.00 for each recurring line."""
    with context.auditor.snapshot() as session:
        months = session.execute(text("SELECT count(*) FROM tenant.invoice_lines WHERE kind = 'recurring'"))
        code = session.execute(text("SELECT id FROM catalog.meters WHERE code = 'workflows'")).scalar_one()
        above = sum(max(0, row[4] - 5) for row in session.execute(text(_SUMS)) if row[1] == code)
        return int(above * 5 + months.scalar_one() * 100)


def _fill(context: Context, url: str, events: int, organizations: int) -> None:
    catalog.apply(context, _CATALOG)
    begun = time.monotonic()
    owner = create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1))
    with owner.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        _fill_subscriptions(connection, organizations)
        _fill_usage(connection, events, organizations)
        _price_lines(connection)
    with owner.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))
    owner.dispose()
    print(f"filled in {time.monotonic() - begun:.0f} s")


def _id(kind: str, number: str) -> str:
    prefix = str(numbered(kind, 0))[:-12]
    return f"('{prefix}' || lpad(to_hex({number}), 12, '0'))::uuid"


def _of(table: str, code: str) -> str:
    return f"(SELECT id FROM catalog.{table} WHERE code = '{code}')"


def _fill_subscriptions(connection: Connection, organizations: int) -> None:
    began, plan = "timestamptz '2026-01-01 00:00Z'", _of("product_plans", "flow-pro")
    of = {"organization_id": _id("organization", "n")}
    insert(
        connection,
        "catalog.organizations",
        organizations,
        id=_id("organization", "n"),
        slug="'slug-' || n",
        external_id="'external-' || n",
        stripe_customer_id="'cus_' || n",
    )
    insert(
        connection,
        "tenant.product_subscriptions",
        organizations,
        **of,
        id=_id("subscription", "n"),
        status="'active'",
        interval="'month'",
        product_plan_id=plan,
        started_at=began,
        anchor_at=began,
        usage_closed_until_at="timestamptz '2026-04-01 00:00Z'",
    )
    insert(
        connection,
        "tenant.subscription_items",
        organizations,
        **of,
        id=_id("item", "n"),
        subscription_id=_id("subscription", "n"),
        product_id=_of("products", "flow"),
        plan_id=plan,
        price_id="(SELECT id FROM catalog.plan_prices)",
        quantity="1",
        started_at=began,
    )
    _fill_invoices(connection, organizations)


def _fill_invoices(connection: Connection, organizations: int) -> None:
    """For each month an invoice, with what it charges for the next one, and two lines of usage."""
    number, month = f"n % {organizations}", f"n / {organizations}"
    started = "timestamptz '2026-01-01 00:00Z' + {} * interval '1 month'"
    of = {
        "organization_id": _id("organization", number),
        "subscription_id": _id("subscription", number),
        "period_start_at": started.format(month),
        "period_end_at": started.format(f"({month} + 1)"),
    }
    insert(
        connection,
        "tenant.invoices",
        organizations * _MONTHS,
        **of,
        id=_id("invoice", "n"),
        kind="'cycle'",
        status="'paid'",
        number="'N-' || n",
        rated_at=started.format(f"({month} + 1)"),
        finalized_at=started.format(f"({month} + 1)"),
        stripe_invoice_id="'in_' || n",
        **{
            column.name: "0"
            for column in metadata.tables["tenant.invoices"].columns
            if column.name.endswith("_minor")
        },
    )
    line = {**of, "item_id": _id("item", number), "product_id": _of("products", "flow")}
    for place, (kind, meter) in enumerate((("recurring", None), ("usage", "runs"), ("usage", "workflows"))):
        insert(
            connection,
            "tenant.invoice_lines",
            organizations * _MONTHS,
            **line,
            id=_id("line", f"n * 3 + {place}"),
            invoice_id=_id("invoice", "n"),
            key=f"'{meter or kind}'",
            kind=f"'{kind}'",
            meter_id="NULL" if meter is None else _of("meters", meter),
            amount_minor="4900",
            explanation="'{}'",
        )


def _fill_usage(connection: Connection, events: int, organizations: int) -> None:
    """Event n of each organization in turn, over three months in turn; every second one on each meter."""
    row = f"(n % {organizations} + n / {2 * organizations} % {_MONTHS} * {organizations})"
    place = f"n / {organizations} % 2"
    insert(
        connection,
        "tenant.usage_records",
        events,
        organization_id=_id("organization", f"n % {organizations}"),
        subscription_id=_id("subscription", f"n % {organizations}"),
        item_id=_id("item", f"n % {organizations}"),
        product_id=_of("products", "flow"),
        meter_id=f"CASE {place} WHEN 0 THEN {_of('meters', 'runs')} ELSE {_of('meters', 'workflows')} END",
        event_id="'event-' || n",
        quantity="1 + n % 97",
        occurred_at="timestamptz '2026-01-01 00:00Z' "
        f"+ n / {2 * organizations} % {_MONTHS} * interval '1 month' + n % 2400000 * interval '1 second'",
        properties="jsonb_build_object('workflow', 'w' || n / 7 % 40)",
        state="'rated'",
        invoice_line_id=_id("line", f"{row} * 3 + 1 + {place}"),
    )


def _price_lines(connection: Connection) -> None:
    """What the lines of usage charge, rated in Python from the bare statement."""
    terms: dict[UUID, GroupedTerms] = {
        row.meter_id: GroupedTerms.from_record(row.terms)
        for row in connection.execute(text("SELECT meter_id, terms FROM catalog.plan_charges"))
    }
    codes: dict[UUID, str] = {
        row.id: row.code for row in connection.execute(text("SELECT id, code FROM catalog.meters"))
    }
    amounts = [
        {
            "item_id": item_id,
            "meter_id": meter_id,
            "month": month,
            "minor": rate(
                Fraction(total if codes[meter_id] == "runs" else workflows), terms[meter_id].rest
            ).amount.minor,
        }
        for item_id, meter_id, month, total, workflows in connection.execute(text(_SUMS))
    ]
    connection.execute(text("UPDATE tenant.invoice_lines SET amount_minor = 0 WHERE kind = 'usage'"))
    connection.execute(
        text(
            "UPDATE tenant.invoice_lines SET amount_minor = :minor "
            "WHERE item_id = :item_id AND meter_id = :meter_id AND period_start_at = :month"
        ),
        amounts,
    )


if __name__ == "__main__":
    sys.exit(main())
