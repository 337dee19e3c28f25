"""A subscription that a person changed in Stripe's dashboard: our items follow where that is safe.

An item follows when its price is one that we sell in the subscription's currency and interval, and
nothing else bills its product. Anything else is left as it is: the next invoice then differs from our
figure, is parked with both, and nobody is charged.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from gateway import translate
from gateway.translate import InvoiceFacts, ProrationFacts, SubscriptionFacts, SubscriptionItemFacts
from models import billing_queries, change_queries
from models.catalog import PlanPrice, ProductPlan
from models.subscriptions import ProductSubscription, SubscriptionItem
from models.together import LiveTerms
from tasks import prorations
from tasks.context import Context, TenantUnit

log = logging.getLogger("dunlin.following")


def follow(
    context: Context, organization_id: UUID, facts: SubscriptionFacts, draft: InvoiceFacts | None = None
) -> None:
    """Bring the items in step with Stripe's. The caller holds the organization's lock.

    `draft` is the invoice that is about to be rated: what it shows was so when its period began, even if
    every word of the change was lost.
    """
    with context.tenant(organization_id) as unit:
        subscription = _followed(unit, facts)
        if subscription is None or not _differ(unit, subscription, facts):
            return
        if draft is None and subscription.current_period_start_at > subscription.usage_closed_until_at:
            return  # a period is being closed: its draft will say what was so at its boundary
        customer_id = str(unit.organization.stripe_customer_id)
    facts_items = _items(context, facts)
    found = prorations.waiting(context, customer_id, facts.id)
    if draft is not None:
        found += prorations.on_invoice(draft)
    with context.tenant(organization_id) as unit:
        subscription = _followed(unit, facts)
        assert subscription is not None, "the organization's lock is held"
        taken = prorations.take_in(unit, subscription, found)
        _Follower(unit, subscription, taken.foreign, draft).follow(facts_items)


def _followed(unit: TenantUnit, facts: SubscriptionFacts) -> ProductSubscription | None:
    subscription = billing_queries.subscription_by_stripe_id(unit.session, unit.organization.id, facts.id)
    if subscription is None or subscription.ended_at is not None or facts.ended_at is not None:
        return None
    if change_queries.has_unfinished_change(unit.session, unit.organization.id, subscription.id, unit.now):
        return None  # a change of ours is on its way, and this is perhaps its echo
    return subscription


def _differ(unit: TenantUnit, subscription: ProductSubscription, facts: SubscriptionFacts) -> bool:
    live = change_queries.live_items(unit.session, unit.organization.id, subscription.id)
    return not is_in_step(
        ((item.stripe_item_id, _stripe_price(unit, item), item.quantity) for item in live), facts
    )


def is_in_step(live: Iterable[LiveTerms], facts: SubscriptionFacts) -> bool:
    """Whether Stripe's items are ours: by its ids of item and price, and the quantity."""
    return set(live) == {(each.id, each.price_id, each.quantity) for each in facts.items}


def _items(context: Context, facts: SubscriptionFacts) -> Sequence[SubscriptionItemFacts]:
    """All of its items: an item that is merely on the next page was not taken out."""
    if facts.items_complete:
        return facts.items
    listed = context.gateway.list("subscription_item", {"subscription": facts.id})
    return [translate.subscription_item(each, each) for each in listed]


def _stripe_price(unit: TenantUnit, item: SubscriptionItem) -> str | None:
    return change_queries.priced_plan(unit.session, item.price_id)[1].stripe_price_id


@dataclass(frozen=True, slots=True)
class _Step:
    """Terms that an item had from an instant on; `charge` is what Stripe asked for the rest of the period."""

    at: datetime
    price_id: str
    quantity: int
    charge: ProrationFacts | None = None


