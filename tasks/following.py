"""A subscription that a person changed in Stripe's dashboard: our items follow where that is safe.

What cannot be followed (a price that we do not sell, an item that we do not know) is left as it is:
the next invoice then differs from our figure, is parked with both, and nobody is charged.
"""

import logging
from uuid import UUID

from gateway.translate import SubscriptionFacts, SubscriptionItemFacts
from models import billing_queries, change_queries
from models.subscriptions import ProductSubscription, SubscriptionItem
from tasks.context import Context, TenantUnit

log = logging.getLogger("dunlin.following")


def follow(context: Context, organization_id: UUID, facts: SubscriptionFacts) -> None:
    """Bring quantity and plan of each item in step with Stripe. The caller holds the organization's lock."""
    with context.tenant(organization_id) as unit:
        subscription = billing_queries.subscription_by_stripe_id(unit.session, organization_id, facts.id)
        if subscription is None or subscription.ended_at is not None:
            return
        if change_queries.has_unfinished_change(unit.session, organization_id, subscription.id):
            return  # a change of ours is on its way, and this is perhaps its echo
        items = change_queries.live_items(unit.session, organization_id, subscription.id)
        ours = {item.stripe_item_id: item for item in items}
        for theirs in facts.items:
            item = ours.get(theirs.id)
            if item is None:
                log.error("subscription item %s was added at Stripe by a person", theirs.id)
            elif not _same(unit, item, theirs):
                _follow_item(unit, subscription, item, theirs)


def _same(unit: TenantUnit, item: SubscriptionItem, theirs: SubscriptionItemFacts) -> bool:
    _, price, _ = change_queries.priced_plan(unit.session, item.price_id)
    return (price.stripe_price_id, item.quantity) == (theirs.price_id, theirs.quantity)


def _follow_item(
    unit: TenantUnit, subscription: ProductSubscription, item: SubscriptionItem, theirs: SubscriptionItemFacts
) -> None:
    """End the stretch that was, and begin the one that Stripe has."""
    sold = change_queries.plan_by_stripe_price(unit.session, theirs.price_id)
    terms = (subscription.currency, subscription.interval, item.product_id)
    if sold is None or (sold[1].currency, sold[1].interval, sold[0].product_id) != terms:
        log.error("price %s at Stripe is none that this subscription can have", theirs.price_id)
        return
    plan, price = sold
    item.ended_at = unit.now
    unit.session.flush()
    new = SubscriptionItem(
        organization_id=item.organization_id,
        subscription_id=item.subscription_id,
        product_id=item.product_id,
        plan_id=plan.id,
        price_id=price.id,
        quantity=theirs.quantity,
        position=item.position,
        started_at=unit.now,
        stripe_item_id=item.stripe_item_id,
        debited_minor=item.debited_minor,
        debited_from_at=item.debited_from_at,
        debited_until_at=item.debited_until_at,
    )
    unit.session.add(new)
    unit.session.flush()
    change_queries.attribute_usage(unit.session, item, new)
    unit.enqueue("usage.redrive", str(new.id), subject_id=new.product_id)
    if subscription.product_plan_id is not None:
        subscription.product_plan_id, subscription.quantity = plan.id, theirs.quantity
    log.warning("subscription %s follows a change that a person made at Stripe", subscription.id)
