"""The lines of an invoice: recurring charges in advance, usage in arrears, late usage as adjustments."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

from billing.allowances import terms_over
from billing.exact import exact_text
from billing.invoicing import DraftLine, InvoiceDraft, LineKind
from billing.keys import line_id, line_key
from billing.metering import Aggregation, UsageFact, aggregate
from billing.money import Money
from billing.periods import Period
from billing.rating import ChargeTerms, Rating, rate
from models import billing_queries, change_queries, usage_billing
from models.billing_queries import BilledItem, MeteredCharge
from models.invoices import Invoice
from models.subscriptions import ProductSubscription, SubscriptionItem
from models.usage_billing import UsageWindow
from tasks.context import TenantUnit


@dataclass(frozen=True, slots=True)
class RatedLine:
    """A line with the rows that it comes from."""

    draft: DraftLine
    item_id: UUID
    product_id: UUID
    meter_id: UUID | None = None


def recurring_lines(unit: TenantUnit, subscription: ProductSubscription, period: Period) -> list[RatedLine]:
    """What the subscription charges in advance for `period`: one line per item."""
    billed = billing_queries.billed_items(unit.session, unit.organization.id, subscription.id)
    return [_recurring_line(each, period) for each in billed if _is_live(each.item, period.start)]


def _is_live(item: SubscriptionItem, at: datetime) -> bool:
    return item.started_at <= at and (item.ended_at is None or at < item.ended_at)


def change_lines(unit: TenantUnit, subscription: ProductSubscription, invoice: Invoice) -> list[RatedLine]:
    """Credits and charges of changes made before the invoice's period ended; it takes them, no other does."""
    lines = []
    pending = change_queries.pending_charges(
        unit.session, unit.organization.id, subscription.id, invoice.period_end_at
    )
    for charge in pending:
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


def note_debits(unit: TenantUnit, rated: list[RatedLine], built: InvoiceDraft) -> None:
    """Remember on each item what its recurring line really charged, for a change in mid-period."""
    for line, source in zip(built.lines, rated, strict=True):
        if line.kind in (LineKind.recurring, LineKind.seats):
            item = unit.session.get_one(SubscriptionItem, (unit.organization.id, source.item_id))
            item.debited_minor = line.net.minor
            item.debited_from_at, item.debited_until_at = line.period.start, line.period.end


def _recurring_line(billed: BilledItem, period: Period) -> RatedLine:
    seats = billed.plan.base_charge == "per_seat"
    quantity = Fraction(billed.item.quantity if seats else 1)
    price = Money(billed.price.amount_minor, billed.price.currency)
    draft = DraftLine(
        key=line_key("recurring", billed.item.id, period.start),
        kind=LineKind.seats if seats else LineKind.recurring,
        description=f"{billed.product.name} {billed.plan.name}",
        amount=price.scaled(quantity),
        quantity=quantity,
        unit_price=Fraction(price.minor),
        period=period,
        product=str(billed.product.id),
        explanation={**_plan_record(billed), "terms": None, "interval": billed.price.interval},
    )
    return RatedLine(draft, billed.item.id, billed.product.id)


def trial_lines(unit: TenantUnit, subscription: ProductSubscription, period: Period) -> list[RatedLine]:
    """A line per item that says the trial costs nothing."""
    lines = recurring_lines(unit, subscription, period)
    free = Money.zero(subscription.currency)
    return [
        RatedLine(
            DraftLine(
                key=line.draft.key,
                kind=line.draft.kind,
                description=f"{line.draft.description} (free trial)",
                amount=free,
                quantity=line.draft.quantity,
                unit_price=Fraction(0),
                period=period,
                product=line.draft.product,
                explanation={**line.draft.explanation, "trial": True},
            ),
            line.item_id,
            line.product_id,
        )
        for line in lines
    ]


def usage_lines(
    unit: TenantUnit, subscription: ProductSubscription, invoice: Invoice, period: Period
) -> list[RatedLine]:
    """Rate the waiting usage of `period`; each record is taken by its line. No record, no line."""
    lines = []
    for billed in billing_queries.billed_items(unit.session, unit.organization.id, subscription.id):
        for metered in billing_queries.metered_charges(unit.session, billed.plan.id, subscription.currency):
            line = _usage_line(unit, invoice, _Metered(subscription, billed, metered, period))
            if line is not None:
                lines.append(line)
    return lines


def late_lines(unit: TenantUnit, subscription: ProductSubscription, invoice: Invoice) -> list[RatedLine]:
    """Adjustments for usage that came after its period was invoiced.

    Each is the whole period rated again, less what its lines charged: exact for every charge model,
    and priced at the plan version that the item had then.
    """
    items = {
        billed.item.id: billed
        for billed in billing_queries.billed_items(unit.session, unit.organization.id, subscription.id)
    }
    lines = []
    for group in usage_billing.late_groups(unit.session, unit.organization.id, subscription.id):
        billed = items[group.item_id]
        charges = billing_queries.metered_charges(unit.session, billed.plan.id, subscription.currency)
        metered = next(charge for charge in charges if charge.meter.id == group.meter_id)
        period = Period(group.period_start_at, group.period_end_at)
        lines.append(_late_line(unit, invoice, _Metered(subscription, billed, metered, period)))
    return lines


