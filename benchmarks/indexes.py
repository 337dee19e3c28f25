"""Whether the queries of every day stay index scans when there is much: the plans, and how long they take.

`python -m benchmarks.indexes [--subscriptions 1000000]` fills a database of its own, runs the queries of
the code as the code's own roles, and asks Postgres to explain each. Exits with 1 when one reads a
large table whole, or throws away most of what it reads.
"""

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Literal
from uuid import UUID

from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from benchmarks import plans
from benchmarks.many_rows import NOW, PRODUCTS, Rows, fill, numbered
from benchmarks.plans import Finding
from billing.periods import Period
from cli.local.stack import LocalStack
from models import (
    access_queries,
    accounts,
    admin_lists,
    admin_usage_lists,
    billing_queries,
    catalog_queries,
    clock_queries,
    credentials,
    mailbox,
    organization_queries,
    quarantine,
    reading,
    sale_queries,
    together,
    usage_billing,
    usage_corrections,
    usage_inbox,
    usage_intake,
    usage_rollups,
    usage_together,
    work,
)
from models.base import new_id
from models.database import Database
from models.migrate import upgrade
from models.ops import ApiKey, WebhookEvent
from models.reading import Page
from models.usage_billing import UsageWindow
from models.usage_rollups import UsedWindow

Place = Literal["system", "organization", "intake", "billing", "auditor"]


@dataclass(frozen=True, slots=True)
class AccessPath:
    """One thing that the code asks for: where, and how."""

    name: str
    place: Place
    ask: Callable[[Session], object]


def paths(rows: Rows) -> list[AccessPath]:
    """Every access path that must not depend on how much there is."""
    return [
        *_door_paths(rows),
        *_sweep_paths(),
        *_api_paths(rows),
        *_billing_paths(rows),
        *_together_paths(rows),
        *_staff_paths(rows),
    ]


def _door_paths(rows: Rows) -> list[AccessPath]:
    one, organization = rows.one, numbered("organization", rows.one)
    stripe = WebhookEvent(
        event_id="evt_1",
        type="x",
        payload={},
        source="webhook",
        customer_id="cus_1",
        state="queued",
        attempts=0,
    )
    party = ApiKey(kind="organization", name=f"x{one}", organization_id=organization, product_id=None)
    return [
        AccessPath(
            "webhook: stored once", "system", lambda s: mailbox.store_events(s.connection(), [stripe])
        ),
        AccessPath(
            "webhook: whose customer", "system", lambda s: organization_queries.by_customer(s, f"cus_{one}")
        ),
        AccessPath(
            "webhook: which subscription",
            "organization",
            lambda s: billing_queries.subscription_by_stripe_id(s, organization, f"sub_{one}"),
        ),
        AccessPath(
            "webhook: which invoice",
            "organization",
            lambda s: billing_queries.invoice_by_stripe_id(s, organization, f"in_{one}"),
        ),
        AccessPath(
            "webhook: which card",
            "organization",
            lambda s: billing_queries.payment_method_by_stripe_id(s, organization, f"pm_{one}"),
        ),
        AccessPath(
            "usage: whom it names",
            "system",
            lambda s: usage_intake.addressees(
                s.connection(), [f"slug-{one}", f"external-{one}", str(organization)]
            ),
        ),
        AccessPath("key: by its hash", "system", lambda s: credentials.key_by_hash(s, f"hash-{one}")),
        AccessPath("key: its live siblings", "system", lambda s: credentials.live_keys_like(s, party, NOW)),
    ]


def _sweep_paths() -> list[AccessPath]:
    lease = timedelta(seconds=60)
    return [
        AccessPath("sweep: due jobs", "system", lambda s: work.due_jobs(s, NOW, 500)),
        AccessPath("sweep: exhausted jobs", "system", lambda s: work.bury_exhausted(s, NOW)),
        AccessPath("sweep: claim a job", "system", lambda s: work.claim_job(s, new_id(), lease)),
        AccessPath("sweep: claim webhooks", "system", lambda s: mailbox.claim(s, lease, 100)),
        AccessPath("sweep: take batches", "system", lambda s: usage_inbox.take_batches(s, 100)),
        AccessPath("clock: is it at rest", "system", lambda s: clock_queries.has_work(s, new_id())),
        AccessPath(
            "clock: its organizations", "system", lambda s: organization_queries.on_clock(s, new_id())
        ),
    ]


