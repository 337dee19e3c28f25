"""Read queries of the API: lists page by page, one object with its parts, the public catalog."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from psycopg.errors import InvalidSchemaName, UndefinedColumn, UndefinedFunction, UndefinedTable
from sqlalchemy import Select, select
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import InstrumentedAttribute, Session

from models.catalog import (
    Meter,
    PlanPrice,
    Product,
    ProductPlan,
    SubscriptionBundle,
)
from models.credit_notes import CreditNote
from models.database import Connection
from models.invoices import Invoice, InvoiceLine, Notification, Payment
from models.ops import Heartbeat, UsageBatch
from models.organizations import Organization
from models.subscriptions import PaymentMethod, ProductSubscription, SubscriptionItem

# What a driver or a pool raises when Postgres is away, going away, or too slow to answer.
DATABASE_AWAY: tuple[type[Exception], ...] = (OperationalError, InterfaceError, PoolTimeout)
# What a driver raises when the schema is missing, or that of another version.
BEHIND: tuple[type[Exception], ...] = (UndefinedTable, UndefinedColumn, UndefinedFunction, InvalidSchemaName)


@dataclass(frozen=True, slots=True)
class Page:
    """`limit` rows, newest first, that are older than the id `before`."""

    limit: int
    before: UUID | None = None


@dataclass(frozen=True, slots=True)
class SubscriptionListing:
    """A subscription with its items; codes instead of ids, as a reader of the API knows them."""

    subscription: ProductSubscription
    plan: str | None
    bundle: str | None
    items: list[tuple[SubscriptionItem, str, str, PlanPrice]]


@dataclass(frozen=True, slots=True)
class InvoiceDetail:
    """An invoice with its lines (and their product and meter codes) and payment attempts."""

    invoice: Invoice
    lines: list[tuple[InvoiceLine, str, str | None]]
    payments: Sequence[Payment]


def _page(
    session: Session, statement: Select[Any], key: InstrumentedAttribute[UUID], page: Page
) -> tuple[Sequence[Any], UUID | None]:
    """The rows of a page and the cursor of the next. Ids are time-sorted, so they are the sequence."""
    if page.before is not None:
        statement = statement.where(key < page.before)
    # One row more than asked for tells whether there is a next page.
    rows = session.execute(statement.order_by(key.desc()).limit(page.limit + 1)).scalars().all()
    if len(rows) <= page.limit:
        return rows, None
    kept = rows[: page.limit]
    return kept, kept[-1].id


# -- catalog ---------------------------------------------------------------------------------------


def product_by_code(session: Session, code: str) -> Product | None:
    return session.execute(select(Product).where(Product.code == code)).scalar_one_or_none()


# -- organizations ---------------------------------------------------------------------------------


def organizations(session: Session, page: Page) -> tuple[Sequence[Organization], UUID | None]:
    return _page(session, select(Organization), Organization.id, page)


def payment_methods(session: Session, organization_id: UUID) -> Sequence[PaymentMethod]:
    """The cards that can be charged, the default one first."""
    statement = (
        select(PaymentMethod)
        .where(PaymentMethod.organization_id == organization_id, PaymentMethod.detached_at.is_(None))
        .order_by(PaymentMethod.is_default.desc(), PaymentMethod.id)
    )
    return session.execute(statement).scalars().all()


OwnedKind = Literal["invoice", "subscription", "credit_note"]
_OWNED: dict[OwnedKind, type[Invoice | ProductSubscription | CreditNote]] = {
    "invoice": Invoice,
    "subscription": ProductSubscription,
    "credit_note": CreditNote,
}


def owner_of(session: Session | Connection, kind: OwnedKind, object_id: UUID) -> UUID | None:
    """Whose an object is; for a session or connection that reads all organizations."""
    table = _OWNED[kind]
    return session.execute(select(table.organization_id).where(table.id == object_id)).scalar_one_or_none()


def named_invoice(session: Session, reference: str) -> tuple[UUID, UUID] | None:
    """(organization, invoice) by the invoice's number or id; for a session that reads all organizations."""
    statement = select(Invoice.organization_id, Invoice.id)
    try:
        statement = statement.where(Invoice.id == UUID(reference))
    except ValueError:
        statement = statement.where(Invoice.number == reference.upper())
    row = session.execute(statement).one_or_none()
    return (row[0], row[1]) if row else None


