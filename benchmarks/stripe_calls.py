"""How many calls to Stripe a cycle invoice costs, counted by the local Stripe in a whole running system."""

import tempfile
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import requests

from cli.context import opened
from cli.demo.api import Api, patiently
from cli.keys import issue_bound
from cli.local.stack import LocalStack
from cli.preparing import prepare
from models.migrate import upgrade

# As many as one test clock may hold.
INVOICES = 3
PER_SECOND = 80
_PROCESSES = ("web", "worker-ingest", "worker-billing", "beat", "sandbox")
_BEGINS_AT = datetime(2026, 4, 1, tzinfo=UTC)
_ENDS_AT = datetime(2026, 5, 1, 2, tzinfo=UTC)
_ARRIVAL_S = 120.0
# What moves a test clock; in a system on the wall nobody asks for it.
_OF_THE_CLOCK = ("test_helpers", "/v1/events")


def count() -> Counter[str]:
    """Let some organizations live through a month with usage, on one clock: calls by operation, of all."""
    with tempfile.TemporaryDirectory(prefix="dunlin-calls-") as folder:
        stack = LocalStack(
            Path(folder) / "state",
            profile="test",
            fresh=True,
            processes=_PROCESSES,
            environ={},
            migrate=upgrade,
            on_notice=lambda _notice: None,
        )
        with stack:
            stack.wait_ready(90)
            with opened(stack.environment) as context:
                prepare(context, stack.environment)
                base = stack.urls["web"]
                admin = Api(base, issue_bound(context, "admin", "calls"))
                product = Api(base, issue_bound(context, "product", "calls", product="autoflow"))
            return _of_a_month(stack, admin, product)


def report(calls: Counter[str]) -> None:
    """Print the calls of one invoice, and how long those of 100,000 take at Stripe's limit."""
    for operation, times in sorted(calls.items(), key=lambda each: (-each[1], each[0])):
        print(f"  {times / INVOICES:.1f} {operation}")
    each = calls.total() / INVOICES
    hours = 100_000 * each / PER_SECOND / 3600
    print(
        f"{each:.1f} calls to Stripe for a cycle invoice (with usage, a card that pays; of {INVOICES}); "
        f"for 100,000 at {PER_SECOND} a second: {hours:.1f} hours"
    )


def _of_a_month(stack: LocalStack, admin: Api, product: Api) -> Counter[str]:
    clock = admin.post("/api/billing/test_clocks/", {"name": "calls", "at": _BEGINS_AT}, str(uuid4()))
    slugs = [f"calls-{number}" for number in range(INVOICES)]
    for slug in slugs:
        _subscribe(admin, slug, clock["id"])
    _move(admin, clock["id"], _BEGINS_AT)
    for slug in slugs:
        event = {
            "event_id": slug,
            "organization": slug,
            "product": "autoflow",
            "metric": "workflow_runs",
            "quantity": "1500",
            "timestamp": "2026-04-01T00:00:00Z",
        }
        product.post("/api/billing/usage/track/", event, slug)
    _move(admin, clock["id"], datetime(2026, 4, 30, 23, tzinfo=UTC))
    before = _asked(stack)
    # As on the wall, what Stripe tells of the period's end is read before anybody looks for it.
    _move(admin, clock["id"], datetime(2026, 5, 1, 0, 5, tzinfo=UTC))
    _move(admin, clock["id"], _ENDS_AT)
    paid = [admin.get(f"/api/billing/invoices/?organization={slug}&status=paid")["items"] for slug in slugs]
    assert [len(each) for each in paid] == [2] * INVOICES, "the first invoice and the cycle's"
    return Counter({name: n for name, n in (_asked(stack) - before).items() if not _is_of_the_clock(name)})


def _subscribe(admin: Api, slug: str, clock_id: str) -> None:
    terms = {
        "slug": slug,
        "name": slug,
        "email": f"{slug}@example.test",
        "currency": "USD",
        "test_clock": clock_id,
    }
    admin.post("/api/billing/organizations/", terms, slug)
    card = {"payment_method": "pm_card_visa"}
    admin.post(f"/api/billing/organizations/{slug}/payment_methods/", card, f"{slug}-card")
    sold = {"organization": slug, "plan": "autoflow-starter", "currency": "USD", "interval": "month"}
    admin.post("/api/billing/subscriptions/", sold, f"{slug}-subscription")


def _move(admin: Api, clock_id: str, to: datetime) -> None:
    path = f"/api/billing/test_clocks/{clock_id}/"
    admin.post(path + "advance/", {"to": to}, str(uuid4()))
    clock = patiently(lambda: admin.get(path), lambda now: now["target"] is None, _ARRIVAL_S)
    assert clock["target"] is None, f"the clock stands at {clock['at']}"


def _asked(stack: LocalStack) -> Counter[str]:
    counted = requests.get(f"{stack.urls['sandbox']}/_sandbox/calls", timeout=10).json()
    return Counter(counted["calls"])


def _is_of_the_clock(operation: str) -> bool:
    return any(part in operation for part in _OF_THE_CLOCK)