def _api_paths(rows: Rows) -> list[AccessPath]:
    one, organization = rows.one, numbered("organization", rows.one)
    middle, page = Page(limit=50, before=organization), Page(limit=50)
    invoice, subscription = numbered("invoice", one), numbered("subscription", one)
    used = UsedWindow(organization, subscription, [numbered("item", one)], NOW - timedelta(days=31), NOW)
    return [
        AccessPath("organizations: first page", "system", lambda s: reading.organizations(s, page)),
        AccessPath("organizations: a later page", "system", lambda s: reading.organizations(s, middle)),
        AccessPath(
            "organization: by its slug",
            "system",
            lambda s: organization_queries.by_reference(s, f"slug-{one}"),
        ),
        AccessPath(
            "subscriptions: list", "organization", lambda s: reading.subscriptions(s, organization, page)
        ),
        AccessPath("invoices: list", "organization", lambda s: reading.invoices(s, organization, page)),
        AccessPath(
            "invoices: the open ones",
            "organization",
            lambda s: reading.invoices(s, organization, page, status="open"),
        ),
        AccessPath("invoice: whole", "organization", lambda s: reading.invoice(s, organization, invoice)),
        AccessPath("cards: list", "organization", lambda s: reading.payment_methods(s, organization)),
        AccessPath("catalog: products", "system", catalog_queries.public_products),
        AccessPath(
            "catalog: plans of a product", "system", lambda s: catalog_queries.public_plans(s, "product-1")
        ),
        AccessPath("catalog: bundles", "system", catalog_queries.public_bundles),
        AccessPath(
            "catalog: an offer", "system", lambda s: sale_queries.plan_offer(s, "plan-1-1", "USD", "month")
        ),
        AccessPath(
            "access: the held plan",
            "organization",
            lambda s: access_queries.held_plan(s, organization, f"product-{one % PRODUCTS}", NOW),
        ),
        AccessPath("usage of the running period", "organization", lambda s: usage_rollups.read(s, used)),
    ]


def _billing_paths(rows: Rows) -> list[AccessPath]:
    one, organization = rows.one, numbered("organization", rows.one)
    subscription, line = numbered("subscription", one), numbered("line", one)
    product = numbered("product", one % PRODUCTS)
    window = UsageWindow(
        organization,
        subscription,
        numbered("item", one),
        numbered("meter", one % PRODUCTS),
        NOW - timedelta(days=31),
        NOW,
    )
    return [
        AccessPath(
            "billing: take the usage", "organization", lambda s: usage_billing.take(s, window, [line])
        ),
        AccessPath("billing: add it up", "organization", lambda s: usage_billing.totals(s, window)),
        AccessPath(
            "billing: what was billed", "organization", lambda s: usage_billing.billed(s, window, line, None)
        ),
        AccessPath(
            "billing: what came late",
            "organization",
            lambda s: usage_billing.late_groups(s, organization, subscription),
        ),
        AccessPath(
            "usage: corrected after the end",
            "organization",
            lambda s: usage_intake.ended_with_late_corrections(s, organization),
        ),
        AccessPath(
            "usage: what to correct",
            "organization",
            lambda s: usage_corrections.lock_record(s, organization, product, "x"),
        ),
        AccessPath(
            "usage: conflicts of a product",
            "auditor",
            lambda s: quarantine.conflicts(
                s,
                organization_id=None,
                product_id=product,
                before=None,
                most=51,
            ),
        ),
        AccessPath("usage: the accounts of a day", "auditor", lambda s: accounts.day_accounts(s, NOW.date())),
        AccessPath(
            "usage: late after the end",
            "intake",
            lambda s: usage_intake.ended_with_late_usage(s, [organization]),
        ),
        AccessPath(
            "usage: open batches",
            "intake",
            lambda s: usage_intake.open_batches(s, [organization], [numbered("invoice", one)], events=1),
        ),
        AccessPath(
            "billing: open invoices", "organization", lambda s: billing_queries.open_invoices(s, organization)
        ),
        AccessPath(
            "billing: lock a subscription",
            "organization",
            lambda s: billing_queries.lock_subscription(s, organization, subscription),
        ),
    ]


