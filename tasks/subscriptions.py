"""Subscriptions: create; and what Stripe says they are."""

import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from billing.errors import Conflict, InvalidTerms, NotFound
from billing.keys import stripe_key
from billing.lifecycles import SUBSCRIPTION_MOVES, SubscriptionStatus, from_stripe_subscription_status, move
from billing.periods import Interval, nth_boundary
from gateway import requests, translate
from gateway.errors import Refused, Throttled, Unreachable
from gateway.translate import SubscriptionFacts
from models import billing_queries, change_queries, organization_queries, sale_queries
from models.base import new_id
from models.sale_queries import Offer
from models.subscriptions import ProductSubscription, SubscriptionItem
from models.work import ClaimedJob
from tasks import balance, bundle_moves, coupons, notifications, payment_methods, tax, trials
from tasks.context import Context, TenantUnit
from tasks.organizations import ensure_customer
from tasks.queue import job, run_job
from tasks.stripe_calls import call, refusal

log = logging.getLogger("dunlin.subscriptions")

MAX_SEATS = 100_000
_STAMP = "%Y%m%dT%H%M%S%f"
# Stripe makes a cycle's draft within minutes and tells of it: until then there is nothing to ask for.
_UNTOLD = timedelta(minutes=10)
_MAX_TRIAL_DAYS = 730  # Stripe's own bound on trial_period_days


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionTerms:
    """What to subscribe to: one plan or one bundle, by code; `quantity` is seats."""

    plan: str | None = None
    bundle: str | None = None
    currency: str
    interval: str = "month"
    quantity: int = 1
    trial_days: int = 0
    coupon: str | None = None
    payment_method: str | None = None
    # Staff may sell what the public does not see.
    private: bool = False
    # Of the subscription to make: a repeat finds it.
    id: UUID = field(default_factory=new_id)

    def check(self) -> None:
        """Raises InvalidTerms naming the field at fault."""
        if (self.plan is None) == (self.bundle is None):
            raise InvalidTerms("name either a plan or a bundle", field="plan")
        if self.interval not in set(Interval):
            raise InvalidTerms(f"must be one of {', '.join(Interval)}", field="interval")
        if not 1 <= self.quantity <= MAX_SEATS:
            raise InvalidTerms(f"must be 1 to {MAX_SEATS}", field="quantity")
        if not 0 <= self.trial_days <= _MAX_TRIAL_DAYS:
            raise InvalidTerms(f"must be 0 to {_MAX_TRIAL_DAYS}", field="trial_days")


@dataclass(frozen=True, slots=True)
class Created:
    """A new subscription; `client_secret` is for the browser when the customer must act."""

    subscription: ProductSubscription
    client_secret: str | None


def create(context: Context, organization_id: UUID, terms: SubscriptionTerms) -> Created:
    """Subscribe an organization: our row first, then Stripe's subscription by a job that is run here.

    If this process dies in between, a worker goes on with the job and nothing is made twice.
    Raises: InvalidTerms, NotFound, Conflict; Declined when the named card is refused.
    """
    terms.check()
    with context.tenant(organization_id) as unit:
        is_repeat = unit.session.get(ProductSubscription, (organization_id, terms.id)) is not None
    if not is_repeat:
        run_job(context, _begun(context, organization_id, terms))
    with context.tenant(organization_id) as unit:
        started = find(unit, terms.id)
    if started.status == "incomplete_expired":
        why = refusal(context, stripe_key("subscribe", terms.id))
        raise Conflict(f"Stripe refused the subscription: {why}")
    return Created(started, _client_secret(context, started))


def _begun(context: Context, organization_id: UUID, terms: SubscriptionTerms) -> UUID:
    """Store the subscription with the job that starts it. Returns the job's id."""
    with context.tenant(organization_id) as unit:
        _offer(unit, terms)
        coupon = coupons.check(unit, terms.coupon, terms.currency) if terms.coupon else None
    ensure_customer(context, organization_id)
    if terms.payment_method is not None:
        payment_methods.attach(context, organization_id, terms.payment_method, terms.id)
    with context.tenant(organization_id) as unit:
        organization_queries.hold_still(unit.session, organization_id)  # a double click buys once
        subscription = _stored(unit, terms, _offer(unit, terms))
        if coupon is not None:
            coupons.redeem(unit, coupon, subscription)
        job_id = unit.enqueue("subscriptions.start", str(subscription.id), subject_id=subscription.id)
        unit.take_rings()  # run by the caller, who wants Stripe's answer
    assert job_id is not None
    return job_id


