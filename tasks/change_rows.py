"""Our rows after a change of a subscription: stretches of terms, and what they give back and charge."""

from datetime import datetime
from uuid import UUID

from billing.money import Money
from billing.periods import Period, nth_boundary
from billing.proration import ProratedPart, Side
from models import billing_queries, change_queries, sale_queries
from models.subscriptions import PendingCharge, ProductSubscription, SubscriptionChange, SubscriptionItem
from tasks import drafting, intervals, rating
from tasks.bundle_moves import sold_discount
from tasks.context import TenantUnit


def write(
    unit: TenantUnit, subscription: ProductSubscription, wanted: SubscriptionChange, anchor_at: datetime
) -> None:
    """Our rows after a change: the old stretch ends, the new one begins, charges wait for the invoice.

    `anchor_at` is where Stripe now counts the periods from; a change that restarts them happened there.
    """
    old = unit.session.get_one(SubscriptionItem, (unit.organization.id, wanted.item_id))
    if wanted.bundle_price_id is not None:
        _write_bundle(unit, subscription, wanted.bundle_price_id)
    elif wanted.price_id is None:
        old.ended_at = subscription.current_period_end_at
        subscription.bundle_id = subscription.bundle_price_id = None
        subscription.discount_minor = 0
    elif intervals.restarts(unit, subscription, wanted):
        _restart(unit, subscription, wanted, anchor_at)
    else:
        later = wanted.proration == "next_period"
        at = subscription.current_period_end_at if later else wanted.changed_at
        new = _replaced(unit, subscription, old, wanted, at)
        if wanted.proration == "prorate" and subscription.status != "trialing":
            _charge_change(unit, subscription, old, new)
    wanted.applied_at = unit.now
    unit.session.flush()


def _write_bundle(unit: TenantUnit, subscription: ProductSubscription, bundle_price_id: UUID) -> None:
    """From the period's end on every member costs what the bundle's new version says."""
    offer = sale_queries.bundle_version(unit.session, bundle_price_id)
    assert offer is not None and offer.bundle_price is not None, "the request was made of it"
    members = {member.plan.product_id: member for member in offer.members}
    for old in change_queries.live_items(unit.session, unit.organization.id, subscription.id):
        member = members[old.product_id]
        if member.price.id != old.price_id:
            at = subscription.current_period_end_at
            _following(unit, old, member.price.id, old.quantity, at)
    subscription.bundle_price_id = bundle_price_id
    subscription.discount_minor = sold_discount(offer).minor
    unit.session.flush()


def _restart(
    unit: TenantUnit, subscription: ProductSubscription, wanted: SubscriptionChange, anchor_at: datetime
) -> None:
    """A longer interval begins now, with its first whole period; what was paid and not had comes back."""
    old = unit.session.get_one(SubscriptionItem, (unit.organization.id, wanted.item_id))
    new = _replaced(unit, subscription, old, wanted, anchor_at)
    # Its own charge stands on the invoice of the new period, which notes it.
    new.debited_minor, new.debited_from_at, new.debited_until_at = 0, None, None
    _give_back(unit, subscription, old, anchor_at, "restart")
    interval = change_queries.interval_at(unit.session, subscription, anchor_at)
    subscription.interval = interval.value
    subscription.anchor_at = subscription.current_period_start_at = anchor_at
    subscription.current_period_end_at = nth_boundary(anchor_at, interval, 1)


def _replaced(
    unit: TenantUnit,
    subscription: ProductSubscription,
    old: SubscriptionItem,
    wanted: SubscriptionChange,
    at: datetime,
) -> SubscriptionItem:
    assert wanted.price_id is not None
    new = _following(unit, old, wanted.price_id, wanted.quantity, at)
    if subscription.product_plan_id is not None:
        subscription.product_plan_id = new.plan_id
        if new.quantity != old.quantity:
            subscription.quantity = new.quantity
    if subscription.status == "trialing":
        subscription.interval = change_queries.interval_at(unit.session, subscription, at).value
    return new


