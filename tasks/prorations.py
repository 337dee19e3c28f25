"""Prorations as Stripe has them: those of our own changes are found, those of a person's are taken in.

A change of ours computes its own credit and charge, which Stripe's must equal. A change that a person
makes in Stripe's dashboard is known by what Stripe made of it: those amounts are Stripe's, and their
lines say so.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from uuid import UUID

from billing.invoicing import DraftLine, LineKind
from billing.keys import line_key
from billing.money import Money
from billing.periods import Period
from gateway import translate
from gateway.translate import InvoiceFacts, ProrationFacts
from models import billing_queries, change_queries
from models.billing_queries import BilledItem
from models.catalog import PlanPrice, ProductPlan
from models.invoices import Invoice
from models.subscriptions import PendingCharge, ProductSubscription
from tasks.context import Context, TenantUnit
from tasks.rating import RatedLine

_STRIPES = "stripe"


@dataclass(frozen=True, slots=True)
class Taken:
    """Our charges behind Stripe's prorations.

    `foreign` are the prorations of changes that a person made; `unknown` those of nothing that we sell.
    """

    charges: list[PendingCharge]
    foreign: list[ProrationFacts]
    unknown: list[ProrationFacts]


def waiting(context: Context, customer_id: str, stripe_subscription_id: str) -> list[ProrationFacts]:
    """The prorations that wait at Stripe for a subscription's next invoice."""
    listed = context.gateway.list("invoice_item", {"customer": customer_id, "pending": True})
    read = map(translate.waiting_proration, listed)
    return [each for owner, each in read if each is not None and owner == stripe_subscription_id]


def on_invoice(facts: InvoiceFacts) -> list[ProrationFacts]:
    """The prorations on one of Stripe's invoices."""
    return translate.prorations_of(facts.lines, facts.currency)


def take_in(unit: TenantUnit, subscription: ProductSubscription, found: Sequence[ProrationFacts]) -> Taken:
    """Find the charge of each proration, and make those that are of a person's change. Repeatable.

    One that names a change of ours is never taken in, whatever its amount: should the amounts differ, the
    totals will, and the invoice is parked.
    """
    billed = billing_queries.billed_items(unit.session, unit.organization.id, subscription.id)
    known = change_queries.all_charges(unit.session, unit.organization.id, subscription.id)
    by_key = {charge.key: charge for charge in known}
    prices = {each.item.id: each.price.stripe_price_id for each in billed}
    own = [charge for charge in known if not _is_stripes(charge)]
    taken = Taken([], [], [])
    for facts in sorted(found, key=lambda each: (each.period_start_at, each.amount_minor)):
        charge = by_key.get(line_key(_STRIPES, facts.id)) or _pair(own, prices, facts)
        charge = charge or _taken_in(unit, subscription, billed, facts)
        if charge is None:
            taken.unknown.append(facts)
            continue
        taken.charges.append(charge)
        if _is_stripes(charge):
            taken.foreign.append(facts)
    unit.session.flush()
    return taken


def _is_stripes(charge: PendingCharge) -> bool:
    return charge.key.startswith(f"{_STRIPES}:")


def _pair(
    own: list[PendingCharge], prices: dict[UUID, str | None], facts: ProrationFacts
) -> PendingCharge | None:
    """The charge of our own change that this is; each is paired once."""
    wanted = _name(facts.price_id, facts.amount_minor, facts.period_start_at)
    named = [
        charge
        for charge in own
        if _name(prices.get(charge.item_id), charge.amount_minor, charge.period_start_at) == wanted
    ]
    if not named:
        return None
    # Two changes within a second leave two of one name.
    charge = min(named, key=lambda each: each.amount_minor != facts.amount_minor)
    own.remove(charge)
    record = charge.explanation.get("proration") or {}
    charge.explanation = {**charge.explanation, "proration": {**record, "stripe_invoice_item": facts.id}}
    return charge


def _name(price_id: str | None, amount_minor: int, changed_at: datetime) -> tuple[str | None, bool, datetime]:
    """A change leaves a credit and a charge, at one instant."""
    return price_id, amount_minor < 0, changed_at.astimezone(UTC)


def _taken_in(
    unit: TenantUnit,
    subscription: ProductSubscription,
    billed: Sequence[BilledItem],
    facts: ProrationFacts,
) -> PendingCharge | None:
    sold = change_queries.plan_by_stripe_price(unit.session, facts.price_id) if facts.price_id else None
    of = _item(billed, facts)
    if sold is None or of is None or facts.currency != subscription.currency:
        return None
    charge = PendingCharge(
        organization_id=unit.organization.id,
        subscription_id=subscription.id,
        key=line_key(_STRIPES, facts.id),
        item_id=of.item.id,
        product_id=of.product.id,
        description=f"{facts.description or of.product.name} (changed at Stripe)",
        quantity=max(facts.quantity, 1),
        currency=facts.currency,
        amount_minor=facts.amount_minor,
        period_start_at=facts.period_start_at,
        period_end_at=facts.period_end_at,
        explanation=_explanation(sold, facts),
    )
    unit.session.add(charge)
    return charge


def _item(billed: Sequence[BilledItem], facts: ProrationFacts) -> BilledItem | None:
    """The stretch of terms that is credited or charged: of this price, else this item, else this product."""
    same_item = [each for each in billed if each.item.stripe_item_id == facts.subscription_item_id]
    same_price = [each for each in billed if each.price.stripe_price_id == facts.price_id]
    same_product = [each for each in billed if each.product.stripe_product_id == facts.product_id]
    both = [each for each in same_price if each in same_item]
    for found in (both, same_price, same_item, same_product):
        if found:
            return max(found, key=lambda each: each.item.started_at)
    return None


def _explanation(sold: tuple[ProductPlan, PlanPrice], facts: ProrationFacts) -> dict[str, object]:
    plan, price = sold
    return {
        "plan": {"code": plan.code, "version": plan.version},
        "terms": None,
        "proration": {
            "by": "a person, at Stripe: the amount is Stripe's",
            "stripe_invoice_item": facts.id,
            "stripe_price": price.stripe_price_id,
            "seconds_left": int((facts.period_end_at - facts.period_start_at).total_seconds()),
        },
    }


def change_lines(
    unit: TenantUnit,
    subscription: ProductSubscription,
    invoice: Invoice,
    there: Sequence[PendingCharge] = (),
) -> list[RatedLine]:
    """Credits and charges of changes made before the invoice's period ended; it takes them, no other does.

    `there` are those that stand on Stripe's invoice already, of whatever instant.
    """
    due = change_queries.pending_charges(
        unit.session, unit.organization.id, subscription.id, invoice.period_end_at
    )
    return taken_lines(invoice, [*due, *(charge for charge in there if charge not in due)])


def taken_lines(invoice: Invoice, charges: Sequence[PendingCharge]) -> list[RatedLine]:
    """A line for each charge that no invoice has taken; this one takes them."""
    lines = []
    for charge in charges:
        if charge.invoice_id is not None:
            continue
        charge.invoice_id = invoice.id
        draft = DraftLine(
            key=line_key("change", charge.key),
            kind=LineKind.proration,
            description=charge.description,
            amount=Money(charge.amount_minor, charge.currency),
            quantity=Fraction(charge.quantity),
            unit_price=None,
            period=Period(charge.period_start_at, charge.period_end_at),
            product=str(charge.product_id),
            # Stripe, too, takes discounts into account when it prorates, and not again on the line.
            discountable=False,
            explanation=charge.explanation,
        )
        lines.append(RatedLine(draft, charge.item_id, charge.product_id))
    return lines
