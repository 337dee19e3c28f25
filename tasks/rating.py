"""The lines of an invoice: recurring charges in advance, usage in arrears, late usage as adjustments."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from fractions import Fraction
from typing import Any
from uuid import UUID

from billing.exact import exact_text
from billing.groups import GroupedTerms, read_match
from billing.invoicing import DraftLine, InvoiceDraft, LineKind
from billing.keys import line_id, line_key
from billing.metering import Aggregation, UsageFact, aggregate
from billing.money import Money
from billing.periods import Period
from billing.rating import ChargeTerms, Rating, rate
from billing.usage import Counted, Holding, MeterRules, RatedGroup, held_share, rate_groups
from models import billing_queries, usage_billing
from models.billing_queries import BilledItem, MeteredCharge
from models.catalog import Meter
from models.closing_queries import Sold
from models.invoices import Invoice
from models.subscriptions import ProductSubscription, SubscriptionItem
from models.usage_billing import Billed, Taken, UsageWindow
from tasks.context import TenantUnit

# A line names this many of the corrections that it has taken; the explanation's pages show all.
_MOST_CAUSES = 100


@dataclass(frozen=True, slots=True)
class RatedLine:
    """A line with the rows that it comes from."""

    draft: DraftLine
    item_id: UUID
    product_id: UUID
    meter_id: UUID | None = None


def recurring_lines(items: Sequence[BilledItem], period: Period) -> list[RatedLine]:
    """What a subscription charges in advance for `period`: one line per item."""
    return [_recurring_line(each, period) for each in items if is_live(each.item, period.start)]


def is_live(item: SubscriptionItem, at: datetime) -> bool:
    """Whether a stretch of terms holds at an instant."""
    return item.started_at <= at and (item.ended_at is None or at < item.ended_at)


def note_debits(items: Sequence[BilledItem], rated: list[RatedLine], built: InvoiceDraft) -> None:
    """Remember on each item what its recurring line really charged, for a change in mid-period."""
    by_id = {billed.item.id: billed.item for billed in items}
    for line, source in zip(built.lines, rated, strict=True):
        if line.kind in (LineKind.recurring, LineKind.seats):
            item = by_id[source.item_id]
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


def trial_lines(items: Sequence[BilledItem], period: Period) -> list[RatedLine]:
    """A line per item that says the trial costs nothing."""
    return [
        RatedLine(
            DraftLine(
                key=line.draft.key,
                kind=line.draft.kind,
                description=f"{line.draft.description} (free trial)",
                amount=Money.zero(line.draft.amount.currency),
                quantity=line.draft.quantity,
                unit_price=Fraction(0),
                period=period,
                product=line.draft.product,
                explanation={**line.draft.explanation, "trial": True},
            ),
            line.item_id,
            line.product_id,
        )
        for line in recurring_lines(items, period)
    ]


def usage_lines(unit: TenantUnit, sold: Sold, invoice: Invoice, period: Period) -> list[RatedLine]:
    """Rate the waiting usage of `period`; each record is taken by the line of its group.

    No record, no line: but for a group that costs something all the same, as a minimum does.
    """
    lines = []
    currency, extras = sold.subscription.currency, sold.extras
    for billed in sold.items:
        for charge in billing_queries.metered_charges(unit.session, billed.plan.id, currency):
            metered = Metered(sold.subscription, billed, charge, period)
            window = replace(metered.window, corrected=extras.corrections, slices=extras.slices)
            lines += _usage_lines(unit, invoice, metered, window)
    return lines


def late_lines(unit: TenantUnit, sold: Sold, invoice: Invoice) -> list[RatedLine]:
    """Adjustments for usage that came, or was corrected, after its period was invoiced.

    Each is the group's whole period rated again, less what its lines charged so far: exact for every
    charge model, below zero too, and priced by the terms of those lines, whatever the plan costs now.
    """
    if not (sold.extras.late or sold.extras.corrections):
        return []
    subscription, items = sold.subscription, {billed.item.id: billed for billed in sold.items}
    lines = []
    for late in usage_billing.late_groups(unit.session, unit.organization.id, subscription.id):
        billed = items[late.item_id]
        charges = billing_queries.metered_charges(unit.session, billed.plan.id, subscription.currency)
        metered = next(charge for charge in charges if charge.meter.id == late.meter_id)
        period = Period(late.period_start_at, late.period_end_at)
        lines += _late_lines(unit, invoice, Metered(subscription, billed, metered, period))
    return lines


@dataclass(frozen=True, slots=True)
class Metered:
    """One meter of one item in one period: which records it has, and by which price."""

    subscription: ProductSubscription
    billed: BilledItem
    metered: MeteredCharge
    period: Period

    @property
    def meter(self) -> Meter:
        return self.metered.meter

    @property
    def rules(self) -> MeterRules:
        filters = read_match(self.meter.filters, field="filters")
        return MeterRules(Aggregation(self.meter.aggregation), filters)

    @property
    def monthly(self) -> GroupedTerms:
        return GroupedTerms.from_record(self.metered.charge.terms)

    @property
    def window(self) -> UsageWindow:
        return UsageWindow(
            self.subscription.organization_id,
            self.subscription.id,
            self.billed.item.id,
            self.meter.id,
            self.period.start,
            self.period.end,
            filters=self.meter.filters,
            matches=self.monthly.matches,
        )

    @property
    def holding(self) -> Holding:
        """A period that ends early with its subscription is whole: nobody held another plan in it."""
        item = self.billed.item
        share = held_share(self.period, item.started_at, item.ended_at)
        return Holding(self.billed.price.interval, share, self.in_trial)

    @property
    def price(self) -> GroupedTerms:
        """The price that counts; usage inside a trial is metered, shown, and free."""
        return self.holding.price(self.monthly, self.rules.aggregation)

    @property
    def in_trial(self) -> bool:
        trial_end_at = self.subscription.trial_end_at
        return trial_end_at is not None and self.period.end <= trial_end_at

    def key(self, kind: str, number: int) -> str:
        """The rest has the plain key, so that a price with groups and one without name it alike."""
        match = self.monthly.match_of(number)
        group = [] if match is None else [json.dumps(match, sort_keys=True, separators=(",", ":"))]
        return line_key(kind, self.billed.item.id, self.meter.code, self.period.start, *group)

    def described(self, words: str, number: int) -> str:
        group = self.monthly.name_of(number)
        return f"{self.billed.product.name}: {words}{f', {group}' if group else ''}"


def _usage_lines(unit: TenantUnit, invoice: Invoice, usage: Metered, window: UsageWindow) -> list[RatedLine]:
    if not usage.holding.share:
        return []
    keys = {number: usage.key("usage", number) for number in usage.monthly.numbers}
    took = usage_billing.take(unit.session, window, _line_ids(unit, invoice, keys))
    # Nobody owes a minimum for a subscription that never began.
    if not took and (not usage.period.seconds or usage.subscription.status == "incomplete_expired"):
        return []
    rated = rate_groups(usage.price, _counted(unit, usage, window))
    return [_usage_line(usage, keys[group.number], group, took.get(group.number, Taken())) for group in rated]


def _usage_line(usage: Metered, key: str, group: RatedGroup, taken: Taken) -> RatedLine:
    suffix = " (free trial)" if usage.in_trial else ""
    draft = DraftLine(
        key=key,
        kind=LineKind.usage,
        description=f"{usage.described(usage.meter.name, group.number)}{suffix}",
        amount=group.rating.amount,
        quantity=group.counted.quantity,
        unit_price=_single_price(group.rating),
        period=usage.period,
        product=str(usage.billed.product.id),
        discountable=False,
        explanation={
            **_usage_record(usage, group),
            **({"corrections": taken.corrections} if taken.corrections else {}),
        },
    )
    return RatedLine(draft, usage.billed.item.id, usage.billed.product.id, usage.meter.id)


def _late_lines(unit: TenantUnit, invoice: Invoice, usage: Metered) -> list[RatedLine]:
    keys = {number: usage.key("late", number) for number in usage.monthly.numbers}
    took = usage_billing.take(unit.session, usage.window, _line_ids(unit, invoice, keys))
    rated = {group.number: group for group in rate_groups(usage.price, _counted(unit, usage, usage.window))}
    lines = []
    for number in (number for number in usage.monthly.numbers if number in took):
        this_id = line_id(unit.organization.id, invoice.id, keys[number])
        match = usage.monthly.match_of(number)
        billed = usage_billing.billed(unit.session, usage.window, this_id, match)
        adjusts = {
            "period_start": _instant(usage.period.start),
            "period_end": _instant(usage.period.end),
            "billed_minor": billed.amount_minor,
            "line_ids": [str(each) for each in billed.line_ids],
            "late_events": took[number].events,
            "corrected_events": took[number].corrections,
            "corrections": _causes(unit, this_id) if took[number].corrections else [],
        }
        lines.append(_late_line(usage, keys[number], _as_rated(rated[number], billed), adjusts, billed))
    return lines


def _late_line(
    usage: Metered, key: str, group: RatedGroup, adjusts: dict[str, Any], billed: Billed
) -> RatedLine:
    came = {"late": adjusts["late_events"], "corrected": adjusts["corrected_events"]}
    words = f"{' and '.join(word for word, count in came.items() if count)} {usage.meter.name.lower()}"
    before = billed.explanation or {}
    draft = DraftLine(
        key=key,
        kind=LineKind.adjustment,
        description=usage.described(words, group.number),
        amount=group.rating.amount - Money(adjusts["billed_minor"], usage.subscription.currency),
        quantity=Fraction(sum(came.values())),
        unit_price=None,
        period=usage.period,
        product=str(usage.billed.product.id),
        discountable=False,
        explanation={
            **_usage_record(usage, group),
            **{name: before[name] for name in ("plan", "trial", "share") if name in before},
            "adjusts": adjusts,
        },
    )
    return RatedLine(draft, usage.billed.item.id, usage.billed.product.id, usage.meter.id)


def _as_rated(group: RatedGroup, billed: Billed) -> RatedGroup:
    """The group by the terms that its lines were rated by; by the plan's, where there is none yet."""
    if billed.explanation is None:
        return group
    terms = ChargeTerms.from_record(billed.explanation["terms"])
    return replace(group, terms=terms, rating=rate(group.counted.quantity, terms))