def _together_paths(rows: Rows) -> list[AccessPath]:
    """What a hundred invoices are closed by at once."""
    numbers = range(rows.one, rows.one + 100)
    owners = [numbered("organization", number) for number in numbers]
    invoices = [(numbered("organization", number), numbered("invoice", number)) for number in numbers]
    subscriptions = [
        (numbered("organization", number), numbered("subscription", number)) for number in numbers
    ]
    month = Period(NOW - timedelta(days=31), NOW)
    windows = [
        (
            UsageWindow(
                numbered("organization", number),
                numbered("subscription", number),
                numbered("item", number),
                numbered("meter", number % PRODUCTS),
                month.start,
                month.end,
            ),
            [numbered("line", number)],
        )
        for number in numbers
    ]

    def sold(session: Session) -> None:
        held = together.hold(session, invoices, NOW)
        assert len(held) == len(invoices)
        together.sold(session, [(each.subscription, month) for each in held])

    return [
        AccessPath(
            "together: claim due jobs",
            "system",
            lambda s: work.claim_due(s, "invoicing.bill", NOW, timedelta(seconds=60), 100),
        ),
        AccessPath(
            "together: whose subscriptions",
            "billing",
            lambda s: together.ended(
                s, [(owner, f"sub_{number}", NOW) for owner, number in zip(owners, numbers, strict=True)]
            ),
        ),
        AccessPath("together: the drafts and what is sold", "billing", sold),
        AccessPath(
            "together: take the usage, add it up", "billing", lambda s: usage_together.take(s, windows)
        ),
        AccessPath("together: the invoices", "billing", lambda s: together.invoices(s, invoices)),
        AccessPath("together: their lines", "billing", lambda s: together.lines(s, invoices)),
        AccessPath("together: what lives", "billing", lambda s: together.live_terms(s, subscriptions)),
        AccessPath("together: their credit", "billing", lambda s: together.balances(s, owners)),
        AccessPath("together: credit untold", "billing", lambda s: together.with_untold_credit(s, owners)),
        AccessPath(
            "together: their next numbers",
            "billing",
            lambda s: together.next_numbers(s, dict.fromkeys(owners, 1)),
        ),
    ]


def _staff_paths(rows: Rows) -> list[AccessPath]:
    one = rows.one
    invoice, subscription = numbered("invoice", one), numbered("subscription", one)
    return [
        AccessPath("staff: whose invoice", "auditor", lambda s: reading.owner_of(s, "invoice", invoice)),
        AccessPath(
            "staff: whose subscription",
            "auditor",
            lambda s: reading.owner_of(s, "subscription", subscription),
        ),
        AccessPath(
            "staff: newest subscriptions", "auditor", lambda s: admin_lists.rows(s, admin_lists.SUBSCRIPTIONS)
        ),
        AccessPath("staff: newest invoices", "auditor", lambda s: admin_lists.rows(s, admin_lists.INVOICES)),
        AccessPath("staff: newest payments", "auditor", lambda s: admin_lists.rows(s, admin_lists.PAYMENTS)),
        AccessPath("staff: newest cases", "auditor", lambda s: admin_lists.rows(s, admin_lists.CASES)),
        AccessPath("staff: newest mails", "auditor", lambda s: admin_lists.rows(s, admin_lists.MAILS)),
        AccessPath(
            "staff: newest corrections",
            "auditor",
            lambda s: admin_lists.rows(s, admin_usage_lists.CORRECTIONS),
        ),
        AccessPath(
            "staff: newest conflicts", "auditor", lambda s: admin_lists.rows(s, admin_usage_lists.CONFLICTS)
        ),
        AccessPath(
            "staff: usage of a day",
            "auditor",
            lambda s: admin_lists.rows(s, admin_usage_lists.USAGE, filters={"day": "2026-05-15"}),
        ),
        AccessPath(
            "staff: one invoice, whole",
            "auditor",
            lambda s: admin_lists.row(s, admin_lists.INVOICES, invoice),
        ),
    ]


def findings(app: Database, auditor: Database, rows: Rows) -> Iterator[Finding]:
    """What Postgres does for each path, in a transaction that is taken back."""
    for path in paths(rows):
        with _session(app, auditor, path.place, numbered("organization", rows.one)) as session:
            with plans.recorded(session) as asked:
                path.ask(session)
            for statement, values in asked:
                yield plans.explained(session.connection(), path.name, statement, values)
            session.rollback()


@contextmanager
def _session(app: Database, auditor: Database, place: Place, organization_id: UUID) -> Iterator[Session]:
    opened = {
        "system": app.system,
        "intake": app.intake,
        "billing": app.billing,
        "auditor": auditor.system,
    }
    with app.tenant(organization_id) if place == "organization" else opened[place]() as session:
        yield session


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments.add_argument("--subscriptions", type=int, default=1_000_000)
    chosen = arguments.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory(prefix="dunlin-indexes-") as folder:
        stack = LocalStack(
            Path(folder) / "state", profile="test", fresh=True, processes=(), environ={}, migrate=upgrade
        )
        with stack:
            assert stack.postgres_admin_url is not None
            url = stack.postgres_admin_url.rsplit("/", 1)[0] + "/dunlin"
            owner = create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1))
            begun = time.monotonic()
            with owner.begin() as connection:
                rows = fill(connection, chosen.subscriptions)
            owner.dispose()
            print(f"{chosen.subscriptions:,} subscriptions in {time.monotonic() - begun:.0f} s")
            app = Database(stack.environment["DATABASE_URL"])
            auditor = Database(stack.environment["DATABASE_AUDITOR_URL"])
            code = plans.tell(list(findings(app, auditor, rows)))
            app.close()
            auditor.close()
            return code


if __name__ == "__main__":
    sys.exit(main())
