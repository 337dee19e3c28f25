"""Our side of a reconciliation: everything of one organization that Stripe has too. Read as the auditor."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from models.catalog import PlanPrice
from models.credit_notes import CreditNote
from models.invoices import CreditEntry, Dispute, Invoice, InvoiceLine, Payment, Refund
from models.ops import ReconciliationRun
from models.organizations import Organization, TestClock
from models.subscriptions import PaymentMethod, ProductSubscription, SubscriptionItem

_Row = TypeVar("_Row", PaymentMethod, ProductSubscription, Invoice, InvoiceLine, Payment, Dispute)


@dataclass(frozen=True, slots=True)
class ItemRows:
    """An item with the Stripe id of its price."""

    item: SubscriptionItem
    stripe_price_id: str | None


@dataclass(frozen=True, slots=True)
class SubscriptionRows:
    """A subscription with all the items it ever had."""

    subscription: ProductSubscription
    items: Sequence[ItemRows]


@dataclass(frozen=True, slots=True)
class InvoiceRows:
    """An invoice with its lines and payment attempts."""

    invoice: Invoice
    lines: Sequence[InvoiceLine]
    payments: Sequence[Payment]


@dataclass(frozen=True, slots=True)
class Books:
    """One organization's rows; `credit_minor` is the balance of its ledger in its currency."""

    organization: Organization
    payment_methods: Sequence[PaymentMethod]
    subscriptions: Sequence[SubscriptionRows]
    invoices: Sequence[InvoiceRows]
    credit_minor: int
    # By payment intent, and by invoice.
    refunded_minor: Mapping[str, int]
    credited_minor: Mapping[UUID, int]
    disputes: Sequence[Dispute]

    @property
    def disputed_intents(self) -> set[str]:
        """The payment intents of payments that we have as disputed."""
        disputed = {each.payment_id for each in self.disputes}
        payments = (payment for rows in self.invoices for payment in rows.payments)
        return {
            str(each.stripe_payment_intent_id)
            for each in payments
            if each.id in disputed and each.stripe_payment_intent_id
        }


def customers(session: Session) -> dict[str, UUID]:
    """Stripe customer id -> organization, for all that Stripe knows."""
    rows = session.execute(
        select(Organization.stripe_customer_id, Organization.id)
        .where(Organization.stripe_customer_id.is_not(None))
        .order_by(Organization.id)
    )
    return {str(row.stripe_customer_id): row.id for row in rows}


def stripe_clocks(session: Session) -> Sequence[str]:
    """The Stripe ids of all test clocks."""
    return [str(each) for each in session.execute(select(TestClock.stripe_clock_id)).scalars() if each]


def books(session: Session, organization_id: UUID) -> Books | None:
    """The rows of one organization; None when there is no such organization."""
    organization = session.get(Organization, organization_id)
    if organization is None:
        return None
    return Books(
        organization,
        _all(session, PaymentMethod, organization_id),
        _subscriptions(session, organization_id),
        _invoices(session, organization_id),
        _credit(session, organization),
        _refunded(session, organization_id),
        _credited(session, organization_id),
        _all(session, Dispute, organization_id),
    )


def add_run(session: Session, run: ReconciliationRun) -> None:
    session.add(run)
    session.flush()


def finish_run(session: Session, run: ReconciliationRun, **outcome: Any) -> None:
    """Write the outcome of a run that was added before."""
    session.execute(update(ReconciliationRun).where(ReconciliationRun.id == run.id).values(**outcome))


def _subscriptions(session: Session, organization_id: UUID) -> list[SubscriptionRows]:
    items: dict[UUID, list[ItemRows]] = defaultdict(list)
    rows = session.execute(
        select(SubscriptionItem, PlanPrice.stripe_price_id)
        .join(PlanPrice, PlanPrice.id == SubscriptionItem.price_id)
        .where(SubscriptionItem.organization_id == organization_id)
    )
    for item, stripe_price_id in rows:
        items[item.subscription_id].append(ItemRows(item, stripe_price_id))
    found = _all(session, ProductSubscription, organization_id)
    return [SubscriptionRows(subscription, items[subscription.id]) for subscription in found]


def _invoices(session: Session, organization_id: UUID) -> list[InvoiceRows]:
    lines: dict[UUID, list[InvoiceLine]] = defaultdict(list)
    payments: dict[UUID, list[Payment]] = defaultdict(list)
    for line in _all(session, InvoiceLine, organization_id):
        lines[line.invoice_id].append(line)
    for payment in _all(session, Payment, organization_id):
        payments[payment.invoice_id].append(payment)
    found = _all(session, Invoice, organization_id)
    return [InvoiceRows(invoice, lines[invoice.id], payments[invoice.id]) for invoice in found]


def _credit(session: Session, organization: Organization) -> int:
    balance = session.execute(
        select(func.coalesce(func.sum(CreditEntry.amount_minor), 0)).where(
            CreditEntry.organization_id == organization.id, CreditEntry.currency == organization.currency
        )
    )
    return int(balance.scalar_one())


def _refunded(session: Session, organization_id: UUID) -> dict[str, int]:
    rows = session.execute(
        select(Payment.stripe_payment_intent_id, func.sum(Refund.amount_minor))
        .join(Refund, (Refund.organization_id == Payment.organization_id) & (Refund.payment_id == Payment.id))
        .where(
            Payment.organization_id == organization_id,
            Payment.stripe_payment_intent_id.is_not(None),
            Refund.status.in_(("succeeded", "pending")),
        )
        .group_by(Payment.stripe_payment_intent_id)
    )
    return {str(intent_id): int(amount) for intent_id, amount in rows}


def _credited(session: Session, organization_id: UUID) -> dict[UUID, int]:
    rows = session.execute(
        select(CreditNote.invoice_id, func.sum(CreditNote.amount_minor))
        .where(CreditNote.organization_id == organization_id, CreditNote.state == "issued")
        .group_by(CreditNote.invoice_id)
    )
    return {invoice_id: int(amount) for invoice_id, amount in rows}


def _all(session: Session, table: type[_Row], organization_id: UUID) -> Sequence[_Row]:
    statement = select(table).where(table.organization_id == organization_id)
    return session.execute(statement.order_by(table.id)).scalars().all()