def _causes(unit: TenantUnit, this_id: UUID) -> list[dict[str, Any]]:
    """The corrections that an adjustment has taken, as it names them."""
    return [
        {
            "id": str(each.id),
            "event_id": each.event_id,
            "kind": each.kind,
            "quantity": None if each.quantity is None else exact_text(Fraction(each.quantity)),
            "reason": each.reason,
        }
        for each in usage_billing.causes(unit.session, unit.organization.id, this_id, _MOST_CAUSES)
    ]


def _line_ids(unit: TenantUnit, invoice: Invoice, keys: Mapping[int, str]) -> list[UUID]:
    """The lines' ids by the numbers of their groups."""
    return [line_id(unit.organization.id, invoice.id, keys[number]) for number in sorted(keys)]


def _counted(unit: TenantUnit, usage: Metered, window: UsageWindow) -> dict[int, Counted]:
    """What the meter makes of the records that this period's lines have, group by group."""
    aggregation = usage.rules.aggregation
    totals = usage_billing.totals(unit.session, window)
    # Postgres adds exactly, and does it without the rows leaving it.
    if aggregation in (Aggregation.sum, Aggregation.count):
        return {
            number: Counted(
                Fraction(total.sum if aggregation is Aggregation.sum else total.counted),
                total.counted,
                total.excluded,
                total.voided,
            )
            for number, total in totals.items()
        }
    facts: dict[int, list[UsageFact]] = {}
    for row in usage_billing.facts(unit.session, window, usage.meter.unique_property):
        fact = UsageFact(Fraction(row.quantity), row.at, row.event_id, row.unique_value)
        facts.setdefault(row.group, []).append(fact)
    return {
        number: Counted(
            aggregate(aggregation, facts.get(number, ()), usage.period),
            total.counted,
            total.excluded,
            total.voided,
        )
        for number, total in totals.items()
    }


