"""What many cycle invoices are made of, read at once in a transaction of `Database.billing`.

It is what a transaction of their organization reads for one of them; each statement takes a list of keys.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    JSON,
    DateTime,
    FromClause,
    RowMapping,
    Text,
    Uuid,
    and_,
    bindparam,
    cast,
    column,
    exists,
    func,
    or_,
    select,
    text,
)
from sqlalchemy.orm import Session
from sqlalchemy.types import TypeEngine

from billing.periods import Period
from models import bulk, invoice_hash
from models.billing_queries import BilledItem, MeteredCharge
from models.catalog import Meter, PlanCharge, PlanPrice, Product, ProductPlan, SubscriptionBundle
from models.closing_queries import EXTRAS, Extras, Sold
from models.invoices import CreditEntry, Invoice, InvoiceLine
from models.organizations import Organization, TaxRate, TestClock
from models.subscriptions import ProductSubscription, SubscriptionChange, SubscriptionItem

# One with more waiting usage is closed alone, so that a statement for many takes no more than one may.
MOST_TAKEN_EACH = 2_000

# A row of a tenant table: organization and id.
Key = tuple[UUID, UUID]


@dataclass(frozen=True, slots=True)
class Held:
    """A draft with all that decides whether it can be rated; its subscription is locked.

    `changing`: a change of the subscription is being made.
    """

    invoice: Invoice
    subscription: ProductSubscription
    organization: Organization
    clock: TestClock | None
    changing: bool


def _keys(**types: TypeEngine[Any] | type[TypeEngine[Any]]) -> FromClause:
    """The parameter `rows` as a table."""
    given = cast(bindparam("rows", type_=Text), JSON)
    columns = [column(name, kind) for name, kind in types.items()]
    return func.json_to_recordset(given).table_valued(*columns).render_derived(name="k", with_types=True)


_OWN = _keys(organization_id=Uuid, id=Uuid)
_CHANGING = exists().where(
    SubscriptionChange.organization_id == ProductSubscription.organization_id,
    SubscriptionChange.subscription_id == ProductSubscription.id,
    SubscriptionChange.applied_at.is_(None),
    SubscriptionChange.refused_at.is_(None),
    SubscriptionChange.changed_at
    <= func.coalesce(TestClock.frozen_at, bindparam("wall", type_=DateTime(timezone=True))),
)
_HOLD = (
    select(Invoice, ProductSubscription, Organization, TestClock, _CHANGING)
    .select_from(_OWN)
    .join(Invoice, and_(Invoice.organization_id == _OWN.c.organization_id, Invoice.id == _OWN.c.id))
    .join(
        ProductSubscription,
        and_(
            ProductSubscription.organization_id == Invoice.organization_id,
            ProductSubscription.id == Invoice.subscription_id,
        ),
    )
    .join(Organization, Organization.id == Invoice.organization_id)
    .outerjoin(TestClock, TestClock.id == Organization.test_clock_id)
    # As usage intake locks them: neither of two can wait for what the other holds.
    .order_by(ProductSubscription.organization_id, ProductSubscription.id)
    .with_for_update(of=ProductSubscription)
)


def hold(session: Session, invoices: Iterable[Key], wall: datetime) -> list[Held]:
    """Drafts with their subscriptions, locked: usage that arrives now waits and then sees closed windows."""
    values = {"rows": _as_keys(invoices), "wall": wall}
    return [Held(*row) for row in session.execute(_HOLD, values)]


@dataclass(frozen=True, slots=True)
class Ended:
    """A subscription of which Stripe has a draft: by which interval it was charged before the boundary."""

    subscription: ProductSubscription
    organization: Organization
    clock: TestClock | None
    interval: str | None


_SEEN = _keys(organization_id=Uuid, stripe_subscription_id=Text, before_at=DateTime(timezone=True))
_INTERVAL = (
    select(PlanPrice.interval)
    .join(SubscriptionItem, SubscriptionItem.price_id == PlanPrice.id)
    .where(
        SubscriptionItem.organization_id == ProductSubscription.organization_id,
        SubscriptionItem.subscription_id == ProductSubscription.id,
        SubscriptionItem.started_at <= _SEEN.c.before_at,
        or_(SubscriptionItem.ended_at.is_(None), SubscriptionItem.ended_at > _SEEN.c.before_at),
    )
    .limit(1)
    .scalar_subquery()
)
_ENDED = (
    select(_SEEN.c.before_at, ProductSubscription, Organization, TestClock, _INTERVAL)
    .select_from(_SEEN)
    .join(
        ProductSubscription,
        and_(
            ProductSubscription.organization_id == _SEEN.c.organization_id,
            ProductSubscription.stripe_subscription_id == _SEEN.c.stripe_subscription_id,
        ),
    )
    .join(Organization, Organization.id == ProductSubscription.organization_id)
    .outerjoin(TestClock, TestClock.id == Organization.test_clock_id)
)


def ended(session: Session, seen: Iterable[tuple[UUID, str, datetime]]) -> dict[tuple[str, datetime], Ended]:
    """The subscriptions of drafts, by their ids at Stripe and the instant.

    Args: organization, subscription at Stripe, an instant just before the boundary.
    """
    names = ("organization_id", "stripe_subscription_id", "before_at")
    rows = [dict(zip(names, each, strict=True)) for each in seen]
    found = session.execute(_ENDED, {"rows": bulk.as_json(rows)})
    return {(str(row[1].stripe_subscription_id), row[0]): Ended(*row[1:]) for row in found}


_ITEMS = (
    select(SubscriptionItem)
    .select_from(_OWN)
    .join(
        SubscriptionItem,
        and_(
            SubscriptionItem.organization_id == _OWN.c.organization_id,
            SubscriptionItem.subscription_id == _OWN.c.id,
        ),
    )
    .order_by(SubscriptionItem.position, SubscriptionItem.id)
)
_PRICED = (
    select(Product, ProductPlan, PlanPrice)
    .select_from(PlanPrice)
    .join(ProductPlan, ProductPlan.id == PlanPrice.plan_id)
    .join(Product, Product.id == ProductPlan.product_id)
    .where(PlanPrice.id == func.any(bindparam("ids")))
)
_TYPES = {
    "number": "integer",
    "organization_id": "uuid",
    "subscription_id": "uuid",
    "start_at": "timestamptz",
    "end_at": "timestamptz",
}
_EXTRAS = text(
    f"""
    SELECT w.number, {EXTRAS.format(**{name: f"w.{name}" for name in _TYPES}, most=":most")}
    FROM {bulk.listed(_TYPES, "w")}
    """
)


def sold(session: Session, closed: Sequence[tuple[ProductSubscription, Period]]) -> list[Sold]:
    """What the invoices that close these periods are made of, in the same sequence (`closing_queries.sold`).

    `slices` says there that one has more usage than the statement for many should take of each.
    """
    values = {"rows": _as_keys((each.organization_id, each.id) for each, _ in closed)}
    items: dict[UUID, list[SubscriptionItem]] = {}
    for item in session.execute(_ITEMS, values).scalars():
        items.setdefault(item.subscription_id, []).append(item)
    prices = {each.price_id for listed in items.values() for each in listed}
    priced = {
        price.id: (product, plan, price)
        for product, plan, price in session.execute(_PRICED, {"ids": list(prices)})
    }
    extras = _extras(session, closed)
    return [
        Sold(
            subscription,
            [BilledItem(item, *priced[item.price_id]) for item in items.get(subscription.id, ())],
            extras[number],
        )
        for number, (subscription, _) in enumerate(closed)
    ]


def _extras(session: Session, closed: Sequence[tuple[ProductSubscription, Period]]) -> dict[int, Extras]:
    rows = [
        {
            "number": number,
            "organization_id": subscription.organization_id,
            "subscription_id": subscription.id,
            "start_at": period.start,
            "end_at": period.end,
        }
        for number, (subscription, period) in enumerate(closed)
    ]
    asked = session.execute(_EXTRAS, {"rows": bulk.as_json(rows), "most": MOST_TAKEN_EACH})
    return {number: Extras(*extras) for number, *extras in asked}


_METERED = (
    select(PlanCharge, Meter)
    .join(Meter, Meter.id == PlanCharge.meter_id)
    .where(PlanCharge.plan_id == func.any(bindparam("ids")))
    .order_by(Meter.code)
)


def metered_charges(session: Session, plans: Iterable[UUID]) -> dict[tuple[UUID, str], list[MeteredCharge]]:
    """The prices of plans' meters, by plan and currency."""
    found: dict[tuple[UUID, str], list[MeteredCharge]] = {}
    for charge, meter in session.execute(_METERED, {"ids": list(plans)}):
        found.setdefault((charge.plan_id, charge.currency), []).append(MeteredCharge(charge, meter))
    return found


