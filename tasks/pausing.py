"""Pausing a subscription and going on: while it is paused nothing is charged, and access is suspended.

Going on starts a new period at once and moves the anchor there. Usage reported since the last
invoice, the pause included, stands on an invoice of its own then.

`intention` names what the caller wants: its repeat goes on with what was begun, also when that has had its
effect in the meantime and could not be asked for anew.
"""

from uuid import UUID

from billing.errors import Conflict
from billing.keys import stripe_key
from billing.lifecycles import SubscriptionStatus
from gateway import requests, translate
from gateway.errors import Declined, Refused
from models import billing_queries
from models.subscriptions import ProductSubscription
from tasks import mirroring, notifications, subscriptions
from tasks.context import Context, TenantUnit
from tasks.stripe_calls import call, is_begun

_PAUSABLE = (SubscriptionStatus.active, SubscriptionStatus.past_due)


def pause(
    context: Context, organization_id: UUID, subscription_id: UUID, intention: UUID
) -> ProductSubscription:
    """Pause; a repeat changes nothing. Raises NotFound, Conflict saying why it cannot be."""
    with context.database.organization_lock(organization_id):
        key = stripe_key("pause", subscription_id, intention)
        with context.tenant(organization_id) as unit:
            subscription = subscriptions.find(unit, subscription_id)
        if not is_begun(context, key):
            if subscription.status == SubscriptionStatus.paused:
                return subscription
            if subscription.status not in _PAUSABLE:
                raise Conflict(f"a subscription that is {subscription.status} cannot be paused")
        stripe_id = str(subscription.stripe_subscription_id)
        refusal: Refused | None = None
        try:
            call(context, requests.pause_subscription(stripe_id), key, organization_id)
        except Refused as error:
            refusal = error  # an earlier try may have had its effect, and its answer been lost
        found = translate.subscription(context.gateway.fetch("subscription", stripe_id))
        if refusal is not None and found.status != SubscriptionStatus.paused:
            raise refusal
        with context.tenant(organization_id) as unit:
            subscription = subscriptions.find(unit, subscription_id)
            subscriptions.record(unit, subscription, found)
            _tell(unit, subscription, intention)
    return subscription


def _tell(unit: TenantUnit, subscription: ProductSubscription, intention: UUID) -> None:
    kind, key = "subscription.paused", f"{subscription.id}:{intention}"
    if not billing_queries.is_told(unit.session, unit.organization.id, kind, key):
        notifications.write(unit, kind, key, {})


def resume(
    context: Context, organization_id: UUID, subscription_id: UUID, intention: UUID
) -> ProductSubscription:
    """Go on from now with a new period, once it is paid. Raises NotFound, Conflict, Declined."""
    with context.database.organization_lock(organization_id):
        key = stripe_key("resume", subscription_id, intention)
        with context.tenant(organization_id) as unit:
            subscription = subscriptions.find(unit, subscription_id)
        if subscription.status != SubscriptionStatus.paused and not is_begun(context, key):
            raise Conflict(f"a subscription that is {subscription.status} is not paused")
        stripe_id = str(subscription.stripe_subscription_id)
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
