"""Changing a subscription: plan, seats, members of a bundle; now with proration, now without, or next period.

The change is a row before Stripe is told of it. Each stretch of unchanged terms is an item row of
its own, so usage is rated at the terms of its time, and a proration names what it gives back.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from billing.errors import Conflict, InvalidTerms
from billing.keys import stripe_key
from billing.money import Money
from billing.periods import Period
from billing.proration import ProratedPart, Side
from gateway import requests, translate
from gateway.errors import Refused
from models import change_queries, sale_queries
from models.subscriptions import PendingCharge, ProductSubscription, SubscriptionChange, SubscriptionItem
from models.work import ClaimedJob
from tasks import invoicing, rating, subscriptions
from tasks.context import Context, TenantUnit
from tasks.queue import job, run_job
from tasks.stripe_calls import call, first_said

PRORATIONS = ("prorate", "next_period", "none")
_CHANGEABLE = ("trialing", "active", "past_due")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeTerms:
    """What to change: another plan of the same product, seats, or a product to take out of a bundle.

    `product` names the item, where the subscription has several.
    """

    plan: str | None = None
    quantity: int | None = None
    product: str | None = None
    remove: bool = False
    proration: str = "prorate"


def change(
    context: Context, organization_id: UUID, subscription_id: UUID, terms: ChangeTerms
) -> ProductSubscription:
    """Change a subscription. Raises InvalidTerms, NotFound, Conflict saying why it cannot be."""
    with context.database.organization_lock(organization_id), context.tenant(organization_id) as unit:
        wanted = _wanted(unit, subscriptions.find(unit, subscription_id), terms)
        unit.session.add(wanted)
        unit.session.flush()
        job_id = unit.enqueue("subscription_changes.apply", str(wanted.id), subject_id=wanted.id)
        unit.rings.clear()  # run here, so that the caller gets Stripe's answer
    assert job_id is not None
    run_job(context, job_id)
    with context.tenant(organization_id) as unit:
        made = unit.session.get_one(SubscriptionChange, (organization_id, wanted.id))
        if made.refusal is not None:
            raise Conflict(f"Stripe refused the change: {made.refusal}")
        return subscriptions.find(unit, subscription_id)


def rehearse(unit: TenantUnit, subscription: ProductSubscription, terms: ChangeTerms) -> None:
    """Our rows after a change that Stripe is not told of. Only inside a rehearsal. Raises: as `change`."""
    wanted = _wanted(unit, subscription, terms)
    unit.session.add(wanted)
    unit.session.flush()
    _apply(unit, subscription, wanted)


def _wanted(unit: TenantUnit, subscription: ProductSubscription, terms: ChangeTerms) -> SubscriptionChange:
    if terms.proration not in PRORATIONS:
        raise InvalidTerms(f"must be one of {', '.join(PRORATIONS)}", field="proration")
    if subscription.status not in _CHANGEABLE:
        raise Conflict(f"a subscription that is {subscription.status} cannot be changed")
    item = _item(unit, subscription, terms)
    if item.started_at > unit.now:
        raise Conflict("a change is planned for the next period already")
    if terms.remove:
        return _change(unit, subscription, item, None, "next_period")
    price_id = item.price_id if terms.plan is None else _price_id(unit, subscription, item, terms.plan)
    plan, _, _ = change_queries.priced_plan(unit.session, price_id)
    if terms.quantity is not None and terms.quantity != 1 and plan.base_charge != "per_seat":
        raise InvalidTerms("this plan has no seats", field="quantity")
    changed = _change(unit, subscription, item, price_id, terms.proration)
    changed.quantity = terms.quantity or (item.quantity if plan.base_charge == "per_seat" else 1)
    if not 1 <= changed.quantity <= subscriptions.MAX_SEATS:
        raise InvalidTerms(f"must be 1 to {subscriptions.MAX_SEATS}", field="quantity")
    if (changed.price_id, changed.quantity) == (item.price_id, item.quantity):
        raise InvalidTerms("is what the subscription has already", field="plan" if terms.plan else "quantity")
    return changed


def _change(
    unit: TenantUnit,
    subscription: ProductSubscription,
    item: SubscriptionItem,
    price_id: UUID | None,
    proration: str,
) -> SubscriptionChange:
    return SubscriptionChange(
        organization_id=unit.organization.id,
        subscription_id=subscription.id,
        item_id=item.id,
        price_id=price_id,
        quantity=item.quantity,
        proration=proration,
        changed_at=unit.now.replace(microsecond=0),  # Stripe counts whole seconds
    )


def _item(unit: TenantUnit, subscription: ProductSubscription, terms: ChangeTerms) -> SubscriptionItem:
    items = change_queries.live_items(unit.session, unit.organization.id, subscription.id)
    if terms.product is not None:
        items = [
            item
            for item in items
            if change_queries.priced_plan(unit.session, item.price_id)[2].code == terms.product
        ]
        if not items:
            raise InvalidTerms("is not part of the subscription", field="product")
    if len(items) != 1:
        raise InvalidTerms("name the product whose item changes", field="product")
    if terms.remove and subscription.bundle_id is None:
        raise Conflict("only a bundle's member can be taken out; cancel the subscription instead")
    return items[0]


def _price_id(unit: TenantUnit, subscription: ProductSubscription, item: SubscriptionItem, code: str) -> UUID:
    if subscription.bundle_id is not None:
        raise Conflict("a bundle's plans are fixed; take a member out of it first")
    offer = sale_queries.plan_offer(unit.session, code, subscription.currency, subscription.interval)
    if offer is None:
        raise InvalidTerms("is not sold in this currency and interval", field="plan")
    if offer.members[0].plan.product_id != item.product_id:
        raise InvalidTerms("is a plan of another product: make a new subscription for it", field="plan")
    if offer.members[0].price.stripe_price_id is None:
        raise Conflict("has not been synced to Stripe yet: run `dunlin stripe sync`", field="plan")
    return offer.members[0].price.id


@job("subscription_changes.apply", queue="stripe")
def apply(context: Context, claimed: ClaimedJob) -> None:
    """Tell Stripe of a change, once, and let our rows follow."""
    assert claimed.organization_id is not None
    organization_id = claimed.organization_id
    with context.tenant(organization_id) as unit:
        wanted = unit.session.get_one(SubscriptionChange, (organization_id, claimed.subject_id))
        subscription = subscriptions.find(unit, wanted.subscription_id)
        if wanted.applied_at is not None or wanted.refused_at is not None:
            return
        coupon = sale_queries.bundle_coupon(unit.session, subscription.bundle_price_id)
    kept = _kept_discounts(context, subscription, coupon) if wanted.price_id is None else None
    with context.tenant(organization_id) as unit:
        request = _request(unit, subscription, wanted, kept)
    key = stripe_key("change", wanted.id)
    try:
        reply = call(context, first_said(context, request, key), key, organization_id)
    except Refused as refused:
        with context.tenant(organization_id) as unit:
            wanted = unit.session.get_one(SubscriptionChange, (organization_id, wanted.id))
            wanted.refused_at, wanted.refusal = unit.now, refused.message
        return
    with context.tenant(organization_id) as unit:
        wanted = unit.session.get_one(SubscriptionChange, (organization_id, wanted.id))
        subscription = subscriptions.find(unit, wanted.subscription_id)
        _apply(unit, subscription, wanted)
        subscriptions.record(unit, subscription, translate.subscription(reply))


def _kept_discounts(
    context: Context, subscription: ProductSubscription, bundle_coupon: str | None
) -> list[str]:
    """What stays when a member is taken out: the bundle's discount ends with it, a coupon goes on."""
    fetched = context.gateway.fetch("subscription", str(subscription.stripe_subscription_id), ["discounts"])
    return [discount for discount, coupon in translate.discounts(fetched) if coupon != bundle_coupon]


