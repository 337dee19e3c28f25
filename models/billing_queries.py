"""What invoicing, payments and dunning read of one organization, inside its transaction."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from uuid import UUID

from sqlalchemy import bindparam, select, text
from sqlalchemy.orm import Session

from billing.groups import GroupedTerms, read_match
from billing.metering import Aggregation
from billing.usage import Holding, MeterRules
from models.catalog import Meter, PlanCharge, PlanPrice, Product, ProductPlan
from models.invoices import DunningCase, DunningStep, Invoice, InvoiceLine, Notification, Payment
from models.subscriptions import PaymentMethod, ProductSubscription, SubscriptionItem


@dataclass(frozen=True, slots=True)
class BilledItem:
    """A subscription item with what it is sold by."""

    item: SubscriptionItem
    product: Product
    plan: ProductPlan
    price: PlanPrice


@dataclass(frozen=True)
class MeteredCharge:
    """A plan's price for a meter; its terms are read once, however many subscriptions have them."""

    charge: PlanCharge
    meter: Meter

    @cached_property
    def monthly(self) -> GroupedTerms:
        return GroupedTerms.from_record(self.charge.terms)

    @cached_property
    def rules(self) -> MeterRules:
        filters = read_match(self.meter.filters, field="filters")
        return MeterRules(Aggregation(self.meter.aggregation), filters)

    def price(self, holding: Holding) -> GroupedTerms:
        """The terms of a period in which the plan was held so."""
        if holding not in self._prices:
            self._prices[holding] = holding.price(self.monthly, self.rules.aggregation)
        return self._prices[holding]

    @cached_property
    def _prices(self) -> dict[Holding, GroupedTerms]:
        return {}


# Built once: to build a statement costs nearly as much as to send it.
_LOCK = (
    select(ProductSubscription)
    .where(
        ProductSubscription.organization_id == bindparam("organization_id"),
        ProductSubscription.id == bindparam("subscription_id"),
    )
    .with_for_update()
    .execution_options(populate_existing=True)
)
_BILLED = (
    select(SubscriptionItem, Product, ProductPlan, PlanPrice)
    .join(Product, Product.id == SubscriptionItem.product_id)
    .join(ProductPlan, ProductPlan.id == SubscriptionItem.plan_id)
    .join(PlanPrice, PlanPrice.id == SubscriptionItem.price_id)
    .where(
        SubscriptionItem.organization_id == bindparam("organization_id"),
        SubscriptionItem.subscription_id == bindparam("subscription_id"),
    )
    .order_by(SubscriptionItem.position, SubscriptionItem.id)
)
_METERED = (
    select(PlanCharge, Meter)
    .join(Meter, Meter.id == PlanCharge.meter_id)
    .where(PlanCharge.plan_id == bindparam("plan_id"), PlanCharge.currency == bindparam("currency"))
    .order_by(Meter.code)
)


def lock_subscription(session: Session, organization_id: UUID, subscription_id: UUID) -> ProductSubscription:
    """The subscription, locked: usage that arrives now waits and then sees the closed window."""
    values = {"organization_id": organization_id, "subscription_id": subscription_id}
    return session.execute(_LOCK, values).scalar_one()


def subscription_by_stripe_id(
    session: Session, organization_id: UUID, stripe_subscription_id: str
) -> ProductSubscription | None:
    return session.execute(
        select(ProductSubscription).where(
            ProductSubscription.organization_id == organization_id,
            ProductSubscription.stripe_subscription_id == stripe_subscription_id,
        )
    ).scalar_one_or_none()


def subscriptions(session: Session, organization_id: UUID) -> Sequence[ProductSubscription]:
    return (
        session.execute(
            select(ProductSubscription)
            .where(ProductSubscription.organization_id == organization_id)
            .order_by(ProductSubscription.id)
        )
        .scalars()
        .all()
    )


def held_products(session: Session, organization_id: UUID) -> set[UUID]:
    """The products of subscriptions that have not ended: each product is billed by one of them."""
    rows = session.execute(
        select(SubscriptionItem.product_id)
        .join(
            ProductSubscription,
            (ProductSubscription.organization_id == SubscriptionItem.organization_id)
            & (ProductSubscription.id == SubscriptionItem.subscription_id),
        )
        .where(
            SubscriptionItem.organization_id == organization_id,
            SubscriptionItem.ended_at.is_(None),
            ProductSubscription.status.not_in(("cancelled", "incomplete_expired")),
        )
    )
    return set(rows.scalars())


def billed_items(session: Session, organization_id: UUID, subscription_id: UUID) -> list[BilledItem]:
    values = {"organization_id": organization_id, "subscription_id": subscription_id}
    return [BilledItem(*row) for row in session.execute(_BILLED, values)]


def metered_charges(session: Session, plan_id: UUID, currency: str) -> list[MeteredCharge]:
    """The prices of a plan's meters; asked for once in a transaction, however many lines they make."""
    asked: dict[tuple[UUID, str], list[MeteredCharge]] = session.info.setdefault("metered_charges", {})
    if (plan_id, currency) not in asked:
        asked[plan_id, currency] = _metered_charges(session, plan_id, currency)
    return asked[plan_id, currency]


def _metered_charges(session: Session, plan_id: UUID, currency: str) -> list[MeteredCharge]:
    rows = session.execute(_METERED, {"plan_id": plan_id, "currency": currency})
    return [MeteredCharge(*row) for row in rows]


