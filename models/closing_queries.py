"""What an invoice is made of, read once: the subscription's items, and whether there is anything rarer."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.orm import Session

from billing.periods import Period
from models import billing_queries
from models.billing_queries import BilledItem
from models.subscriptions import ProductSubscription

# A statement that takes this many records takes some seconds; one of a worker may run for a minute.
MOST_TAKEN = 200_000


@dataclass(frozen=True, slots=True)
class Extras:
    """What most invoices do not have: where False there is nothing, and nobody needs to ask for it.

    That stays so while the subscription is locked: usage and corrections wait for it, and changes and
    coupons for the organization's lock.
    """

    charges: bool
    coupons: bool
    late: bool
    corrections: bool
    # More usage waits in the period than one statement should take.
    slices: bool


@dataclass(frozen=True, slots=True)
class Sold:
    """A subscription that is being billed. It keeps its rows in the session as long as it is held."""

    subscription: ProductSubscription
    items: Sequence[BilledItem]
    extras: Extras


# The names stand for expressions: a parameter of one subscription, a column of many.
EXTRAS = """
    EXISTS (SELECT FROM tenant.pending_charges c
            WHERE c.organization_id = {organization_id} AND c.subscription_id = {subscription_id}),
    EXISTS (SELECT FROM tenant.coupon_redemptions c
            WHERE c.organization_id = {organization_id} AND c.subscription_id = {subscription_id}),
    EXISTS (SELECT FROM tenant.usage_records r
            WHERE r.organization_id = {organization_id} AND r.subscription_id = {subscription_id}
              AND r.late AND r.state = 'waiting'),
    EXISTS (SELECT FROM tenant.usage_corrections k WHERE k.organization_id = {organization_id}),
    EXISTS (SELECT FROM tenant.usage_records r
            WHERE r.organization_id = {organization_id} AND r.subscription_id = {subscription_id}
              AND r.occurred_at >= {start_at} AND r.occurred_at < {end_at} AND r.state = 'waiting'
            OFFSET {most} LIMIT 1)
"""
_NAMES = ("organization_id", "subscription_id", "start_at", "end_at", "most")
_EXTRAS = text(f"SELECT {EXTRAS.format(**{name: f':{name}' for name in _NAMES})}")


def sold(session: Session, subscription: ProductSubscription, period: Period) -> Sold:
    """A subscription, locked by the caller, with what the invoice that closes `period` is made of."""
    items = billing_queries.billed_items(session, subscription.organization_id, subscription.id)
    values = {
        "organization_id": subscription.organization_id,
        "subscription_id": subscription.id,
        "start_at": period.start,
        "end_at": period.end,
        "most": MOST_TAKEN,
    }
    return Sold(subscription, items, Extras(*session.execute(_EXTRAS, values).one()))