def tax_rates(session: Session, ids: Iterable[UUID | None]) -> dict[UUID | None, TaxRate]:
    wanted = [each for each in set(ids) if each is not None]
    if not wanted:
        return {}
    rows = session.execute(select(TaxRate).where(TaxRate.id.in_(wanted))).scalars()
    return {rate.id: rate for rate in rows}


def bundles(session: Session, ids: Iterable[UUID | None]) -> dict[UUID | None, SubscriptionBundle]:
    wanted = [each for each in set(ids) if each is not None]
    if not wanted:
        return {}
    rows = session.execute(select(SubscriptionBundle).where(SubscriptionBundle.id.in_(wanted))).scalars()
    return {bundle.id: bundle for bundle in rows}


_FINISHED = (
    select(Invoice, Organization, TestClock)
    .select_from(_OWN)
    .join(Invoice, and_(Invoice.organization_id == _OWN.c.organization_id, Invoice.id == _OWN.c.id))
    .join(Organization, Organization.id == Invoice.organization_id)
    .outerjoin(TestClock, TestClock.id == Organization.test_clock_id)
    .order_by(Invoice.organization_id, Invoice.id)
)


def invoices(session: Session, keys: Iterable[Key]) -> list[tuple[Invoice, Organization, TestClock | None]]:
    """Invoices with their organizations, and the clocks of those, in the sequence of their ids."""
    rows = session.execute(_FINISHED, {"rows": _as_keys(keys)})
    return [(row[0], row[1], row[2]) for row in rows]


