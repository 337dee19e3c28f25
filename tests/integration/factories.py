"""Rows for tests that need history without living through it: a catalog, an organization, its invoices.

The rows are written by the owner of the schema, straight into the tables; what they say is what the
use cases would have written. `acme_with_a_quarter` is a small world without a fault in it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy.orm import Session

from billing.keys import stripe_key
from billing.metering import Aggregation, UsageFact, aggregate
from billing.periods import Interval, Period, nth_boundary
from billing.rating import ChargeModel, ChargeTerms, Tier, rate
from models.base import new_id
from models.catalog import Meter, PlanCharge, PlanPrice, PlanTier, Product, ProductPlan
from models.invoice_hash import content_hash
from models.invoices import Invoice, InvoiceLine, InvoiceSequence, Payment
from models.ops import StripeCall, UsageBatch
from models.organizations import Organization
from models.subscriptions import PaymentMethod, ProductSubscription, SubscriptionItem
from models.usage import UsageRecord
from tests.integration.databases import TestDatabase, fresh_database, offline_context

# Whoever needs rows needs somewhere to put them.
__all__ = [
    "GRADUATED",
    "CatalogRows",
    "Quarter",
    "Subscribed",
    "TestDatabase",
    "acme_with_a_quarter",
    "batch",
    "catalog",
    "catalog_rows",
    "fresh_database",
    "offline_context",
    "organization",
    "subscribed",
]

GRADUATED = ChargeTerms(
    ChargeModel.graduated,
    "USD",
    included=Fraction(10),
    tiers=(Tier(Fraction(100), Fraction(3, 2)), Tier(None, Fraction(1))),
)


@dataclass(frozen=True, slots=True)
class CatalogRows:
    """One metered plan: 49.00 USD a month, 10 runs included, 1.5 cents to 100, 1 cent above."""

    product: Product
    plan: ProductPlan
    price: PlanPrice
    meter: Meter
    terms: ChargeTerms


def catalog(session: Session, *, aggregation: str = "sum", terms: ChargeTerms = GRADUATED) -> CatalogRows:
    """Write the product `flow` with the plan `flow-pro` and the meter `runs`."""
    product = Product(code="flow", name="Flow", billing_type="hybrid", stripe_product_id="prod_flow")
    tier = PlanTier(code="pro", name="Professional", rank=2)
    session.add_all([product, tier])
    session.flush()
    plan = ProductPlan(
        product_id=product.id,
        tier_id=tier.id,
        code="flow-pro",
        name="Professional",
        base_charge="flat",
        created_at=datetime(2025, 12, 1, tzinfo=UTC),
    )
    meter = Meter(
        product_id=product.id,
        code="runs",
        name="Runs",
        unit="run",
        aggregation=aggregation,
        unique_property="workflow" if aggregation == "unique" else None,
    )
    session.add_all([plan, meter])
    session.flush()
    price = PlanPrice(
        plan_id=plan.id, currency="USD", interval="month", amount_minor=4900, stripe_price_id="price_flow"
    )
    charge = PlanCharge(plan_id=plan.id, meter_id=meter.id, currency="USD", terms=terms.to_record())
    session.add_all([price, charge])
    session.flush()
    return CatalogRows(product, plan, price, meter, terms)


def catalog_rows(session: Session) -> CatalogRows:
    """The catalog that `catalog` wrote, for a second organization."""
    return CatalogRows(
        session.query(Product).one(),
        session.query(ProductPlan).one(),
        session.query(PlanPrice).one(),
        session.query(Meter).one(),
        GRADUATED,
    )


def organization(session: Session, slug: str) -> Organization:
    """An organization on wall time, with a Stripe customer and one card."""
    made = Organization(
        slug=slug,
        name=slug.title(),
        email=f"{slug}@example.com",
        currency="USD",
        stripe_customer_id=f"cus_{slug}",
    )
    session.add(made)
    session.flush()
    session.add(
        PaymentMethod(
            organization_id=made.id,
            stripe_payment_method_id=f"pm_{slug}",
            brand="visa",
            last_four="4242",
            is_default=True,
            attached_at=datetime(2026, 1, 1, tzinfo=UTC),
        )
    )
    session.flush()
    return made


@dataclass(slots=True)
class Subscribed:
    """A subscription with one item, and the means to give it a past."""

    session: Session
    catalog: CatalogRows
    subscription: ProductSubscription
    item: SubscriptionItem
    invoices: int = 0

    @property
    def organization_id(self) -> UUID:
        return self.subscription.organization_id

    def period(self, n: int) -> Period:
        """The n-th month of the subscription, counted from 0."""
        start = self.subscription.started_at
        return Period(nth_boundary(start, Interval.month, n), nth_boundary(start, Interval.month, n + 1))

    def uses(self, batch: UsageBatch, events: Sequence[tuple[str, int, datetime]], **values: Any) -> None:
        """Record usage events (id, quantity, instant); waiting for their invoice, if nothing else is said."""
        for index, (event_id, quantity, at) in enumerate(events):
            self.session.add(
                UsageRecord(
                    organization_id=self.organization_id,
                    product_id=self.catalog.product.id,
                    event_id=event_id,
                    batch_id=batch.id,
                    batch_index=index,
                    meter_id=self.catalog.meter.id,
                    quantity=Decimal(quantity),
                    occurred_at=at,
                    properties={"workflow": f"w{index % 3}"},
                    **{"subscription_id": self.subscription.id, "item_id": self.item.id, **values},
                )
            )
        self.session.flush()

    def is_invoiced(self, n: int, *, status: str = "paid") -> Invoice:
        """Close the n-th month: next month's 49.00 and the usage that waits, numbered and sealed."""
        period, following = self.period(n), self.period(n + 1)
        recurring = self._line(
            "recurring", 1, period=following, quantity=Fraction(1), minor=4900, explanation={"terms": None}
        )
        facts = self._waiting(period)
        quantity = aggregate(Aggregation(self.catalog.meter.aggregation), facts, period)
        rating = rate(quantity, self.catalog.terms)
        explanation = {
            "meter": "runs",
            "aggregation": self.catalog.meter.aggregation,
            "terms": self.catalog.terms.to_record(),
            "rating": rating.to_record(),
            "facts": len(facts),
            "trial": False,
        }
        usage = self._line(
            "usage", 2, period=period, quantity=quantity, minor=rating.amount.minor, explanation=explanation
        )
        invoice = self._invoice(n, [recurring, usage])
        self._take(period, usage)
        self.subscription.usage_closed_until_at = period.end
        self.subscription.current_period_start_at, self.subscription.current_period_end_at = (
            following.start,
            following.end,
        )
        self._finalize(invoice, status)
        return invoice

    def is_paid(self, invoice: Invoice, attempt: int = 1, *, at: datetime | None = None) -> Payment:
        """One successful attempt for the whole total."""
        payment = self.attempts(invoice, attempt, "succeeded", at or invoice.window_closes_at)
        invoice.status, invoice.paid_at, invoice.paid_minor = (
            "paid",
            payment.attempted_at,
            invoice.total_minor,
        )
        self.session.flush()
        return payment

    def attempts(self, invoice: Invoice, attempt: int, status: str, at: datetime) -> Payment:
        """One attempt to collect the invoice, however it went."""
        payment = Payment(
            organization_id=self.organization_id,
            invoice_id=invoice.id,
            attempt=attempt,
            amount_minor=invoice.total_minor,
            currency=invoice.currency,
            status=status,
            stripe_payment_intent_id=f"pi_{invoice.number}",
            attempted_at=at,
            settled_at=at,
        )
        intention = StripeCall(
            organization_id=self.organization_id,
            operation="pay_invoice",
            object_id=invoice.stripe_invoice_id,
            params={},
            idempotency_key=stripe_key("pay", invoice.id, attempt),
            state="succeeded" if status == "succeeded" else "declined",
            created_at=at,
            resolved_at=at,
        )
        self.session.add_all([payment, intention])
        self.session.flush()
        return payment

    def _waiting(self, period: Period) -> list[UsageFact]:
        rows = self.session.query(UsageRecord).filter_by(
            subscription_id=self.subscription.id, state="waiting"
        )
        return [
            UsageFact(
                Fraction(row.quantity), row.occurred_at, row.event_id, (row.properties or {}).get("workflow")
            )
            for row in rows
            if period.contains(row.occurred_at)
        ]

    def _take(self, period: Period, line: InvoiceLine) -> None:
        rows = self.session.query(UsageRecord).filter_by(
            subscription_id=self.subscription.id, state="waiting"
        )
        for row in rows:
            if period.contains(row.occurred_at):
                row.state, row.invoice_line_id = "rated", line.id

    def _line(
        self,
        kind: str,
        position: int,
        *,
        period: Period,
        quantity: Fraction,
        minor: int,
        explanation: dict[str, Any],
    ) -> InvoiceLine:
        return InvoiceLine(
            organization_id=self.organization_id,
            id=new_id(),
            subscription_id=self.subscription.id,
            key=f"{kind}:{period.start:%Y-%m-%d}",
            position=position,
            kind=kind,
            product_id=self.catalog.product.id,
            item_id=self.item.id,
            meter_id=self.catalog.meter.id if kind == "usage" else None,
            description=f"Flow {kind}",
            quantity=Decimal(quantity.numerator) / quantity.denominator,
            unit_price=Decimal(4900) if kind == "recurring" else None,
            currency="USD",
            amount_minor=minor,
            discountable=kind == "recurring",
            discount_minor=0,
            tax_minor=0,
            period_start_at=period.start,
            period_end_at=period.end,
            explanation={"plan": {"code": "flow-pro", "version": 1}, **explanation},
        )

    def _invoice(self, n: int, lines: Sequence[InvoiceLine]) -> Invoice:
        period, total = self.period(n), sum(line.amount_minor for line in lines)
        invoice = Invoice(
            organization_id=self.organization_id,
            id=new_id(),
            subscription_id=self.subscription.id,
            kind="cycle",
            period_start_at=period.start,
            period_end_at=period.end,
            currency="USD",
            subtotal_minor=total,
            discount_minor=0,
            tax_minor=0,
            credit_minor=0,
            total_minor=total,
            paid_minor=0,
            tax_inclusive=False,
            window_closes_at=period.end + timedelta(hours=1),
            rated_at=period.end + timedelta(hours=1),
            created_at=period.end,
            stripe_invoice_id=f"in_{self.subscription.stripe_subscription_id}_{n}",
        )
        self.session.add(invoice)
        self.session.flush()
        for line in lines:
            line.invoice_id = invoice.id
            self.session.add(line)
        self.session.flush()
        return invoice

    def _finalize(self, invoice: Invoice, status: str) -> None:
        sequence = self.session.get(InvoiceSequence, self.organization_id)
        if sequence is None:
            sequence = InvoiceSequence(organization_id=self.organization_id, last_number=0)
            self.session.add(sequence)
        sequence.last_number += 1
        slug = self.session.get_one(Organization, self.organization_id).slug.upper()
        invoice.number = f"{slug}-{sequence.last_number:06d}"
        invoice.content_hash = content_hash(self.session, self.organization_id, invoice.id)
        invoice.finalized_at, invoice.status = invoice.window_closes_at, "open"
        self.session.flush()
        if status == "paid":
            self.is_paid(invoice)


