"""Changing a subscription: plan, seats, members of a bundle; now with proration, now without, or next period.

The change is a row before Stripe is told of it. Each stretch of unchanged terms is an item row of
its own, so usage is rated at the terms of its time, and a proration names what it gives back.
"""

from dataclasses import dataclass, field, replace
from uuid import UUID

from billing.errors import Conflict, InvalidTerms
from billing.keys import stripe_key
from gateway import requests, translate
from gateway.errors import Declined, Refused
from models import change_queries, sale_queries
from models.base import new_id
from models.subscriptions import ProductSubscription, SubscriptionChange, SubscriptionItem
from models.work import ClaimedJob
from tasks import bundle_moves, change_checks, change_rows, intervals, subscriptions
from tasks.change_checks import new_row
from tasks.context import Context, TenantUnit
from tasks.queue import job, run_job
from tasks.stripe_calls import call, first_said

PRORATIONS = ("prorate", "next_period", "none")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeTerms:
    """What to change: another plan of the same product, seats, or a product to take out of a bundle.

    `product` names the item, where the subscription has several. `private`: staff may give what the
    public does not see. `id` is that of the change: a repeat finds it.
    """

    plan: str | None = None
    quantity: int | None = None
    product: str | None = None
    remove: bool = False
    interval: str | None = None
    proration: str = "prorate"
    private: bool = False
    id: UUID = field(default_factory=new_id, compare=False)


def change(
    context: Context, organization_id: UUID, subscription_id: UUID, terms: ChangeTerms
) -> ProductSubscription:
    """Change a subscription. Raises InvalidTerms, NotFound, Conflict saying why it cannot be."""
    with context.database.organization_lock(organization_id), context.tenant(organization_id) as unit:
        subscription = subscriptions.find(unit, subscription_id)
        job_id = None
        if unit.session.get(SubscriptionChange, (organization_id, terms.id)) is None:
            if terms.interval == subscription.interval and intervals.withdraw(unit, subscription):
                return subscription
            wanted = request(unit, subscription, terms)
            wanted.id = terms.id
            job_id = enqueue(unit, wanted)
            unit.take_rings()  # run here, so that the caller gets Stripe's answer
            if wanted.changed_at > unit.now:
                return subscription  # planned: a worker tells Stripe when it is time
    if job_id is not None:
        run_job(context, job_id)
    with context.tenant(organization_id) as unit:
        made = unit.session.get_one(SubscriptionChange, (organization_id, terms.id))
        if made.refusal is not None:
            raise Conflict(f"Stripe refused the change: {made.refusal}")
        return subscriptions.find(unit, subscription_id)


def enqueue(unit: TenantUnit, wanted: SubscriptionChange) -> UUID:
    """Store a change with the job that makes it. Returns the job's id."""
    unit.session.add(wanted)
    unit.session.flush()
    due_at = max(unit.now, wanted.changed_at)
    job_id = unit.enqueue("subscription_changes.apply", str(wanted.id), subject_id=wanted.id, due_at=due_at)
    assert job_id is not None
    return job_id


def rehearse(unit: TenantUnit, subscription: ProductSubscription, terms: ChangeTerms) -> bool:
    """Our rows after a change that Stripe is not told of: whether it begins whole new periods at once.

    Only inside a rehearsal. Raises: as `change`.
    """
    wanted = request(unit, subscription, terms)
    unit.session.add(wanted)
    unit.session.flush()
    restarted = intervals.restarts(unit, subscription, wanted)
    change_rows.write(unit, subscription, wanted, wanted.changed_at)
    return restarted


def request(unit: TenantUnit, subscription: ProductSubscription, terms: ChangeTerms) -> SubscriptionChange:
    """The change as a row, not stored yet. Raises: as `change`."""
    if terms.proration not in PRORATIONS:
        raise InvalidTerms(f"must be one of {', '.join(PRORATIONS)}", field="proration")
    change_checks.refuse(unit, subscription)
    if terms.interval not in (None, subscription.interval):
        return _of_interval(unit, subscription, terms)
    item = _item(unit, subscription, terms)
    if terms.remove:
        return new_row(unit, subscription, item, None, "next_period")
    price_id = item.price_id if terms.plan is None else _price_id(unit, subscription, item, terms)
    changed = new_row(unit, subscription, item, price_id, terms.proration)
    _set_seats(unit, changed, item, terms)
    if (changed.price_id, changed.quantity) == (item.price_id, item.quantity):
        named = next((name for name in ("plan", "interval") if getattr(terms, name)), "quantity")
        raise InvalidTerms("is what the subscription has already", field=named)
    return changed


