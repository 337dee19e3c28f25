"""The whole system, told as stories: organizations on clocks of their own, spoken to over HTTP.

Real Postgres, Valkey, Celery workers, beat, and the local Stripe; nothing is replaced.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import select, text

from cli.demo.api import Api, patiently
from cli.keys import issue_bound
from cli.local.stack import LocalStack
from models.invoices import DunningStep
from tasks import invariants, reconciliation
from tasks.context import Context
from tests.scenarios.golden import invoice_text

_PRODUCT = "autoflow"


def at(day: str) -> datetime:
    """An instant in UTC: "2026-04-11" or "2026-04-11T10:30"."""
    return datetime.fromisoformat(day).replace(tzinfo=UTC)


@dataclass
class World:
    """One running system; each story makes organizations of its own in it."""

    stack: LocalStack
    context: Context
    admin: Api
    product: Api
    organizations: list["Customer"] = field(default_factory=list)
    # How long a clock may be on its way.
    patience_s: float = 90.0

    @classmethod
    def of(cls, stack: LocalStack, context: Context) -> "World":
        base = stack.urls["web"]
        admin = issue_bound(context, "admin", f"story {uuid4()}")
        product = issue_bound(context, "product", f"story {uuid4()}", product=_PRODUCT)
        return cls(stack, context, Api(base, admin), Api(base, product))

    def on(self, day: str, name: str, *, currency: str = "USD", tax_rate: str | None = None) -> "Customer":
        """An organization whose clock stands at `day`."""
        clock = self.admin.post("/api/billing/test_clocks/", {"name": name, "at": at(day)}, str(uuid4()))
        slug = f"{name}-{uuid4().hex[:8]}"
        terms = {
            "slug": slug,
            "name": name.title(),
            "email": f"{name}@example.test",
            "currency": currency,
            "tax_rate": tax_rate,
            "test_clock": clock["id"],
        }
        organization = self.admin.post("/api/billing/organizations/", terms, str(uuid4()))
        customer = Customer(self, slug, UUID(organization["id"]), clock["id"])
        self.organizations.append(customer)
        return customer

    def holds(self, *customers: "Customer") -> None:
        """At rest every invariant holds, and Stripe agrees with us to the cent about these organizations."""
        for customer in customers:
            if customer.clock:
                customer.rests()  # what Stripe said a moment ago may be on its way
        assert invariants.check(self.context) == []
        run = reconciliation.reconcile(self.context, [customer.id for customer in customers])
        assert [difference["sentence"] for difference in run.differences] == []


@dataclass
class Customer:
    """One organization of a story; without a `clock` it lives on the wall's."""

    world: World
    slug: str
    id: UUID
    clock: str
    _events: Any = field(default_factory=lambda: count(1))

    def card(self, card: str = "pm_card_visa") -> None:
        """Make a test card the default; what is open is collected with it."""
        path = f"/api/billing/organizations/{self.slug}/payment_methods/"
        self.world.admin.post(path, {"payment_method": card}, str(uuid4()))

    def subscribes(self, plan: str | None = None, **terms: Any) -> str:
        """Subscribe and wait until Stripe's first word has been read. Returns the subscription's id."""
        path = "/api/billing/subscriptions/"
        currency = self.world.admin.get(f"/api/billing/organizations/{self.slug}/")["currency"]
        content = {
            "organization": self.slug,
            "plan": plan,
            "currency": currency,
            "interval": "month",
            **terms,
        }
        made = self.world.admin.post(path, content, str(uuid4()))
        self.rests()
        return str(made["id"])

    def uses(
        self, day: str, quantity: str | int, event_id: str | None = None, **properties: Any
    ) -> dict[str, Any]:
        """Report workflow runs that happened at `day`; waits until the event has its place."""
        event = {
            "event_id": event_id or f"{self.slug}-{next(self._events)}",
            "organization": self.slug,
            "product": _PRODUCT,
            "metric": "workflow_runs",
            "quantity": str(quantity),
            "timestamp": at(day),
            "properties": properties,
        }
        accepted: dict[str, Any] = self.world.product.post("/api/billing/usage/track/", event, str(uuid4()))
        return self.batch(accepted["batch_id"])

    def corrects(
        self, event_id: str, quantity: str | int | None, reason: str, key: str | None = None
    ) -> dict[str, Any]:
        """Correct an event of workflow runs; no quantity: it never happened."""
        content = {"organization": self.slug, "event_id": event_id, "reason": reason}
        said = {"void": True} if quantity is None else {"quantity": str(quantity)}
        path = "/api/billing/usage/correct/"
        answer: dict[str, Any] = self.world.product.post(path, {**content, **said}, key or str(uuid4()))
        return answer

    def adjusts(self, subscription_id: str) -> str | None:
        """Have what waits late or corrected billed at once; waits until that is done."""
        path = f"/api/billing/subscriptions/{subscription_id}/adjust/"
        answer: dict[str, Any] = self.world.admin.post(path, {}, str(uuid4()))
        self.rests()
        return str(answer["invoice"]) if answer["invoice"] else None

    def batch(self, batch_id: str, product: Api | None = None) -> dict[str, Any]:
        """The accounts of a batch, once a worker has opened it; `product` posted it."""
        opened = patiently(lambda: self._opened(batch_id), bool)
        assert opened, f"nobody opened batch {batch_id}"
        api = product or self.world.product
        accounts: dict[str, Any] = api.get(f"/api/billing/usage/batches/{batch_id}/")
        return accounts

    def _opened(self, batch_id: str) -> bool:
        with self.world.context.database.system() as session:
            state = session.execute(
                text("SELECT state FROM ops.usage_inbox WHERE id = :id"), {"id": batch_id}
            )
            return bool(state.scalar_one() == "done")

    def lives_until(self, day: str) -> None:
        """Move the organization's clock; everything due on the way is done when this returns."""
        path = f"/api/billing/test_clocks/{self.clock}/"
        self.world.admin.post(path + "advance/", {"to": at(day)}, str(uuid4()))
        clock = patiently(
            lambda: self.world.admin.get(path), lambda now: now["target"] is None, self.world.patience_s
        )
        assert clock["target"] is None, f"the clock stands at {clock['at']}: {clock['last_error']}"

    def rests(self) -> None:
        """Wait until everything due now has been done."""
        now = self.world.admin.get(f"/api/billing/test_clocks/{self.clock}/")["at"]
        self.lives_until(now.removesuffix("Z"))

    def changes(self, subscription_id: str, **terms: Any) -> None:
        path = f"/api/billing/subscriptions/{subscription_id}/"
        answer = self.world.admin.send("PATCH", path, json.dumps(terms).encode(), str(uuid4()))
        assert answer.status == 200, answer.content

    def cancels(self, subscription_id: str, *, at_period_end: bool) -> dict[str, Any]:
        path = f"/api/billing/subscriptions/{subscription_id}/cancel/"
        answer: dict[str, Any] = self.world.admin.post(path, {"at_period_end": at_period_end}, str(uuid4()))
        return answer

    def access(self) -> str:
        return str(self.world.product.get(f"/api/billing/access/{self.slug}/{_PRODUCT}/")["access"])

    @property
    def invoices(self) -> list[dict[str, Any]]:
        """The organization's invoices with their lines, oldest first."""
        found = self.world.admin.get(f"/api/billing/invoices/?organization={self.slug}")["items"]
        whole = [self.world.admin.get(f"/api/billing/invoices/{each['id']}/") for each in found]
        return sorted(whole, key=lambda invoice: (invoice["period_end_at"], invoice["kind"]))

    @property
    def totals(self) -> list[tuple[str, str, int]]:
        """(kind, status, total) of each invoice, oldest first."""
        return [(each["kind"], each["status"], each["total_minor"]) for each in self.invoices]

    @property
    def last_invoice(self) -> str:
        """The newest invoice as an accountant reads it."""
        return invoice_text(self.invoices[-1], self.slug)

    @property
    def dunning(self) -> Sequence[str]:
        """The steps of the organization's dunning cases: "2026-05-01 01:00 payment_failed"."""
        with self.world.context.tenant(self.id) as unit:
            steps = unit.session.execute(
                select(DunningStep).order_by(DunningStep.at, DunningStep.id)
            ).scalars()
            return [f"{step.at:%Y-%m-%d %H:%M} {step.kind}" for step in steps]

    @property
    def charges(self) -> list[tuple[str, int]]:
        """(status, amount) of every payment attempt, in sequence."""
        return self.rows(
            "SELECT status, amount_minor FROM tenant.payments ORDER BY attempted_at, invoice_id, attempt"
        )

    def rows(self, statement: str) -> list[Any]:
        """What a query finds in the organization."""
        with self.world.context.tenant(self.id) as unit:
            return [tuple(row) for row in unit.session.execute(text(statement))]
