"""Subscriptions whose month has just ended, of every kind that a seed makes, each with Stripe's draft."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from billing.groups import GroupedTerms, match_record, read_match
from gateway.translate import InvoiceFacts
from models.base import new_id
from models.catalog import Meter, PlanCharge, PlanPrice, PlanTier, Product, ProductPlan, SubscriptionBundle
from models.invoices import Invoice
from models.organizations import Organization, TaxRate
from models.subscriptions import ProductSubscription, SubscriptionItem
from models.usage import UsageRecord
from tasks.context import Context, TenantUnit
from tasks.rating_together import Draft
from tests.integration.databases import TestDatabase
from tests.property.histories import END, START, History, random_history

NOW = datetime(2026, 12, 1, 2, tzinfo=UTC)
_RATES = (("vat", "15", True), ("sales", "8.25", False))
# Everything that closing a month may write; what is counted up or random by nature is left out.
_WRITTEN = {
    "invoices": "to_jsonb(t)",
    "invoice_lines": "to_jsonb(t)",
    "subscription_items": "to_jsonb(t)",
    "product_subscriptions": "to_jsonb(t)",
    "usage_records": "to_jsonb(t)",
    "invoice_sequences": "to_jsonb(t)",
    "notifications": "to_jsonb(t) - 'id'",
    "credit_entries": "to_jsonb(t) - 'id'",
}


def written(session: Session, organization_id: UUID) -> dict[str, list[Any]]:
    """All rows of an organization that closing a month may write."""
    found = {
        table: sorted(
            session.execute(
                text(f"SELECT {row} FROM tenant.{table} t WHERE organization_id = :id"),
                {"id": organization_id},
            ).scalars(),
            key=str,
        )
        for table, row in _WRITTEN.items()
    }
    jobs = text("SELECT kind, unique_key, subject_id, due_at FROM ops.jobs WHERE organization_id = :id")
    found["jobs"] = sorted(map(tuple, session.execute(jobs, {"id": organization_id})), key=str)
    return found


class MonthEnd:
    """Writes organizations with one subscription each; the catalog is made anew for each of them."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._rates = [
            TaxRate(code=code, name=code.upper(), percentage=Decimal(percentage), inclusive=inclusive)
            for code, percentage, inclusive in _RATES
        ]
        self._tier = PlanTier(code="pro", name="Professional", rank=1)
        self._bundle = SubscriptionBundle(code="suite", name="Suite")
        session.add_all([*self._rates, self._tier, self._bundle])
        session.flush()

    def of(self, seed: int, **history: Any) -> Draft:
        """The subscription of a seed, and its draft; parts of its history may be said."""
        drawn, rng = random_history(seed)._replace(**history), random.Random(seed)
        currency = drawn.price["currency"]
        rate = rng.choice((None, *self._rates))
        owner = Organization(
            slug=f"org-{seed}",
            name=f"Org {seed}",
            email=f"org-{seed}@example.com",
            currency=currency,
            stripe_customer_id=f"cus_{seed}",
            tax_rate_id=rate.id if rate else None,
        )
        self._session.add(owner)
        self._session.flush()
        return self.beside(owner, seed, drawn)

    def beside(self, owner: Organization, seed: int, drawn: History) -> Draft:
        """A subscription of an organization, and its draft."""
        rng = random.Random(seed)
        rate = next((each for each in self._rates if each.id == owner.tax_rate_id), None)
        subscription = self._subscription(owner, drawn, rng)
        item = self._item(subscription, drawn, rng, f"main-{subscription.id}", metered=True)
        if rng.random() < 0.3:
            self._item(subscription, drawn, rng, f"beside-{subscription.id}", metered=False)
        self._use(item, drawn)
        return self._draft(subscription, rate)

    def _subscription(self, owner: Organization, drawn: History, rng: random.Random) -> ProductSubscription:
        bundled = rng.random() < 0.3
        made = ProductSubscription(
            organization_id=owner.id,
            id=new_id(),
            currency=owner.currency,
            interval=drawn.contract.interval,
            status="active",
            discount_minor=rng.randint(1, 90) * 100 if bundled else 0,
            bundle_id=self._bundle.id if bundled and rng.random() < 0.7 else None,
            started_at=drawn.contract.held_from,
            anchor_at=START,
            trial_end_at=rng.choice((None, None, None, END)),
            current_period_start_at=START,
            current_period_end_at=END,
            usage_closed_until_at=START,
            stripe_subscription_id=f"sub_{owner.slug}_{new_id().hex}",
        )
        self._session.add(made)
        self._session.flush()
        return made

    def _item(
        self,
        subscription: ProductSubscription,
        drawn: History,
        rng: random.Random,
        code: str,
        *,
        metered: bool,
    ) -> SubscriptionItem:
        product = Product(code=code, name=code.title(), billing_type="hybrid")
        self._session.add(product)
        self._session.flush()
        seats = rng.random() < 0.4
        plan = ProductPlan(
            product_id=product.id,
            tier_id=self._tier.id,
            code=code,
            name="Professional",
            base_charge="per_seat" if seats else "flat",
        )
        self._session.add(plan)
        self._session.flush()
        price = PlanPrice(
            plan_id=plan.id,
            currency=subscription.currency,
            interval=subscription.interval,
            amount_minor=rng.randint(0, 90) * 100,
        )
        self._session.add(price)
        if metered:
            self._meter(plan, drawn)
        self._session.flush()
        until = drawn.contract.held_until
        item = SubscriptionItem(
            organization_id=subscription.organization_id,
            id=new_id(),
            subscription_id=subscription.id,
            product_id=product.id,
            plan_id=plan.id,
            price_id=price.id,
            quantity=rng.randint(1, 7),
            position=0 if metered else 1,
            started_at=drawn.contract.held_from,
            ended_at=until if until < END else None,
            stripe_item_id=f"si_{code}",
        )
        self._session.add(item)
        self._session.flush()
        return item

    def _meter(self, plan: ProductPlan, drawn: History) -> None:
        meter = Meter(
            product_id=plan.product_id,
            code="runs",
            name="Runs",
            unit="run",
            aggregation=drawn.aggregation,
            unique_property="value" if drawn.aggregation == "unique" else None,
            filters=match_record(read_match(drawn.filters, field="filters")),
        )
        self._session.add(meter)
        self._session.flush()
        terms = GroupedTerms.from_record(drawn.price).to_record()
        self._session.add(
            PlanCharge(plan_id=plan.id, meter_id=meter.id, currency=str(drawn.price["currency"]), terms=terms)
        )

    def _use(self, item: SubscriptionItem, drawn: History) -> None:
        meter = self._session.query(Meter).filter_by(product_id=item.product_id).one()
        for index, fact in enumerate({fact.key: fact for fact in drawn.facts}.values()):
            self._session.add(
                UsageRecord(
                    organization_id=item.organization_id,
                    product_id=item.product_id,
                    event_id=fact.key,
                    batch_id=new_id(),
                    batch_index=index,
                    meter_id=meter.id,
                    quantity=Decimal(fact.quantity.numerator) / fact.quantity.denominator,
                    occurred_at=fact.at,
                    properties={**fact.properties, "value": fact.value},
                    subscription_id=item.subscription_id,
                    item_id=item.id,
                )
            )
        self._session.flush()

    def _draft(self, subscription: ProductSubscription, rate: TaxRate | None) -> Draft:
        invoice = Invoice(
            organization_id=subscription.organization_id,
            id=new_id(),
            subscription_id=subscription.id,
            kind="cycle",
            period_start_at=START,
            period_end_at=END,
            currency=subscription.currency,
            tax_rate_id=rate.id if rate else None,
            window_closes_at=NOW,
            stripe_invoice_id=f"in_{subscription.stripe_subscription_id}",
            created_at=END,
        )
        self._session.add(invoice)
        self._session.flush()
        return Draft(subscription.organization_id, invoice.id, stripes_draft(invoice, subscription))


