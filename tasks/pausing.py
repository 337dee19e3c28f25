"""Pausing a subscription and going on: while it is paused nothing is charged, and access is suspended.

Going on starts a new period at once and moves the anchor there. Usage reported since the last
invoice, the pause included, stands on an invoice of its own then.
"""

from uuid import UUID

from billing.errors import Conflict
from billing.keys import stripe_key
from billing.lifecycles import SubscriptionStatus
from gateway import requests, translate
from gateway.errors import Declined, Refused
from models.subscriptions import ProductSubscription
from tasks import mirroring, notifications, subscriptions
from tasks.context import Context
from tasks.stripe_calls import call

_PAUSABLE = (SubscriptionStatus.active, SubscriptionStatus.past_due)


def pause(context: Context, organization_id: UUID, subscription_id: UUID) -> ProductSubscription:
    """Pause; a repeat changes nothing. Raises NotFound, Conflict saying why it cannot be."""
    with context.database.organization_lock(organization_id):
        with context.tenant(organization_id) as unit:
            subscription = subscriptions.find(unit, subscription_id)
        if subscription.status == SubscriptionStatus.paused:
            return subscription
        if subscription.status not in _PAUSABLE:
            raise Conflict(f"a subscription that is {subscription.status} cannot be paused")
        request = requests.pause_subscription(str(subscription.stripe_subscription_id))
        key = stripe_key("pause", subscription_id, context.wall())
        try:
            reply = call(context, request, key, organization_id)
        except Refused:
            # An earlier try may have had its effect, and its answer been lost.
            reply = context.gateway.fetch("subscription", str(subscription.stripe_subscription_id))
            if reply["status"] != "paused":
                raise
        with context.tenant(organization_id) as unit:
            subscription = subscriptions.find(unit, subscription_id)
            subscriptions.record(unit, subscription, translate.subscription(reply))
            notifications.write(unit, "subscription.paused", f"{subscription_id}:{unit.now.isoformat()}", {})
    return subscription


def resume(context: Context, organization_id: UUID, subscription_id: UUID) -> ProductSubscription:
    """Go on from now with a new period, once it is paid. Raises NotFound, Conflict, Declined."""
    with context.database.organization_lock(organization_id):
        with context.tenant(organization_id) as unit:
            subscription = subscriptions.find(unit, subscription_id)
        if subscription.status != SubscriptionStatus.paused:
            raise Conflict(f"a subscription that is {subscription.status} is not paused")
        stripe_id = str(subscription.stripe_subscription_id)
        key = stripe_key("resume", subscription_id, context.wall())
        refusal: Declined | Refused | None = None
        try:
            call(context, requests.resume_subscription(stripe_id), key, organization_id)
        except (Declined, Refused) as error:
            refusal = error
        # The reply of a resumption is older than the payment that follows it within the call.
        found = context.gateway.fetch("subscription", stripe_id, ["latest_invoice"])
        with context.tenant(organization_id) as unit:
            subscription = subscriptions.find(unit, subscription_id)
            subscriptions.record(unit, subscription, translate.subscription(found))
        mirroring.observe(context, organization_id, translate.invoice(found["latest_invoice"]))
    if refusal is not None and subscription.status == SubscriptionStatus.paused:
        raise refusal
    return subscription