def _offer(unit: TenantUnit, terms: SubscriptionTerms) -> Offer:
    if terms.currency != unit.organization.currency:
        raise InvalidTerms(f"the organization is billed in {unit.organization.currency}", field="currency")
    if terms.currency not in unit.settings.supported_currencies:
        raise InvalidTerms("nothing is sold in this currency", field="currency")
    find_offer = sale_queries.bundle_offer if terms.plan is None else sale_queries.plan_offer
    code = str(terms.bundle if terms.plan is None else terms.plan)
    offer = find_offer(unit.session, code, terms.currency, terms.interval, private=terms.private)
    field = "plan" if terms.plan is not None else "bundle"
    if offer is None:
        raise InvalidTerms("is not sold in this currency and interval", field=field)
    if terms.quantity > 1 and all(member.plan.base_charge != "per_seat" for member in offer.members):
        raise InvalidTerms("nothing in it is sold by the seat", field="quantity")
    held = billing_queries.held_products(unit.session, unit.organization.id)
    if doubled := [member.plan.code for member in offer.members if member.plan.product_id in held]:
        raise Conflict(f"the organization subscribes to the product of {doubled[0]} already", field=field)
    if offer.awaits_sync:
        raise Conflict("has not been synced to Stripe yet: run `dunlin stripe sync`", field=field)
    return offer


def _stored(unit: TenantUnit, terms: SubscriptionTerms, offer: Offer) -> ProductSubscription:
    now = unit.now.replace(microsecond=0)  # Stripe counts whole seconds
    trial_end_at = now + timedelta(days=terms.trial_days) if terms.trial_days else None
    anchor_at = trial_end_at or now
    subscription = ProductSubscription(
        organization_id=unit.organization.id,
        id=terms.id,
        product_plan_id=offer.members[0].plan.id if offer.bundle is None else None,
        bundle_id=offer.bundle.id if offer.bundle else None,
        bundle_price_id=offer.bundle_price.id if offer.bundle_price else None,
        currency=terms.currency,
        interval=terms.interval,
        quantity=terms.quantity,
        discount_minor=bundle_moves.sold_discount(offer).minor if offer.bundle else 0,
        status="incomplete",
        started_at=now,
        trial_end_at=trial_end_at,
        anchor_at=anchor_at,
        current_period_start_at=now,
        current_period_end_at=trial_end_at or nth_boundary(now, Interval(terms.interval), 1),
        usage_closed_until_at=now,
        cancel_at_period_end=False,
    )
    unit.session.add(subscription)
    unit.session.flush()
    for position, member in enumerate(offer.members):
        seats = member.plan.base_charge == "per_seat"
        unit.session.add(
            SubscriptionItem(
                organization_id=unit.organization.id,
                subscription_id=subscription.id,
                product_id=member.plan.product_id,
                plan_id=member.plan.id,
                price_id=member.price.id,
                quantity=max(terms.quantity, member.quantity) if seats else 1,
                position=position,
                started_at=now,
            )
        )
    return subscription


@job("subscriptions.start", queue="stripe")
def start(context: Context, claimed: ClaimedJob) -> None:
    """Make the Stripe subscription of our row, once, and record what Stripe made of it."""
    customer_id = ensure_customer(context, claimed.organization)
    tax.ensure_default(context)
    balance.tell(context, claimed.organization)
    with context.tenant(claimed.organization) as unit:
        subscription = find(unit, claimed.subject)
        request = _start_request(unit, subscription, customer_id)
    if subscription.stripe_subscription_id is not None:
        return
    try:
        reply = call(context, request, stripe_key("subscribe", subscription.id), claimed.organization)
    except Refused:
        with context.tenant(claimed.organization) as unit:
            _give_up(unit, find(unit, subscription.id))
        return
    facts = translate.subscription(reply)
    with context.tenant(claimed.organization) as unit:
        record(unit, find(unit, subscription.id), facts)
        if facts.latest_invoice_id is not None:
            unit.enqueue("mirroring.observe_invoice", facts.latest_invoice_id, subject_id=subscription.id)