def _of_interval(
    unit: TenantUnit, subscription: ProductSubscription, terms: ChangeTerms
) -> SubscriptionChange:
    wanted = intervals.Wanted(str(terms.interval), terms.proration)
    intervals.check(unit, subscription, wanted)
    item = _item(unit, subscription, terms)
    plan, _, _ = change_queries.priced_plan(unit.session, item.price_id)
    named = replace(terms, plan=terms.plan or plan.code, private=terms.private or terms.plan is None)
    changed = new_row(unit, subscription, item, _price_id(unit, subscription, item, named), terms.proration)
    changed.changed_at = intervals.told_at(unit, subscription, wanted)
    _set_seats(unit, changed, item, terms)
    return changed


def _set_seats(
    unit: TenantUnit, changed: SubscriptionChange, item: SubscriptionItem, terms: ChangeTerms
) -> None:
    assert changed.price_id is not None
    plan, _, _ = change_queries.priced_plan(unit.session, changed.price_id)
    if terms.quantity is not None and terms.quantity != 1 and plan.base_charge != "per_seat":
        raise InvalidTerms("this plan has no seats", field="quantity")
    changed.quantity = terms.quantity or (item.quantity if plan.base_charge == "per_seat" else 1)
    if not 1 <= changed.quantity <= subscriptions.MAX_SEATS:
        raise InvalidTerms(f"must be 1 to {subscriptions.MAX_SEATS}", field="quantity")


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


def _price_id(
    unit: TenantUnit, subscription: ProductSubscription, item: SubscriptionItem, terms: ChangeTerms
) -> UUID:
    if subscription.bundle_id is not None:
        raise Conflict("a bundle's plans are fixed; take a member out of it first")
    interval = terms.interval or subscription.interval
    offer = sale_queries.plan_offer(
        unit.session, str(terms.plan), subscription.currency, interval, private=terms.private
    )
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
    organization_id = claimed.organization
    with context.tenant(organization_id) as unit:
        wanted = unit.session.get_one(SubscriptionChange, (organization_id, claimed.subject))
        subscription = subscriptions.find(unit, wanted.subscription_id)
        if wanted.applied_at is not None or wanted.refused_at is not None:
            return
        coupon = sale_queries.bundle_coupon(unit.session, subscription.bundle_price_id)
    kept = _kept_discounts(context, subscription, coupon) if wanted.price_id is None else None
    key = stripe_key("change", wanted.id)
    try:
        with context.tenant(organization_id) as unit:
            request = _request(unit, subscription, wanted, kept)
        reply = call(context, first_said(context, request, key), key, organization_id)
    except (Refused, Declined, Conflict) as refused:
        with context.tenant(organization_id) as unit:
            wanted = unit.session.get_one(SubscriptionChange, (organization_id, wanted.id))
            wanted.refused_at, wanted.refusal = unit.now, str(refused)
        return
    with context.tenant(organization_id) as unit:
        wanted = unit.session.get_one(SubscriptionChange, (organization_id, wanted.id))
        subscription = subscriptions.find(unit, wanted.subscription_id)
        facts = translate.subscription(reply)
        if intervals.restarts(unit, subscription, wanted) and facts.latest_invoice_id is not None:
            # Should its webhooks be lost, the invoice of the new period is found all the same.
            unit.enqueue("mirroring.observe_invoice", facts.latest_invoice_id, subject_id=subscription.id)
        change_rows.write(unit, subscription, wanted, facts.anchor_at)
        subscriptions.record(unit, subscription, facts)


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
    stripe_id = str(subscription.stripe_subscription_id)
    if wanted.bundle_price_id is not None:
        return bundle_moves.stripe_request(unit, subscription, wanted, kept_discounts or ())
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
    if intervals.restarts(unit, subscription, wanted):
        # All or nothing: an unpaid year would leave a subscription that nobody asked for.
        return requests.update_subscription(
            stripe_id,
            items=[changed],
            proration_behavior="create_prorations",
            payment_behavior="error_if_incomplete",
            restart=True,
        )
    prorated = wanted.proration == "prorate"
    return requests.update_subscription(
        stripe_id,
        items=[changed],
        # "next_period" is Stripe's "none": its price is asked for in advance, at the next boundary.
        proration_behavior="create_prorations" if prorated else "none",
        proration_date=int(wanted.changed_at.timestamp()) if prorated else None,
        kept_discounts=kept_discounts,
    )
