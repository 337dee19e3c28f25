"""Whatever comes late, is corrected or deleted, and however often it is invoiced in between: each period's
lines come to what its events, as they should have been, cost."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from billing.metering import Aggregation, UsageFact, aggregate
from billing.periods import Period
from billing.rating import ChargeModel, ChargeTerms, rate
from models.subscriptions import ProductSubscription
from tasks import adjusting, drafting, explain, invariants, invoice_rows, usage, usage_corrections
from tasks.context import Context
from tasks.usage_corrections import CorrectionTerms
from tests.integration.factories import (
    GRADUATED,
    Subscribed,
    TestDatabase,
    catalog,
    fresh_database,
    offline_context,
    organization,
    subscribed,
)

NOW = datetime(2026, 6, 15, tzinfo=UTC)
MONTHS = 4
STEPS = 60
# 25 runs in each package of 10.00, 10 free, at least 15.00.
PACKAGES = ChargeTerms(
    ChargeModel.package,
    "USD",
    unit_price=Fraction(1000),
    package_size=Fraction(25),
    included=Fraction(10),
    minimum_minor=1500,
)


@pytest.fixture(scope="module")
def database() -> Iterator[TestDatabase]:
    with fresh_database("any_sequence") as made:
        yield made


@dataclass
class Life:
    """One subscription that anything happens to, and what its events should have said."""

    context: Context
    acme: Subscribed
    terms: ChargeTerms
    aggregation: Aggregation
    chance: random.Random
    # Event id -> its quantity (None: it never happened), instant, workflow.
    truth: dict[str, tuple[Decimal | None, datetime, str]] = field(default_factory=dict)
    closed: int = 0

    @property
    def organization_id(self) -> UUID:
        return self.acme.organization_id

    def happens(self) -> None:
        step = self.chance.choices(
            (self.reports, self.corrects, self.closes, self.adjusts), weights=(12, 8, 1.5, 2)
        )[0]
        step()

    def reports(self) -> None:
        """Some events, of any month up to the running one: early, in time, late."""
        events = []
        for _ in range(self.chance.randint(1, 4)):
            period = self.acme.period(self.chance.randint(max(0, self.closed - 2), self.closed))
            at = period.start + (period.end - period.start) * self.chance.random()
            event_id, workflow = f"e{len(self.truth)}", f"w{self.chance.randint(0, 4)}"
            quantity = Decimal(self.chance.randint(-2, 40)) / self.chance.choice((1, 1, 4))
            self.truth[event_id] = (quantity, at, workflow)
            events.append(
                {
                    "event_id": event_id,
                    "organization": "acme",
                    "product": "flow",
                    "metric": "runs",
                    "quantity": str(quantity),
                    "timestamp": at.isoformat(),
                    "properties": {"workflow": workflow},
                }
            )
        product_id = self.acme.catalog.product.id
        usage.accept_batch(
            self.context, product_id, events, idempotency_key=None, digest=str(len(self.truth))
        )
        usage.drain(self.context)

    def corrects(self) -> None:
        if not self.truth:
            return
        event_id = self.chance.choice(sorted(self.truth))
        _, at, workflow = self.truth[event_id]
        quantity = None if self.chance.random() < 0.3 else Decimal(self.chance.randint(0, 60))
        said = CorrectionTerms(event_id=event_id, quantity=quantity, reason="a test", who="a test")
        product_id = self.acme.catalog.product.id
        usage_corrections.correct(self.context, product_id, self.organization_id, said)
        self.truth[event_id] = (quantity, at, workflow)

    def closes(self) -> None:
        """The month is over: its cycle invoice is rated, as the job does it once Stripe's draft is there."""
        if self.closed == MONTHS - 1:
            return
        period = self.acme.period(self.closed)
        with self.context.tenant(self.organization_id) as unit:
            invoice = invoice_rows.draft(unit, self._subscription(unit), "cycle", period)
            drafting.rate_draft(unit, invoice, None)
        self.closed += 1

    def adjusts(self) -> None:
        subscription_id = self.acme.subscription.id
        made = adjusting.adjust(self.context, self.organization_id, subscription_id, actor="a test")
        if made is not None:
            with self.context.tenant(self.organization_id) as unit:
                drafting.rate_draft(unit, invoice_rows.find(unit, made.id), None)

    def _subscription(self, unit: Any) -> ProductSubscription:
        key = (self.organization_id, self.acme.subscription.id)
        found: ProductSubscription = unit.session.get_one(ProductSubscription, key)
        return found

    def charged(self, period: Period) -> int:
        with self.context.tenant(self.organization_id) as unit:
            total = unit.session.execute(
                text(
                    "SELECT coalesce(sum(amount_minor), 0) FROM tenant.invoice_lines "
                    "WHERE kind IN ('usage', 'adjustment') AND period_start_at = :start_at"
                ),
                {"start_at": period.start},
            )
            return int(total.scalar_one())

    def owed(self, period: Period) -> int:
        facts = [
            UsageFact(Fraction(quantity), at, event_id, workflow)
            for event_id, (quantity, at, workflow) in self.truth.items()
            if quantity is not None and period.contains(at)
        ]
        return rate(aggregate(self.aggregation, facts, period), self.terms).amount.minor

    def explains_itself(self) -> None:
        """Each line agrees with its events, as they were corrected when it was rated."""
        with self.context.tenant(self.organization_id) as unit:
            lines = unit.session.execute(
                text("SELECT invoice_id, id FROM tenant.invoice_lines WHERE kind IN ('usage', 'adjustment')")
            ).all()
        for invoice_id, line_id in lines:
            told = explain.explain_line(self.context, self.organization_id, invoice_id, line_id)
            assert told["recomputed"]["agrees"], told


@pytest.mark.parametrize("terms", [GRADUATED, PACKAGES], ids=["graduated", "packages_with_minimum"])
@pytest.mark.parametrize("aggregation", ["sum", "count", "max", "unique", "last"])
def test_each_period_comes_to_what_it_should_have_cost(
    database: TestDatabase, aggregation: str, terms: ChargeTerms
) -> None:
    database.empty()
    with offline_context(database, wall=NOW) as context, Session(database.owner) as session:
        with session.begin():
            rows = catalog(session, aggregation=aggregation, terms=terms)
            acme = subscribed(session, rows, organization(session, "acme"), datetime(2026, 2, 1, tzinfo=UTC))
            session.expunge_all()
        life = Life(
            context, acme, terms, Aggregation(aggregation), random.Random(f"{aggregation}{terms.model}")
        )
        for _ in range(STEPS):
            life.happens()
        while life.closed < MONTHS - 1:
            life.closes()
        life.adjusts()

        for month in range(life.closed):
            period = acme.period(month)
            assert life.charged(period) == life.owed(period), f"month {month}"
        assert [each for each in invariants.check(context) if each.invariant in ("I1", "I2", "I3")] == []
        life.explains_itself()