def _single_price(rating: Rating) -> Fraction | None:
    """The price to print on the line, when one price alone explains it."""
    priced = [step for step in rating.steps if step.amount]
    # A top-up to a minimum is one step too, and no price of a unit.
    alone = len(priced) == 1 and priced[0].quantity == rating.billable
    return priced[0].unit_price if alone else None


def _plan_record(billed: BilledItem) -> dict[str, Any]:
    return {"plan": {"code": billed.plan.code, "version": billed.plan.version}}


def _usage_record(usage: Metered, group: RatedGroup) -> dict[str, Any]:
    """All that the line needs to be explained, and computed again, from its events alone."""
    record = {
        **_plan_record(usage.billed),
        "meter": usage.meter.code,
        "aggregation": usage.meter.aggregation,
        "terms": group.terms.to_record(),
        "rating": group.rating.to_record(),
        "facts": group.counted.events,
        "trial": usage.in_trial,
        "share": exact_text(usage.holding.share),
    }
    if group.counted.voided:
        record["voided"] = group.counted.voided
    if usage.meter.filters:
        record |= {"filters": usage.meter.filters, "excluded": group.counted.excluded}
    if usage.monthly.groups:
        record |= {
            "group": usage.monthly.match_of(group.number),
            "group_name": usage.monthly.name_of(group.number),
            "groups": usage.monthly.matches,
        }
    return record


def _instant(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
