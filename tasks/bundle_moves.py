"""A subscription moves to the present version of its bundle: prices and difference, from next period on."""

from collections.abc import Sequence

from billing.bundles import BundleMember, bundle_discount
from billing.errors import Conflict, InvalidTerms
from billing.money import Money
from gateway import requests
from models import change_queries, sale_queries
from models.sale_queries import Offer
from models.subscriptions import ProductSubscription, SubscriptionChange
from tasks import change_checks
from tasks.context import TenantUnit


def request(
    unit: TenantUnit, subscription: ProductSubscription, offer: Offer, proration: str
) -> SubscriptionChange:
    """The move as a row, not stored yet. Raises InvalidTerms, Conflict saying why it cannot be."""
    if proration != "next_period":
        raise InvalidTerms("a bundle moves at the period's end: only `next_period`", field="proration")
    change_checks.refuse(unit, subscription)
    if subscription.cancel_at_period_end:
        raise Conflict("the subscription ends with this period")
    if offer.awaits_sync:
        raise Conflict("has not been synced to Stripe yet: run `dunlin stripe sync`")
    items = change_queries.live_items(unit.session, unit.organization.id, subscription.id)
    if {item.product_id for item in items} != {member.plan.product_id for member in offer.members}:
        raise Conflict("the bundle has other members now: its subscriber must choose")
    assert offer.bundle_price is not None
    row = change_checks.new_row(unit, subscription, items[0], None, proration)
    row.bundle_price_id = offer.bundle_price.id
    return row


def stripe_request(
    unit: TenantUnit,
    subscription: ProductSubscription,
    wanted: SubscriptionChange,
    kept_discounts: Sequence[str],
) -> requests.Request:
    """All members' prices and the coupon of the difference, in one request. Raises Conflict: sold no more."""
    assert wanted.bundle_price_id is not None
    offer = sale_queries.bundle_version(unit.session, wanted.bundle_price_id)
    if offer is None:
        raise Conflict("this version of the bundle is sold no more")
    prices = {member.plan.product_id: str(member.price.stripe_price_id) for member in offer.members}
    items: list[requests.Item] = [
        {"id": str(item.stripe_item_id), "price": prices[item.product_id], "quantity": item.quantity}
        for item in change_queries.live_items(unit.session, unit.organization.id, subscription.id)
    ]
    own = sale_queries.bundle_coupon(unit.session, wanted.bundle_price_id)
    return requests.update_subscription(
        str(subscription.stripe_subscription_id),
        items=items,
        proration_behavior="none",
        kept_discounts=kept_discounts,
        new_coupons=[own] if own else [],
    )


def sold_discount(offer: Offer) -> Money:
    """What a bundle takes off its members' list prices, exactly."""
    assert offer.bundle_price is not None
    currency = offer.bundle_price.currency
    members = [
        BundleMember(member.plan.code, Money(member.price.amount_minor, currency), member.quantity)
        for member in offer.members
    ]
    return bundle_discount(Money(offer.bundle_price.amount_minor, currency), members)