@dataclass(frozen=True, slots=True)
class _Follower:
    """One subscription on its way to what Stripe has."""

    unit: TenantUnit
    subscription: ProductSubscription
    foreign: Sequence[ProrationFacts]
    draft: InvoiceFacts | None

    def follow(self, found: Sequence[SubscriptionItemFacts]) -> None:
        live = change_queries.live_items(self.unit.session, self.unit.organization.id, self.subscription.id)
        ours = {item.stripe_item_id: item for item in live}
        # What was taken out first: its product may have come back by another item.
        for stripe_id in ours.keys() - {each.id for each in found}:
            self._remove(ours[stripe_id])
        for theirs in found:
            item = ours.get(theirs.id)
            if item is None:
                self._add(theirs)
            elif (_stripe_price(self.unit, item), item.quantity) != (theirs.price_id, theirs.quantity):
                for step in self._steps(theirs, item.started_at):
                    item = self._change(item, step) or item
        self._restate()
        log.warning("subscription %s follows a change that a person made at Stripe", self.subscription.id)

    def _steps(self, theirs: SubscriptionItemFacts, since: datetime) -> list[_Step]:
        """The terms that it went through since an instant, as their prorations tell, up to those of now."""
        charged = [
            _Step(each.period_start_at, str(each.price_id), each.quantity, each)
            for each in self.foreign
            if each.subscription_item_id == theirs.id
            and each.amount_minor >= 0
            and each.period_start_at > since
        ]
        charged.sort(key=lambda step: step.at)
        if charged and (charged[-1].price_id, charged[-1].quantity) == (theirs.price_id, theirs.quantity):
            return charged
        return [*charged, _Step(self._unsaid(theirs), theirs.price_id, theirs.quantity)]

    def _unsaid(self, theirs: SubscriptionItemFacts | None, stripe_id: str | None = None) -> datetime:
        """When a change without proration was made: now, or before a draft that shows it already."""
        now = self.unit.now.replace(microsecond=0)
        if self.draft is None:
            return now
        name = theirs.id if theirs else stripe_id
        lines = [
            line for line in self.draft.lines if line.subscription_item_id == name and not line.proration
        ]
        terms = theirs and (theirs.price_id, theirs.quantity)
        shown = {(line.price_id, line.quantity) for line in lines}
        shows = terms in shown if theirs else not shown
        return min(now, self.draft.period_end_at) if shows else now

    def _clamped(self, at: datetime, since: datetime) -> datetime:
        """Never before what has been billed, nor after now."""
        return min(max(at, since, self.subscription.usage_closed_until_at), self.unit.now)

    def _remove(self, item: SubscriptionItem) -> None:
        credited = [
            each.period_start_at
            for each in self.foreign
            if each.subscription_item_id == item.stripe_item_id and each.period_start_at > item.started_at
        ]
        at = max(credited, default=self._unsaid(None, item.stripe_item_id))
        item.ended_at = max(item.started_at, self._clamped(at, item.started_at))
        self.unit.session.flush()

    def _add(self, theirs: SubscriptionItemFacts) -> None:
        made_at = theirs.created_at or self._unsaid(theirs)
        first, *later = self._steps(theirs, datetime.min.replace(tzinfo=made_at.tzinfo))
        at = self._clamped(first.at if first.charge else made_at, self.subscription.started_at)
        sold = self._sold(first, None)
        if sold is None:
            return
        plan, price = sold
        live = change_queries.live_items(self.unit.session, self.unit.organization.id, self.subscription.id)
        item = self._stretch(plan, price, first, at)
        item.position = max((each.position for each in live), default=-1) + 1
        item.stripe_item_id = theirs.id
        self.unit.session.add(item)
        self.unit.session.flush()
        # Usage that came before there was an item for it waits in quarantine.
        self.unit.enqueue("usage.redrive", str(item.id), subject_id=item.product_id)
        for step in later:
            item = self._change(item, step) or item

    def _change(self, item: SubscriptionItem, step: _Step) -> SubscriptionItem | None:
        """End the stretch that was, and begin the next. None for terms that we cannot bill."""
        sold = self._sold(step, item.product_id)
        if sold is None:
            return None
        plan, price = sold
        at = self._clamped(step.at, item.started_at)
        if at <= item.started_at:  # planned, or begun this very second
            item.product_id, item.plan_id, item.price_id = plan.product_id, plan.id, price.id
            item.quantity = step.quantity
            self.unit.session.flush()
            return item
        new = self._stretch(plan, price, step, at)
        new.position, new.stripe_item_id = item.position, item.stripe_item_id
        if step.charge is None:
            new.debited_minor = item.debited_minor
            new.debited_from_at, new.debited_until_at = item.debited_from_at, item.debited_until_at
        item.ended_at = at
        self.unit.session.flush()
        self.unit.session.add(new)
        self.unit.session.flush()
        if new.product_id == item.product_id:
            change_queries.attribute_usage(self.unit.session, item, new)
        # The new plan may bill what the old one had no price for.
        self.unit.enqueue("usage.redrive", str(new.id), subject_id=new.product_id)
        return new

    def _stretch(self, plan: ProductPlan, price: PlanPrice, step: _Step, at: datetime) -> SubscriptionItem:
        charge = step.charge
        return SubscriptionItem(
            organization_id=self.unit.organization.id,
            subscription_id=self.subscription.id,
            product_id=plan.product_id,
            plan_id=plan.id,
            price_id=price.id,
            quantity=step.quantity,
            started_at=at,
            # A later change gives back the unused part of what was charged last.
            debited_minor=charge.amount_minor if charge else 0,
            debited_from_at=charge.period_start_at if charge else None,
            debited_until_at=charge.period_end_at if charge else None,
        )

    def _sold(self, step: _Step, instead_of: UUID | None) -> tuple[ProductPlan, PlanPrice] | None:
        """What terms sell, when this subscription can have them; `instead_of` is the product that it has."""
        sold = change_queries.plan_by_stripe_price(self.unit.session, step.price_id)
        terms = (self.subscription.currency, self.subscription.interval)
        if sold is None or (sold[1].currency, sold[1].interval) != terms:
            log.error("price %s at Stripe is none that this subscription can have", step.price_id)
            return None
        if step.quantity != 1 and sold[0].base_charge != "per_seat":
            log.error("price %s at Stripe has no seats, and quantity %d", step.price_id, step.quantity)
            return None
        held = billing_queries.held_products(self.unit.session, self.unit.organization.id)
        if sold[0].product_id != instead_of and sold[0].product_id in held:
            log.error("price %s at Stripe is of a product that is billed already", step.price_id)
            return None
        return sold

    def _restate(self) -> None:
        """A subscription of one item is one to its plan; of several, the items alone say what it is."""
        live = change_queries.live_items(self.unit.session, self.unit.organization.id, self.subscription.id)
        if self.subscription.bundle_id is None and live:
            alone = live[0] if len(live) == 1 else None
            self.subscription.product_plan_id = alone.plan_id if alone else None
            self.subscription.quantity = alone.quantity if alone else self.subscription.quantity
        self.unit.session.flush()