# An item as Stripe knows it: its id there, its price's, and the quantity.
LiveTerms = tuple[str | None, str | None, int]

_LIVE = (
    select(
        SubscriptionItem.subscription_id,
        SubscriptionItem.stripe_item_id,
        PlanPrice.stripe_price_id,
        SubscriptionItem.quantity,
    )
    .select_from(_OWN)
    .join(
        SubscriptionItem,
        and_(
            SubscriptionItem.organization_id == _OWN.c.organization_id,
            SubscriptionItem.subscription_id == _OWN.c.id,
        ),
    )
    .join(PlanPrice, PlanPrice.id == SubscriptionItem.price_id)
    .where(SubscriptionItem.ended_at.is_(None))
)


def live_terms(session: Session, subscriptions: Iterable[Key]) -> dict[UUID, list[LiveTerms]]:
    """The items of subscriptions whose end is not known."""
    found: dict[UUID, list[LiveTerms]] = {}
    for owner, item_id, price_id, quantity in session.execute(_LIVE, {"rows": _as_keys(subscriptions)}):
        found.setdefault(owner, []).append((item_id, price_id, quantity))
    return found


def with_untold_credit(session: Session, organizations: Iterable[UUID]) -> set[UUID]:
    """Organizations with credit that Stripe's balance does not hold yet (`sale_terms.untold_credit`)."""
    untold = select(CreditEntry.organization_id).where(
        CreditEntry.organization_id == func.any(bindparam("ids")),
        CreditEntry.invoice_id.is_(None),
        CreditEntry.stripe_transaction_id.is_(None),
    )
    return set(session.execute(untold, {"ids": list(organizations)}).scalars())


_LINES = (
    select(InvoiceLine.invoice_id, *invoice_hash.LINE_COLUMNS)
    .select_from(_OWN)
    .join(
        InvoiceLine,
        and_(InvoiceLine.organization_id == _OWN.c.organization_id, InvoiceLine.invoice_id == _OWN.c.id),
    )
    .order_by(InvoiceLine.position, InvoiceLine.id)
)


def lines(session: Session, keys: Iterable[Key]) -> dict[UUID, list[RowMapping]]:
    """What is hashed of the lines of invoices."""
    found: dict[UUID, list[RowMapping]] = {}
    for row in session.execute(_LINES, {"rows": _as_keys(keys)}).mappings():
        found.setdefault(row["invoice_id"], []).append(row)
    return found


_BALANCES = text(
    """
    SELECT organization_id, currency, sum(amount_minor)::bigint FROM tenant.credit_entries
    WHERE organization_id = ANY(:ids) GROUP BY 1, 2
    """
)


def balances(session: Session, organizations: Iterable[UUID]) -> dict[tuple[UUID, str], int]:
    """The credit of organizations by currency, where there ever was any."""
    rows = session.execute(_BALANCES, {"ids": list(organizations)})
    return {(organization_id, currency): int(minor) for organization_id, currency, minor in rows}


_NUMBERS = text(
    f"""
    INSERT INTO tenant.invoice_sequences AS s (organization_id, last_number)
    SELECT organization_id, wanted FROM {bulk.listed({"organization_id": "uuid", "wanted": "integer"}, "w")}
    ORDER BY organization_id
    ON CONFLICT (organization_id) DO UPDATE SET last_number = s.last_number + EXCLUDED.last_number
    RETURNING organization_id, last_number
    """
)


def next_numbers(session: Session, wanted: Mapping[UUID, int]) -> dict[UUID, int]:
    """The last of as many next places in the organizations' sequences (`next_invoice_number`)."""
    rows = [{"organization_id": each, "wanted": count} for each, count in wanted.items()]
    given = session.execute(_NUMBERS, {"rows": bulk.as_json(rows)})
    return {row.organization_id: row.last_number for row in given}


def _as_keys(keys: Iterable[Key]) -> str:
    return bulk.as_json([{"organization_id": organization, "id": own} for organization, own in keys])