class _TakenBack(Exception):
    """Ends a transaction that only shows what would be."""


@contextmanager
def taken_back(context: Context, organization_id: UUID) -> Iterator[TenantUnit]:
    """A tenant transaction that writes as any other, and of which nothing stays."""
    with suppress(_TakenBack), context.tenant(organization_id) as unit:
        yield unit
        raise _TakenBack


def stripes_draft(invoice: Invoice, subscription: ProductSubscription) -> InvoiceFacts:
    """Stripe's draft of a cycle, as one is seen before it is rated."""
    return InvoiceFacts(
        id=str(invoice.stripe_invoice_id),
        customer_id="cus",
        subscription_id=subscription.stripe_subscription_id,
        status="draft",
        billing_reason="subscription_cycle",
        auto_advance=False,
        currency=invoice.currency,
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
        period_start_at=START,
        period_end_at=END,
        created_at=END,
        finalized_at=None,
        paid_at=None,
        voided_at=None,
        metadata={},
        subscription_metadata={},
        lines=(),
        lines_complete=True,
        confirmation_secret=None,
    )


def finalized(draft: InvoiceFacts, invoice: Invoice) -> InvoiceFacts:
    """Stripe's answer once it has finalized what we have rated: the same total, and all of it due."""
    total = invoice.total_minor
    return replace(
        draft,
        status="open",
        total_minor=total,
        amount_due_minor=total,
        hosted_invoice_url=f"https://invoice.example/{draft.id}",
        finalized_at=NOW,
    )


def made(database: TestDatabase, seeds: Sequence[int], **history: Any) -> list[Draft]:
    """The month's ends of some seeds, written into a database."""
    with Session(database.owner, expire_on_commit=False) as session, session.begin():
        month_end = MonthEnd(session)
        return [month_end.of(seed, **history) for seed in seeds]


def stored(context: Context, organization_id: UUID) -> dict[str, list[Any]]:
    """The rows that an organization has now (`written`)."""
    with context.tenant(organization_id) as unit:
        return written(unit.session, organization_id)