def _request(
    unit: TenantUnit,
    subscription: ProductSubscription,
    wanted: SubscriptionChange,
    kept_discounts: list[str] | None,
) -> requests.Request:
    item = unit.session.get_one(SubscriptionItem, (unit.organization.id, wanted.item_id))
    changed: requests.Item = {"id": str(item.stripe_item_id)}
    if wanted.price_id is None:
        changed["deleted"] = True
    else:
        _, price, _ = change_queries.priced_plan(unit.session, wanted.price_id)
        changed["quantity"] = wanted.quantity
        # The price of an old version is archived: Stripe keeps it for who has it, and takes it from nobody.
        if wanted.price_id != item.price_id:
            changed["price"] = str(price.stripe_price_id)
    prorated = wanted.proration == "prorate"
    return requests.update_subscription(
        str(subscription.stripe_subscription_id),
        items=[changed],
        # "next_period" is Stripe's "none": its price is asked for in advance, at the next boundary.
        proration_behavior="create_prorations" if prorated else "none",
        proration_date=int(wanted.changed_at.timestamp()) if prorated else None,
        kept_discounts=kept_discounts,
    )


def _apply(unit: TenantUnit, subscription: ProductSubscription, wanted: SubscriptionChange) -> None:
    """Our rows after a change: the old stretch ends, the new one begins, charges wait for the invoice."""
    old = unit.session.get_one(SubscriptionItem, (unit.organization.id, wanted.item_id))
    later = wanted.proration == "next_period"
    at = subscription.current_period_end_at if later else wanted.changed_at
    old.ended_at = at
    unit.session.flush()
    if wanted.price_id is None:
        subscription.bundle_id = subscription.bundle_price_id = None
        subscription.discount_minor = 0
    else:
        new = _following(unit, old, wanted, at)
        change_queries.attribute_usage(unit.session, old, new)
        # The new plan may bill what the old one had no price for.
        unit.enqueue("usage.redrive", str(new.id), subject_id=new.product_id)
        if subscription.product_plan_id is not None:
            subscription.product_plan_id = new.plan_id
        if new.quantity != old.quantity and subscription.product_plan_id is not None:
            subscription.quantity = new.quantity
        if wanted.proration == "prorate" and subscription.status != "trialing":
            _charge_change(unit, subscription, old, new)
    wanted.applied_at = unit.now
    unit.session.flush()


