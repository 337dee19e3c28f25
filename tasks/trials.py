"""The end of a trial: when the customer is reminded, and a person at Stripe who moves it."""

from datetime import timedelta

from gateway.translate import SubscriptionFacts
from models.subscriptions import ProductSubscription
from tasks.context import TenantUnit

REMINDER = timedelta(days=3)


def plan_reminder(unit: TenantUnit, subscription: ProductSubscription) -> None:
    """Have the customer told in time, once for each end that the trial was to have."""
    ends_at = subscription.trial_end_at
    if ends_at is not None:
        key = f"{subscription.id}:{int(ends_at.timestamp())}"
        due_at = max(unit.now, ends_at - REMINDER)
        unit.enqueue("subscriptions.remind_trial_end", key, subject_id=subscription.id, due_at=due_at)


def follow(unit: TenantUnit, subscription: ProductSubscription, facts: SubscriptionFacts) -> None:
    """A person has made a running trial longer or shorter, or has ended it: the first period begins there."""
    running = subscription.status == "trialing"
    if not running or facts.trial_end_at in (None, subscription.trial_end_at):
        return
    subscription.trial_end_at, subscription.anchor_at = facts.trial_end_at, facts.anchor_at
    if facts.status == "trialing":
        plan_reminder(unit, subscription)
