"""A change of the billing interval: what is possible, and when Stripe is told.

Stripe counts every period from one anchor, and a new interval takes effect at once. So a longer one
begins now, with a new anchor, and is charged now; a shorter one begins when the running period ends,
which is a boundary of the shorter one too: Stripe is told in the last of its periods, when it changes
nothing before that.
"""

from dataclasses import dataclass
from datetime import datetime

from billing.errors import Conflict, InvalidTerms
from billing.periods import Interval, months_in, period_at
from models import change_queries
from models.subscriptions import ProductSubscription, SubscriptionChange, SubscriptionItem
from tasks.context import TenantUnit


@dataclass(frozen=True, slots=True)
class Wanted:
    """Another interval, and how it is asked to begin."""

    interval: str
    proration: str


def check(unit: TenantUnit, subscription: ProductSubscription, wanted: Wanted) -> None:
    """Raises InvalidTerms, Conflict for a change of interval that cannot be, saying what can."""
    if wanted.interval not in set(Interval):
        raise InvalidTerms(f"must be one of {', '.join(Interval)}", field="interval")
    items = change_queries.live_items(unit.session, unit.organization.id, subscription.id)
    if subscription.bundle_id is not None or len(items) != 1:
        raise Conflict("a subscription to several products keeps its interval", field="interval")
    if subscription.cancel_at_period_end:
        raise Conflict("the subscription ends with this period; reactivate it first", field="interval")
    if subscription.status == "trialing":
        return  # nothing has been charged: the first period is of the new interval
    if _is_longer(subscription, wanted):
        if wanted.proration != "prorate":
            raise InvalidTerms("a longer interval begins at once: only `prorate`", field="proration")
        if subscription.status != "active":
            raise Conflict("what is open must be paid first", field="interval")
    elif wanted.proration != "next_period":
        raise InvalidTerms(
            "a shorter interval begins at the period's end: only `next_period`", field="proration"
        )


def told_at(unit: TenantUnit, subscription: ProductSubscription, wanted: Wanted) -> datetime:
    """When Stripe is told: now, or in the last of the shorter periods before the running one ends."""
    now = unit.now.replace(microsecond=0)
    if subscription.status == "trialing" or _is_longer(subscription, wanted):
        return now
    before = subscription.current_period_end_at - datetime.resolution
    return max(now, period_at(subscription.anchor_at, Interval(wanted.interval), before).start)


def restarts(unit: TenantUnit, subscription: ProductSubscription, change: SubscriptionChange) -> bool:
    """Whether the change begins whole new periods at its own instant."""
    if change.price_id is None or change.bundle_price_id is not None or change.proration != "prorate":
        return False
    item = unit.session.get_one(SubscriptionItem, (unit.organization.id, change.item_id))
    _, old, _ = change_queries.priced_plan(unit.session, item.price_id)
    _, new, _ = change_queries.priced_plan(unit.session, change.price_id)
    return new.interval != old.interval and subscription.status != "trialing"


def withdraw(unit: TenantUnit, subscription: ProductSubscription) -> bool:
    """Take back a planned change of interval, of which Stripe knows nothing yet: whether there was one."""
    planned = change_queries.unfinished_change(unit.session, unit.organization.id, subscription.id)
    if planned is None or planned.changed_at <= unit.now:
        return False
    planned.refused_at, planned.refusal = unit.now, "withdrawn"
    return True


def _is_longer(subscription: ProductSubscription, wanted: Wanted) -> bool:
    return months_in(Interval(wanted.interval)) > months_in(Interval(subscription.interval))