def _following(
    unit: TenantUnit, old: SubscriptionItem, wanted: SubscriptionChange, at: datetime
) -> SubscriptionItem:
    assert wanted.price_id is not None
    plan, price, _ = change_queries.priced_plan(unit.session, wanted.price_id)
    new = SubscriptionItem(
        organization_id=unit.organization.id,
        subscription_id=old.subscription_id,
        product_id=old.product_id,
        plan_id=plan.id,
        price_id=price.id,
        quantity=wanted.quantity,
        position=old.position,
        started_at=at,
        stripe_item_id=old.stripe_item_id,
        debited_minor=old.debited_minor,
        debited_from_at=old.debited_from_at,
        debited_until_at=old.debited_until_at,
    )
    unit.session.add(new)
    unit.session.flush()
    return new


def _charge_change(
    unit: TenantUnit, subscription: ProductSubscription, old: SubscriptionItem, new: SubscriptionItem
) -> None:
    """Give back the unused part of what was really charged, and charge the rest of the period anew.

    Source: docs.stripe.com/billing/subscriptions/prorations, flexible billing mode.
    """
    at = new.started_at
    if old.debited_from_at is not None and old.debited_until_at is not None and old.debited_minor:
        debited = Period(old.debited_from_at, old.debited_until_at)
        charged = Money(old.debited_minor, subscription.currency)
        _pending(unit, old, ProratedPart(Side.unused, charged, _listed(unit, old), debited, at))
    period = Period(subscription.current_period_start_at, subscription.current_period_end_at)
    full = _full_price(unit, subscription, new, at)
    rest = ProratedPart(Side.remaining, full, _listed(unit, new), period, at)
    _pending(unit, new, rest)
    new.debited_minor, new.debited_from_at, new.debited_until_at = rest.amount.minor, at, period.end


def _listed(unit: TenantUnit, item: SubscriptionItem) -> Money:
    """A whole period of the item by the price list, before discounts."""
    _, price, _ = change_queries.priced_plan(unit.session, item.price_id)
    return Money(price.amount_minor, price.currency).scaled(item.quantity)


def _full_price(
    unit: TenantUnit, subscription: ProductSubscription, item: SubscriptionItem, at: datetime
) -> Money:
    """A whole period of the item, after the discounts that it would get on an invoice of all items."""
    rated = rating.recurring_lines(unit, subscription, Period(at, subscription.current_period_end_at))
    built = invoicing.recurring_draft(unit, subscription, rated)
    return next(
        line.net for line, source in zip(built.lines, rated, strict=True) if source.item_id == item.id
    )


def _pending(unit: TenantUnit, item: SubscriptionItem, part: ProratedPart) -> None:
    plan, price, product = change_queries.priced_plan(unit.session, item.price_id)
    seats = f"{item.quantity} x " if plan.base_charge == "per_seat" else ""
    what = "Unused time on" if part.side is Side.unused else "Remaining time on"
    at, amount = part.changed_at, part.amount
    unit.session.add(
        PendingCharge(
            organization_id=unit.organization.id,
            subscription_id=item.subscription_id,
            key=f"{'credit' if part.side is Side.unused else 'charge'}:{item.id}:{at:%Y%m%dT%H%M%S}",
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
