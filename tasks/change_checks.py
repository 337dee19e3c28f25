"""Whether a subscription can be changed now, and the row of a change."""

from uuid import UUID

from billing.errors import Conflict, UnderWay
from models import change_queries
from models.subscriptions import ProductSubscription, SubscriptionChange, SubscriptionItem
from tasks.context import TenantUnit

_CHANGEABLE = ("trialing", "active", "past_due")
_PLANNED = "a change is planned for the next period already"


def refuse(unit: TenantUnit, subscription: ProductSubscription) -> None:
    """Raises Conflict in a state that allows no change, and while another one is on its way."""
    if subscription.status not in _CHANGEABLE:
        raise Conflict(f"a subscription that is {subscription.status} cannot be changed")
    organization_id = unit.organization.id
    items = change_queries.live_items(unit.session, organization_id, subscription.id)
    if any(item.started_at > unit.now for item in items):
        raise Conflict(_PLANNED)
    # Both would end the same stretch of terms.
    unfinished = change_queries.unfinished_change(unit.session, organization_id, subscription.id)
    if unfinished is not None and unfinished.changed_at > unit.now:
        raise Conflict(_PLANNED)
    if unfinished is not None:
        raise UnderWay("another change is under way; try again in a moment")


def new_row(
    unit: TenantUnit,
    subscription: ProductSubscription,
    item: SubscriptionItem,
    price_id: UUID | None,
    proration: str,
) -> SubscriptionChange:
    """A change from now on, not stored yet."""
    return SubscriptionChange(
        organization_id=unit.organization.id,
        subscription_id=subscription.id,
        item_id=item.id,
        price_id=price_id,
        quantity=item.quantity,
        proration=proration,
        changed_at=unit.now.replace(microsecond=0),  # Stripe counts whole seconds
    )