def notification(session: Session, notification_id: UUID) -> Notification | None:
    """A mail or webhook by its id; for a session that reads all organizations."""
    return session.execute(
        select(Notification).where(Notification.id == notification_id)
    ).scalar_one_or_none()


# -- subscriptions and invoices: inside one organization -------------------------------------------


def subscriptions(
    session: Session, organization_id: UUID, page: Page
) -> tuple[list[SubscriptionListing], UUID | None]:
    statement = select(ProductSubscription).where(ProductSubscription.organization_id == organization_id)
    rows, following = _page(session, statement, ProductSubscription.id, page)
    return _listed(session, organization_id, rows), following


def subscription(
    session: Session, organization_id: UUID, subscription_id: UUID
) -> SubscriptionListing | None:
    row = session.get(ProductSubscription, (organization_id, subscription_id))
    return _listed(session, organization_id, [row])[0] if row else None


def _listed(
    session: Session, organization_id: UUID, rows: Sequence[ProductSubscription]
) -> list[SubscriptionListing]:
    items: dict[UUID, list[tuple[SubscriptionItem, str, str, PlanPrice]]] = defaultdict(list)
    joined = (
        select(SubscriptionItem, Product.code, ProductPlan.code, PlanPrice)
        .join(Product, Product.id == SubscriptionItem.product_id)
        .join(ProductPlan, ProductPlan.id == SubscriptionItem.plan_id)
        .join(PlanPrice, PlanPrice.id == SubscriptionItem.price_id)
        .where(
            SubscriptionItem.organization_id == organization_id,
            SubscriptionItem.subscription_id.in_([row.id for row in rows]),
        )
        .order_by(SubscriptionItem.position, SubscriptionItem.id)
    )
    for item, product, plan, price in session.execute(joined):
        items[item.subscription_id].append((item, product, plan, price))
    plans = _codes(session, ProductPlan.id, ProductPlan.code, [row.product_plan_id for row in rows])
    bundles = _codes(session, SubscriptionBundle.id, SubscriptionBundle.code, [row.bundle_id for row in rows])
    return [
        SubscriptionListing(row, plans.get(row.product_plan_id), bundles.get(row.bundle_id), items[row.id])
        for row in rows
    ]


def _codes(
    session: Session,
    key: InstrumentedAttribute[UUID],
    code: InstrumentedAttribute[str],
    ids: Sequence[UUID | None],
) -> dict[UUID | None, str]:
    found = session.execute(select(key, code).where(key.in_({one for one in ids if one is not None})))
    return {row[0]: row[1] for row in found}


def invoices(
    session: Session,
    organization_id: UUID,
    page: Page,
    *,
    subscription_id: UUID | None = None,
    status: str | None = None,
) -> tuple[Sequence[Invoice], UUID | None]:
    statement = select(Invoice).where(Invoice.organization_id == organization_id)
    if subscription_id is not None:
        statement = statement.where(Invoice.subscription_id == subscription_id)
    if status is not None:
        statement = statement.where(Invoice.status == status)
    return _page(session, statement, Invoice.id, page)


def invoice(session: Session, organization_id: UUID, invoice_id: UUID) -> InvoiceDetail | None:
    row = session.get(Invoice, (organization_id, invoice_id))
    if row is None:
        return None
    lines = (
        select(InvoiceLine, Product.code, Meter.code)
        .join(Product, Product.id == InvoiceLine.product_id)
        .outerjoin(Meter, Meter.id == InvoiceLine.meter_id)
        .where(InvoiceLine.organization_id == organization_id, InvoiceLine.invoice_id == invoice_id)
        .order_by(InvoiceLine.position, InvoiceLine.id)
    )
    payments = (
        select(Payment)
        .where(Payment.organization_id == organization_id, Payment.invoice_id == invoice_id)
        .order_by(Payment.attempt)
    )
    return InvoiceDetail(row, list(session.execute(lines).all()), session.execute(payments).scalars().all())


# -- health ----------------------------------------------------------------------------------------


def heartbeat(session: Session, name: str) -> datetime | None:
    """When the tick last arrived; None before the first."""
    found = session.get(Heartbeat, name)
    return found.at if found else None


def product_of_batch(session: Session, batch_id: UUID) -> UUID | None:
    return session.execute(
        select(UsageBatch.product_id).where(UsageBatch.id == batch_id)
    ).scalar_one_or_none()