def _give_up(unit: TenantUnit, subscription: ProductSubscription) -> None:
    """Stripe will not have it: it never began, holds no product, and has used up no coupon."""
    subscription.status, subscription.ended_at = SubscriptionStatus.incomplete_expired.value, unit.now
    for billed in billing_queries.billed_items(unit.session, unit.organization.id, subscription.id):
        billed.item.ended_at = max(billed.item.started_at, unit.now)
    coupons.give_back(unit, subscription)


def _start_request(unit: TenantUnit, subscription: ProductSubscription, customer_id: str) -> requests.Request:
    billed = billing_queries.billed_items(unit.session, unit.organization.id, subscription.id)
    items: list[requests.Item] = [
        {
            "price": str(each.price.stripe_price_id),
            "quantity": each.item.quantity,
            "metadata": {"item_id": str(each.item.id)},
        }
        for each in billed
    ]
    has_card = any(
        card.is_default for card in billing_queries.payment_methods(unit.session, unit.organization.id)
    )
    rate = tax.rate_for(unit)
    return requests.create_subscription(
        customer_id,
        items,
        metadata={"subscription_id": str(subscription.id), "organization_id": str(unit.organization.id)},
        discounts=coupons.stripe_discounts(unit, subscription, subscription.started_at),
        default_tax_rates=tax.stripe_ids(unit, rate.id if rate else None),
        trial_end=int(subscription.trial_end_at.timestamp()) if subscription.trial_end_at else None,
        payment_behavior="allow_incomplete" if has_card else "default_incomplete",
        off_session=has_card,
    )


def record(unit: TenantUnit, subscription: ProductSubscription, facts: SubscriptionFacts) -> None:
    """Bring our row in step with what Stripe says now; a stale step back is ignored by the lifecycle."""
    if subscription.stripe_subscription_id is None:
        _record_start(unit, subscription, facts)
    trials.follow(unit, subscription, facts)
    current = SubscriptionStatus(subscription.status)
    subscription.status = move(
        SUBSCRIPTION_MOVES, current, from_stripe_subscription_status(facts.status)
    ).value
    if subscription.status == SubscriptionStatus.incomplete_expired:
        coupons.give_back(unit, subscription)
    subscription.cancel_at_period_end = facts.cancel_at_period_end or facts.cancel_at is not None
    subscription.cancelled_at = facts.cancelled_at
    if facts.ended_at is not None:
        _record_end(unit, subscription, facts.ended_at)
    else:
        _record_period(unit, subscription, facts)


def _record_start(unit: TenantUnit, subscription: ProductSubscription, facts: SubscriptionFacts) -> None:
    period_start_at = facts.period_start_at
    assert period_start_at is not None, "a subscription of ours has items"
    started_at = facts.trial_start_at or period_start_at
    subscription.stripe_subscription_id = facts.id
    subscription.started_at = subscription.usage_closed_until_at = started_at
    subscription.trial_end_at = facts.trial_end_at
    subscription.anchor_at = facts.anchor_at
    subscription.current_period_start_at = started_at
    trials.plan_reminder(unit, subscription)
    by_price = {item.price_id: item for item in facts.items}
    for billed in billing_queries.billed_items(unit.session, unit.organization.id, subscription.id):
        billed.item.started_at = started_at
        billed.item.stripe_item_id = by_price[str(billed.price.stripe_price_id)].id
        # Usage that came before there was a subscription waits in quarantine.
        unit.enqueue("usage.redrive", str(billed.item.id), subject_id=billed.item.product_id)


