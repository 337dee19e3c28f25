"""Cancelling a subscription, now or at the end of its period, and taking that back.

`intention` names what the caller wants: its repeat goes on with what was begun, also when that has had its
effect in the meantime and could not be asked for anew.
"""

from uuid import UUID

from billing.errors import Conflict, UnderWay
from billing.keys import stripe_key
from billing.lifecycles import SUBSCRIPTION_MOVES, SubscriptionStatus, move
from gateway import requests, translate
from gateway.requests import Request
from models.subscriptions import ProductSubscription
from tasks import subscriptions
from tasks.context import Context
from tasks.stripe_calls import call, is_begun


def cancel(
    context: Context, organization_id: UUID, subscription_id: UUID, intention: UUID, *, at_period_end: bool
) -> ProductSubscription:
    """Cancel now, or at the end of the period; the last usage is billed either way. Repeats are harmless.

    Raises: NotFound, RefusedTransition for one that has not started or has expired.
    """
    with context.database.organization_lock(organization_id):
        with context.tenant(organization_id) as unit:
            subscription = subscriptions.find(unit, subscription_id)
        if subscription.status == "cancelled" or (at_period_end and subscription.cancel_at_period_end):
            return subscription
        move(SUBSCRIPTION_MOVES, SubscriptionStatus(subscription.status), SubscriptionStatus.cancelled)
        if subscription.stripe_subscription_id is None:
            raise UnderWay("the subscription has not reached Stripe yet; try again in a moment")
        stripe_id = subscription.stripe_subscription_id
        if at_period_end:
            request = requests.update_subscription(stripe_id, cancel_at_period_end=True)
            key = stripe_key("cancel_at_end", subscription_id, intention)
        else:
            request = requests.cancel_subscription(stripe_id, "cancelled in Dunlin")
            key = stripe_key("cancel", subscription_id)
        return _told(context, subscription, request, key)


def reactivate(
    context: Context, organization_id: UUID, subscription_id: UUID, intention: UUID
) -> ProductSubscription:
    """Take back a cancellation at period end. Raises NotFound, Conflict once the subscription has ended."""
    with context.database.organization_lock(organization_id):
        with context.tenant(organization_id) as unit:
            subscription = subscriptions.find(unit, subscription_id)
        if subscription.ended_at is not None:
            raise Conflict("the subscription has ended; make a new one")
        if not subscription.cancel_at_period_end:
            return subscription
        stripe_id = str(subscription.stripe_subscription_id)
        request = requests.update_subscription(stripe_id, cancel_at_period_end=False)
        key = stripe_key("reactivate", subscription_id, intention)
        return _told(context, subscription, request, key)


def _told(
    context: Context, subscription: ProductSubscription, request: Request, key: str
) -> ProductSubscription:
    """Ask it of Stripe, once, and record what the subscription is now."""
    organization_id = subscription.organization_id
    is_repeat = is_begun(context, key)
    reply = call(context, request, key, organization_id)
    if is_repeat:  # the reply that was kept may be older than what has happened since
        reply = context.gateway.fetch("subscription", str(request.object_id))
    with context.tenant(organization_id) as unit:
        found = subscriptions.find(unit, subscription.id)
        subscriptions.record(unit, found, translate.subscription(reply))
    return found