def subscribed(session: Session, rows: CatalogRows, owner: Organization, started_at: datetime) -> Subscribed:
    """Subscribe the organization to the plan, monthly."""
    end_at = nth_boundary(started_at, Interval.month, 1)
    subscription = ProductSubscription(
        organization_id=owner.id,
        id=new_id(),
        product_plan_id=rows.plan.id,
        currency="USD",
        interval="month",
        status="active",
        started_at=started_at,
        anchor_at=started_at,
        current_period_start_at=started_at,
        current_period_end_at=end_at,
        usage_closed_until_at=started_at,
        stripe_subscription_id=f"sub_{owner.slug}_{uuid4().hex[:6]}",
    )
    session.add(subscription)
    session.flush()
    item = SubscriptionItem(
        organization_id=owner.id,
        id=new_id(),
        subscription_id=subscription.id,
        product_id=rows.product.id,
        plan_id=rows.plan.id,
        price_id=rows.price.id,
        quantity=1,
        started_at=started_at,
        stripe_item_id=f"si_{owner.slug}_{uuid4().hex[:6]}",
    )
    session.add(item)
    session.flush()
    return Subscribed(session, rows, subscription, item)


def batch(
    session: Session, rows: CatalogRows, owner: Organization, accepted: int, **values: Any
) -> UsageBatch:
    """One usage POST of `accepted` events; opened and handled, if nothing else is said."""
    received_at = values.pop("received_at", datetime(2026, 4, 1, tzinfo=UTC))
    made = UsageBatch(
        product_id=rows.product.id,
        body_digest="0" * 64,
        organization_ids=[owner.id],
        events=[],
        accepted=accepted,
        received_at=received_at,
        **{"state": "done", "handled_at": received_at, **values},
    )
    session.add(made)
    session.flush()
    return made


