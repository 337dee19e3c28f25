"""The lines of usage: in arrears by their period's terms, and adjustments for what came or changed late."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from fractions import Fraction
from functools import cached_property, partial
from typing import Any
from uuid import UUID

from billing.exact import exact_text
from billing.groups import GroupedTerms
from billing.invoicing import DraftLine, LineKind
from billing.keys import line_id, line_key
from billing.metering import Aggregation, UsageFact, aggregate
from billing.money import Money
from billing.periods import Period
from billing.rating import ChargeTerms, Rating, rate
from billing.usage import Counted, Holding, RatedGroup, held_share, rate_groups
from models import billing_queries, usage_billing
from models.billing_queries import BilledItem, MeteredCharge
from models.catalog import Meter
from models.closing_queries import Sold
from models.invoices import Invoice
from models.subscriptions import ProductSubscription
from models.usage_billing import Billed, GroupTotals, Taken, UsageWindow
from tasks.context import TenantUnit
from tasks.rating import RatedLine, plan_record

# A line names this many of the corrections that it has taken; the explanation's pages show all.
_MOST_CAUSES = 100
# Postgres adds these exactly, and does it without the rows leaving it.
COUNTED_THERE = (Aggregation.sum, Aggregation.count)


@dataclass(frozen=True)
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
    def monthly(self) -> GroupedTerms:
        return self.metered.monthly

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

    @cached_property
    def holding(self) -> Holding:
        """A period that ends early with its subscription is whole: nobody held another plan in it."""
        item = self.billed.item
        share = held_share(self.period, item.started_at, item.ended_at)
        return Holding(self.billed.price.interval, share, self.in_trial)

    @property
    def price(self) -> GroupedTerms:
        """The price that counts; usage inside a trial is metered, shown, and free."""
        return self.metered.price(self.holding)

    @property
    def in_trial(self) -> bool:
        trial_end_at = self.subscription.trial_end_at
        return trial_end_at is not None and self.period.end <= trial_end_at

    @property
    def has_begun(self) -> bool:
        """Nobody owes a minimum for a subscription that never began."""
        return bool(self.period.seconds) and self.subscription.status != "incomplete_expired"

    @cached_property
    def usage_keys(self) -> dict[int, str]:
        """The keys of the period's own lines, by the numbers of their groups."""
        return self.keys("usage")

    def keys(self, kind: str) -> dict[int, str]:
        """The keys of the lines of a kind.

        The rest has the plain key, so that a price with groups and one without name it alike.
        """
        return {number: self._key(kind, number) for number in self.monthly.numbers}

    def _key(self, kind: str, number: int) -> str:
        match = self.monthly.match_of(number)
        group = [] if match is None else [json.dumps(match, sort_keys=True, separators=(",", ":"))]
        return line_key(kind, self.billed.item.id, self.meter.code, self.period.start, *group)

    def described(self, words: str, number: int) -> str:
        group = self.monthly.name_of(number)
        return f"{self.billed.product.name}: {words}{f', {group}' if group else ''}"


def metered(
    sold: Sold, charges: Callable[[UUID, str], Sequence[MeteredCharge]], period: Period
) -> list[Metered]:
    """What of a subscription is metered in a period; `charges` are those of a plan and a currency."""
    found = [
        Metered(sold.subscription, billed, charge, period)
        for billed in sold.items
        for charge in charges(billed.plan.id, sold.subscription.currency)
    ]
    return [usage for usage in found if usage.holding.share]


def usage_lines(unit: TenantUnit, sold: Sold, invoice: Invoice, period: Period) -> list[RatedLine]:
    """Rate the waiting usage of `period`; each record is taken by the line of its group."""
    charges = partial(billing_queries.metered_charges, unit.session)
    extras, lines = sold.extras, list[RatedLine]()
    for usage in metered(sold, charges, period):
        window = replace(usage.window, corrected=extras.corrections, slices=extras.slices)
        took = usage_billing.take(unit.session, window, line_ids(invoice, usage.usage_keys))
        lines += owed_lines(usage, took, _counted(unit, usage, window))
    return lines


def owed_lines(usage: Metered, took: Mapping[int, Taken], counted: Mapping[int, Counted]) -> list[RatedLine]:
    """The lines of what was taken, and of all that the period's lines have now.

    No record, no line: but for a group that costs something all the same, as a minimum does.
    """
    if not took and not usage.has_begun:
        return []
    keys = usage.usage_keys
    return [
        _usage_line(usage, keys[group.number], group, took.get(group.number, Taken()))
        for group in rate_groups(usage.price, counted)
    ]


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
    keys = usage.keys("late")
    took = usage_billing.take(unit.session, usage.window, line_ids(invoice, keys))
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


def line_ids(invoice: Invoice, keys: Mapping[int, str]) -> list[UUID]:
    """The lines' ids by the numbers of their groups."""
    return [line_id(invoice.organization_id, invoice.id, keys[number]) for number in sorted(keys)]


def _counted(unit: TenantUnit, usage: Metered, window: UsageWindow) -> dict[int, Counted]:
    """What the meter makes of the records that this period's lines have, group by group."""
    aggregation = usage.metered.rules.aggregation
    totals = usage_billing.totals(unit.session, window)
    if aggregation in COUNTED_THERE:
        return added(aggregation, totals)
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


def added(aggregation: Aggregation, totals: Mapping[int, GroupTotals]) -> dict[int, Counted]:
    """What a sum or a count comes to, group by group."""
    return {
        number: Counted(
            Fraction(total.sum if aggregation is Aggregation.sum else total.counted),
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


def _usage_record(usage: Metered, group: RatedGroup) -> dict[str, Any]:
    """All that the line needs to be explained, and computed again, from its events alone."""
    record = {
        **plan_record(usage.billed),
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