@dataclass(frozen=True, slots=True)
class _Metered:
    subscription: ProductSubscription
    billed: BilledItem
    metered: MeteredCharge
    period: Period

    @property
    def window(self) -> UsageWindow:
        return UsageWindow(
            self.subscription.organization_id,
            self.subscription.id,
            self.billed.item.id,
            self.metered.meter.id,
            self.period.start,
            self.period.end,
        )

    @property
    def terms(self) -> ChargeTerms:
        """The price that counts; usage inside a trial is metered, shown, and free."""
        if self.in_trial:
            return ChargeTerms.from_record({"model": "per_unit", "currency": self.subscription.currency})
        monthly = ChargeTerms.from_record(self.metered.charge.terms)
        terms = terms_over(monthly, self.subscription.interval, self.metered.meter.aggregation)
        return terms if self.share == 1 else terms.scaled(self.share)

    @property
    def share(self) -> Fraction:
        """The part of the period in which the plan was held: a change in mid-period splits the allowance.

        A period that ends early with its subscription is whole: nobody held another plan in it.
        """
        if self.period.seconds == 0:
            return Fraction(1)
        held_from = max(self.billed.item.started_at, self.period.start)
        held_until = min(self.billed.item.ended_at or self.period.end, self.period.end)
        return Period(held_from, held_until).seconds / self.period.seconds

    @property
    def in_trial(self) -> bool:
        trial_end_at = self.subscription.trial_end_at
        return trial_end_at is not None and self.period.end <= trial_end_at

    def key(self, kind: str) -> str:
        return line_key(kind, self.billed.item.id, self.metered.meter.code, self.period.start)


def _usage_line(unit: TenantUnit, invoice: Invoice, usage: _Metered) -> RatedLine | None:
    key = usage.key("usage")
    if not usage_billing.take(unit.session, usage.window, line_id(unit.organization.id, invoice.id, key)):
        return None
    count, quantity = _quantity(unit, usage)
    rating = rate(quantity, usage.terms)
    suffix = " (free trial)" if usage.in_trial else ""
    return RatedLine(
        DraftLine(
            key=key,
            kind=LineKind.usage,
            description=f"{usage.billed.product.name}: {usage.metered.meter.name}{suffix}",
            amount=rating.amount,
            quantity=quantity,
            unit_price=_single_price(rating),
            period=usage.period,
            product=str(usage.billed.product.id),
            discountable=False,
            explanation=_usage_record(usage, rating, count),
        ),
        usage.billed.item.id,
        usage.billed.product.id,
        usage.metered.meter.id,
    )


def _late_line(unit: TenantUnit, invoice: Invoice, usage: _Metered) -> RatedLine:
    key = usage.key("late")
    this_id = line_id(unit.organization.id, invoice.id, key)
    came = usage_billing.take(unit.session, usage.window, this_id)
    count, quantity = _quantity(unit, usage)
    billed_minor, line_ids = usage_billing.billed(unit.session, usage.window, this_id)
    rating = rate(quantity, usage.terms)
    explanation = _usage_record(usage, rating, count)
    explanation["adjusts"] = {
        "period_start": _instant(usage.period.start),
        "period_end": _instant(usage.period.end),
        "billed_minor": billed_minor,
        "line_ids": [str(each) for each in line_ids],
        "late_events": came,
    }
    return RatedLine(
        DraftLine(
            key=key,
            kind=LineKind.adjustment,
            description=f"{usage.billed.product.name}: late {usage.metered.meter.name.lower()}",
            amount=rating.amount - Money(billed_minor, usage.subscription.currency),
            quantity=Fraction(came),
            unit_price=None,
            period=usage.period,
            product=str(usage.billed.product.id),
            discountable=False,
            explanation=explanation,
        ),
        usage.billed.item.id,
        usage.billed.product.id,
        usage.metered.meter.id,
    )


def _quantity(unit: TenantUnit, usage: _Metered) -> tuple[int, Fraction]:
    """How many records, and the quantity that the meter makes of them."""
    aggregation = Aggregation(usage.metered.meter.aggregation)
    count, total = usage_billing.totals(unit.session, usage.window)
    # Postgres adds exactly, and does it without the rows leaving it.
    if aggregation is Aggregation.sum:
        return count, _exact(total)
    if aggregation is Aggregation.count:
        return count, Fraction(count)
    rows = usage_billing.facts(unit.session, usage.window, usage.metered.meter.unique_property)
    facts = (UsageFact(_exact(quantity), at, key, value) for quantity, at, key, value in rows)
    return count, aggregate(aggregation, facts, usage.period)


def _exact(number: Decimal) -> Fraction:
    return Fraction(number)


def _single_price(rating: Rating) -> Fraction | None:
    """The price to print on the line, when one price alone explains it."""
    priced = [step for step in rating.steps if step.amount]
    # A top-up to a minimum is one step too, and no price of a unit.
    alone = len(priced) == 1 and priced[0].quantity == rating.billable
    return priced[0].unit_price if alone else None


def _plan_record(billed: BilledItem) -> dict[str, Any]:
    return {"plan": {"code": billed.plan.code, "version": billed.plan.version}}


def _usage_record(usage: _Metered, rating: Rating, count: int) -> dict[str, Any]:
    return {
        **_plan_record(usage.billed),
        "meter": usage.metered.meter.code,
        "aggregation": usage.metered.meter.aggregation,
        "terms": usage.terms.to_record(),
        "rating": rating.to_record(),
        "facts": count,
        "trial": usage.in_trial,
        "share": exact_text(usage.share),
    }


def _instant(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