@job("subscriptions.remind_trial_end", queue="ops")
def remind_trial_end(context: Context, claimed: ClaimedJob) -> None:
    """Tell the customer that a trial ends soon, and whether a card is there to go on with."""
    with context.tenant(claimed.organization) as unit:
        subscription = unit.session.get_one(ProductSubscription, (claimed.organization, claimed.subject))
        ends_at = subscription.trial_end_at
        if subscription.status != "trialing" or ends_at is None or ends_at - unit.now > trials.REMINDER:
            return  # the last: it was made longer
        cards = billing_queries.payment_methods(unit.session, claimed.organization)
        content = {
            "subscription_id": str(subscription.id),
            "trial_end": ends_at.isoformat(),
            "has_card": any(card.is_default for card in cards),
        }
        notifications.write(unit, "trial.ending", f"{subscription.id}:{_stamp(ends_at)}", content)


def _record_period(unit: TenantUnit, subscription: ProductSubscription, facts: SubscriptionFacts) -> None:
    start_at, end_at = facts.period_start_at, facts.period_end_at
    if subscription.anchor_at < facts.anchor_at == start_at:
        subscription.anchor_at = facts.anchor_at  # a pause has ended: the periods count anew
    if start_at is None or end_at is None or start_at < subscription.current_period_start_at:
        return
    if start_at > subscription.current_period_start_at and end_at == subscription.current_period_end_at:
        return  # Stripe has been told of the shorter interval that begins when this period ends
    subscription.current_period_start_at, subscription.current_period_end_at = start_at, end_at
    subscription.interval = change_queries.interval_at(unit.session, subscription, start_at).value
    # Should the webhook of the draft be lost, this finds the draft.
    unit.enqueue(
        "invoicing.close_period",
        f"{subscription.id}:{_stamp(end_at)}",
        subject_id=subscription.id,
        due_at=end_at + _UNTOLD,
    )


def _record_end(unit: TenantUnit, subscription: ProductSubscription, ended_at: datetime) -> None:
    if subscription.ended_at is not None:
        return
    subscription.ended_at = ended_at
    for billed in billing_queries.billed_items(unit.session, unit.organization.id, subscription.id):
        billed.item.ended_at = billed.item.ended_at or ended_at
    unit.enqueue("invoicing.close_final_period", str(subscription.id), subject_id=subscription.id)
    unit.enqueue("dunning.stop", str(subscription.id), subject_id=subscription.id)


def find(unit: TenantUnit, subscription_id: UUID) -> ProductSubscription:
    """The organization's subscription. Raises NotFound."""
    found = unit.session.get(ProductSubscription, (unit.organization.id, subscription_id))
    if found is None:
        raise NotFound("no such subscription")
    return found


def observe(context: Context, organization_id: UUID, facts: SubscriptionFacts) -> None:
    """Apply Stripe's present state of a subscription. The caller holds the organization's lock."""
    with context.tenant(organization_id) as unit:
        subscription = billing_queries.subscription_by_stripe_id(unit.session, organization_id, facts.id)
        # A webhook may come before the reply of our own call: the metadata names our row.
        if subscription is None and "subscription_id" in facts.metadata:
            subscription = find(unit, UUID(facts.metadata["subscription_id"]))
        if subscription is None:
            log.warning("Stripe's subscription %s is none of ours; reconciliation will show it", facts.id)
            return
        record(unit, subscription, facts)


def _client_secret(context: Context, subscription: ProductSubscription) -> str | None:
    """What the browser needs to confirm a first payment or save a card; fetched, never stored.

    None, too, while Stripe does not answer: the subscription is made, and a failure's repeat would find it.
    """
    stripe_id, first = subscription.stripe_subscription_id, subscription.status == "incomplete"
    if stripe_id is None:
        return None
    try:
        expand = "latest_invoice.confirmation_secret" if first else "pending_setup_intent"
        fetched = context.gateway.fetch("subscription", stripe_id, [expand])
    except (Throttled, Unreachable):
        return None
    if first:
        secret = (fetched.get("latest_invoice") or {}).get("confirmation_secret") or {}
        return secret.get("client_secret")
    return (fetched.get("pending_setup_intent") or {}).get("client_secret")


def _stamp(at: datetime) -> str:
    return at.strftime(_STAMP)


def boundary_of(claimed: ClaimedJob) -> datetime:
    """The end of the period that a job to close it is about."""
    return datetime.strptime(claimed.unique_key.rpartition(":")[2], _STAMP).replace(tzinfo=UTC)