def _following(
    unit: TenantUnit, old: SubscriptionItem, price_id: UUID, quantity: int, at: datetime
) -> SubscriptionItem:
    """End the stretch of the old terms, and begin the one of the new; usage from then on is the new one's."""
    plan, price, _ = change_queries.priced_plan(unit.session, price_id)
    old.ended_at = at
    unit.session.flush()
    new = SubscriptionItem(
        organization_id=unit.organization.id,
        subscription_id=old.subscription_id,
        product_id=old.product_id,
        plan_id=plan.id,
        price_id=price.id,
        quantity=quantity,
        position=old.position,
        started_at=at,
        stripe_item_id=old.stripe_item_id,
        debited_minor=old.debited_minor,
        debited_from_at=old.debited_from_at,
        debited_until_at=old.debited_until_at,
    )
    unit.session.add(new)
    unit.session.flush()
    change_queries.attribute_usage(unit.session, old, new)
    # The new plan may bill what the old one had no price for.
    unit.enqueue("usage.redrive", str(new.id), subject_id=new.product_id)
    return new


def _charge_change(
    unit: TenantUnit, subscription: ProductSubscription, old: SubscriptionItem, new: SubscriptionItem
) -> None:
    """Give back the unused part of what was really charged, and charge the rest of the period anew.

    Source: docs.stripe.com/billing/subscriptions/prorations, flexible billing mode.
    """
    at = new.started_at
    _give_back(unit, subscription, old, at)
    period = Period(subscription.current_period_start_at, subscription.current_period_end_at)
    full = _full_price(unit, subscription, new, at)
    rest = ProratedPart(Side.remaining, full, _listed(unit, new), period, at)
    _pending(unit, new, rest, "charge")
    new.debited_minor, new.debited_from_at, new.debited_until_at = rest.amount.minor, at, period.end


def _give_back(
    unit: TenantUnit,
    subscription: ProductSubscription,
    old: SubscriptionItem,
    at: datetime,
    kind: str = "credit",
) -> None:
    if old.debited_from_at is None or old.debited_until_at is None or not old.debited_minor:
        return
    debited = Period(old.debited_from_at, old.debited_until_at)
    charged = Money(old.debited_minor, subscription.currency)
    _pending(unit, old, ProratedPart(Side.unused, charged, _listed(unit, old), debited, at), kind)


def _listed(unit: TenantUnit, item: SubscriptionItem) -> Money:
    """A whole period of the item by the price list, before discounts."""
    _, price, _ = change_queries.priced_plan(unit.session, item.price_id)
    return Money(price.amount_minor, price.currency).scaled(item.quantity)


def _full_price(
    unit: TenantUnit, subscription: ProductSubscription, item: SubscriptionItem, at: datetime
) -> Money:
    """A whole period of the item, after the discounts that it would get on an invoice of all items."""
    items = billing_queries.billed_items(unit.session, unit.organization.id, subscription.id)
    rated = rating.recurring_lines(items, Period(at, subscription.current_period_end_at))
    built = drafting.recurring_draft(unit, subscription, items, rated)
    return next(
        line.net for line, source in zip(built.lines, rated, strict=True) if source.item_id == item.id
    )


def _pending(unit: TenantUnit, item: SubscriptionItem, part: ProratedPart, kind: str) -> None:
    """A charge that waits for the next invoice; its key begins with `kind`: charge, credit or restart."""
    plan, price, product = change_queries.priced_plan(unit.session, item.price_id)
    seats = f"{item.quantity} x " if plan.base_charge == "per_seat" else ""
    what = "Unused time on" if part.side is Side.unused else "Remaining time on"
    at, amount = part.changed_at, part.amount
    unit.session.add(
        PendingCharge(
            organization_id=unit.organization.id,
            subscription_id=item.subscription_id,
            key=f"{kind}:{item.id}:{at:%Y%m%dT%H%M%S}",
            item_id=item.id,
            product_id=item.product_id,
            description=f"{what} {seats}{product.name} {plan.name} after {at:%Y-%m-%d}",
            quantity=item.quantity,
            currency=amount.currency,
            amount_minor=amount.minor,
            period_start_at=at,
            period_end_at=part.period.end,
            explanation={
                "plan": {"code": plan.code, "version": plan.version},
                "terms": None,
                "interval": price.interval,
                "proration": part.to_record(),
            },
        )
    )