def invoice_by_stripe_id(session: Session, organization_id: UUID, stripe_invoice_id: str) -> Invoice | None:
    return session.execute(
        select(Invoice).where(
            Invoice.organization_id == organization_id, Invoice.stripe_invoice_id == stripe_invoice_id
        )
    ).scalar_one_or_none()


def invoice_for_period(
    session: Session, subscription: ProductSubscription, kind: str, period_start_at: datetime
) -> Invoice | None:
    return session.execute(
        select(Invoice).where(
            Invoice.organization_id == subscription.organization_id,
            Invoice.subscription_id == subscription.id,
            Invoice.period_start_at == period_start_at,
            Invoice.kind == kind,
        )
    ).scalar_one_or_none()


def waiting_draft(session: Session, subscription: ProductSubscription) -> Invoice | None:
    """The subscription's first draft that waits to be rated; those that a person has to look at do not."""
    return session.execute(
        select(Invoice)
        .where(
            Invoice.organization_id == subscription.organization_id,
            Invoice.subscription_id == subscription.id,
            Invoice.status == "draft",
            Invoice.rated_at.is_(None),
            Invoice.parked_at.is_(None),
        )
        .order_by(Invoice.period_end_at, Invoice.created_at)
        .limit(1)
    ).scalar_one_or_none()


def unparked_drafts(session: Session, organization_id: UUID) -> Sequence[Invoice]:
    """Drafts that nothing keeps from being billed."""
    statement = select(Invoice).where(
        Invoice.organization_id == organization_id, Invoice.status == "draft", Invoice.parked_at.is_(None)
    )
    return session.execute(statement.order_by(Invoice.window_closes_at)).scalars().all()


def open_invoices(session: Session, organization_id: UUID) -> Sequence[Invoice]:
    return (
        session.execute(
            select(Invoice)
            .where(Invoice.organization_id == organization_id, Invoice.status == "open")
            .order_by(Invoice.finalized_at)
        )
        .scalars()
        .all()
    )


def lines(session: Session, invoice: Invoice) -> Sequence[InvoiceLine]:
    return (
        session.execute(
            select(InvoiceLine)
            .where(
                InvoiceLine.organization_id == invoice.organization_id, InvoiceLine.invoice_id == invoice.id
            )
            .order_by(InvoiceLine.position)
        )
        .scalars()
        .all()
    )


def payments(session: Session, invoice: Invoice) -> Sequence[Payment]:
    return (
        session.execute(
            select(Payment)
            .where(Payment.organization_id == invoice.organization_id, Payment.invoice_id == invoice.id)
            .order_by(Payment.attempt)
        )
        .scalars()
        .all()
    )


def dunning_case(session: Session, invoice: Invoice) -> DunningCase | None:
    return session.execute(
        select(DunningCase).where(
            DunningCase.organization_id == invoice.organization_id, DunningCase.invoice_id == invoice.id
        )
    ).scalar_one_or_none()


def has_step(session: Session, case: DunningCase, key: str) -> bool:
    """Whether the case's timeline has this entry."""
    found = session.execute(
        select(DunningStep.id).where(
            DunningStep.organization_id == case.organization_id,
            DunningStep.case_id == case.id,
            DunningStep.key == key,
        )
    )
    return found.scalar_one_or_none() is not None


def open_cases(
    session: Session, organization_id: UUID, subscription_id: UUID | None = None
) -> Sequence[DunningCase]:
    statement = select(DunningCase).where(
        DunningCase.organization_id == organization_id, DunningCase.state == "open"
    )
    if subscription_id is not None:
        statement = statement.where(DunningCase.subscription_id == subscription_id)
    return session.execute(statement.order_by(DunningCase.first_failed_at)).scalars().all()


def payment_methods(session: Session, organization_id: UUID) -> Sequence[PaymentMethod]:
    return (
        session.execute(
            select(PaymentMethod)
            .where(PaymentMethod.organization_id == organization_id, PaymentMethod.detached_at.is_(None))
            .order_by(PaymentMethod.attached_at)
        )
        .scalars()
        .all()
    )


def payment_method_by_stripe_id(
    session: Session, organization_id: UUID, stripe_id: str
) -> PaymentMethod | None:
    return session.execute(
        select(PaymentMethod).where(
            PaymentMethod.organization_id == organization_id,
            PaymentMethod.stripe_payment_method_id == stripe_id,
        )
    ).scalar_one_or_none()


def next_invoice_number(session: Session, organization_id: UUID) -> int:
    """The next place in the organization's sequence; the row stays locked until this transaction ends.

    Gap-free, because a transaction that rolls back takes its number with it.
    """
    return int(
        session.execute(
            text(
                "INSERT INTO tenant.invoice_sequences (organization_id, last_number) "
                "VALUES (:organization_id, 1) "
                "ON CONFLICT (organization_id) DO UPDATE SET last_number = invoice_sequences.last_number + 1 "
                "RETURNING last_number"
            ),
            {"organization_id": organization_id},
        ).scalar_one()
    )


def is_told(session: Session, organization_id: UUID, kind: str, key: str) -> bool:
    """Whether this happening has been written to somebody."""
    found = session.execute(
        select(Notification.id)
        .where(Notification.organization_id == organization_id, Notification.key.like(f"{kind}:{key}:%"))
        .limit(1)
    )
    return found.scalar_one_or_none() is not None