@dataclass(frozen=True, slots=True)
class Quarter:
    """What `acme_with_a_quarter` made."""

    organization_id: UUID
    subscription_id: UUID
    product_id: UUID
    batch_id: UUID
    invoice_ids: tuple[UUID, ...]


def acme_with_a_quarter(session: Session, slug: str = "acme", rows: CatalogRows | None = None) -> Quarter:
    """Acme used Flow from 1 January 2026: three months invoiced and paid, April is running.

    January: 60 + 50 + 15 runs = 125: 10 free, 90 at 1.5, 25 at 1 cent = 1.60 USD. February: 7 runs,
    free. March: no usage. April: 3 runs wait; one event of the year before is in quarantine.
    """
    rows = rows or catalog(session)
    owner = organization(session, slug)
    acme = subscribed(session, rows, owner, datetime(2026, 1, 1, tzinfo=UTC))
    sent = batch(session, rows, owner, accepted=7, duplicates=1)
    january = [("e1", 60, _on(1, 2)), ("e2", 50, _on(1, 15)), ("e3", 15, _on(1, 31))]
    acme.uses(sent, [*january, ("e4", 7, _on(2, 10))])
    invoices = [acme.is_invoiced(n) for n in range(3)]
    acme.uses(sent, [("e5", 3, _on(4, 2))])
    nobody: dict[str, Any] = {"subscription_id": None, "item_id": None}
    acme.uses(
        sent,
        [("e6", 1, datetime(2025, 12, 1, tzinfo=UTC))],
        state="quarantined",
        reason="no subscription",
        **nobody,
    )
    ids = tuple(invoice.id for invoice in invoices)
    return Quarter(owner.id, acme.subscription.id, rows.product.id, sent.id, ids)


def _on(month: int, day: int) -> datetime:
    return datetime(2026, month, day, 12, tzinfo=UTC)
