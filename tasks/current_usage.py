"""What a subscription has used in its running period, what that costs so far, and what it will come to.

Read from rollups and what they do not hold yet, priced by the code that rates the invoice.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from typing import Any
from uuid import UUID

from billing.errors import NotFound
from billing.exact import exact_text
from billing.groups import REST
from billing.metering import Aggregation
from billing.money import Money, round_half_away
from billing.periods import Period
from billing.projection import projected, so_far
from billing.rating import rate
from billing.rollups import Rollup, merged
from models import billing_queries, usage_rollups
from models.access_queries import HeldPlan
from models.subscriptions import ProductSubscription
from models.usage_rollups import Used, UsedWindow
from tasks.context import Context, TenantUnit
from tasks.usage_lines import Metered


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricUsage:
    """One metric, and where its price has groups one of them: `match` None is what matches no other.

    `included` and `overage` are of the price in the whole period; quantities are exact.
    """

    metered: Metered
    group: str
    match: dict[str, Any] | None
    quantity: Fraction
    included: Fraction
    overage: Fraction
    cost_so_far: Money
    projected_quantity: Fraction
    projected_cost: Money


@dataclass(frozen=True, slots=True, kw_only=True)
class CurrentUsage:
    """The running period of one subscription at `at`, its metrics by product."""

    subscription: ProductSubscription
    period: Period
    at: datetime
    metrics: list[MetricUsage]

    @property
    def cost_so_far(self) -> Money:
        return self._sum([each.cost_so_far for each in self.metrics])

    @property
    def projected_cost(self) -> Money:
        return self._sum([each.projected_cost for each in self.metrics])

    def _sum(self, amounts: list[Money]) -> Money:
        return sum(amounts, Money.zero(self.subscription.currency))


def current_usage(context: Context, organization_id: UUID, subscription_id: UUID) -> CurrentUsage:
    """What a subscription has used in its running period; of one that has ended, in its last.

    Raises: NotFound for an unknown subscription.
    """
    with context.tenant(organization_id) as unit:
        subscription = unit.session.get(ProductSubscription, (organization_id, subscription_id))
        if subscription is None:
            raise NotFound("no such subscription")
        period = _running(
            subscription.current_period_start_at, subscription.current_period_end_at, subscription.ended_at
        )
        metrics = list(_metrics(unit, subscription, period))
        return CurrentUsage(subscription=subscription, period=period, at=unit.now, metrics=metrics)


def _running(start_at: datetime, end_at: datetime, ended_at: datetime | None) -> Period:
    """The period of an ended subscription ends with it."""
    return Period(start_at, max(start_at, min(ended_at or end_at, end_at)))


def _metrics(unit: TenantUnit, subscription: ProductSubscription, period: Period) -> Iterator[MetricUsage]:
    billed = billing_queries.billed_items(unit.session, unit.organization.id, subscription.id)
    metered = [
        Metered(subscription, each, charge, period)
        for each in billed
        for charge in billing_queries.metered_charges(unit.session, each.plan.id, subscription.currency)
    ]
    metered = [each for each in metered if each.holding.share]
    if not metered:
        return
    items = sorted({each.billed.item.id for each in metered})
    window = UsedWindow(unit.organization.id, subscription.id, items, period.start, period.end)
    used = usage_rollups.read(unit.session, window)
    for each in metered:
        yield from _groups(each, used, unit.now)


def _groups(metered: Metered, used: list[Used], now: datetime) -> Iterator[MetricUsage]:
    """Each group of the metric's price, as the invoice would have a line for it."""
    aggregation, monthly, price = metered.metered.rules.aggregation, metered.monthly, metered.price
    rollups: dict[int, list[Rollup]] = {}
    for each in used:
        if (each.item_id, each.meter_id) == (metered.billed.item.id, metered.meter.id):
            rollups.setdefault(monthly.number_of(each.grouped), []).append(each.rollup)
    for number in monthly.numbers:
        rollup, terms = merged(rollups.get(number, ())), price.terms_of(number)
        quantity = so_far(rollup, aggregation, metered.period, now)
        coming = projected(rollup, aggregation, metered.period, _held(metered), now)
        rating = rate(quantity, terms)
        yield MetricUsage(
            metered=metered,
            group=monthly.name_of(number),
            match=None if number == REST else monthly.match_of(number),
            quantity=quantity,
            included=terms.included,
            overage=rating.billable,
            cost_so_far=rating.amount,
            projected_quantity=coming,
            projected_cost=rate(coming, terms).amount,
        )


def _held(metered: Metered) -> Period:
    item, period = metered.billed.item, metered.period
    return Period(max(item.started_at, period.start), min(item.ended_at or period.end, period.end))


def used_by(unit: TenantUnit, held: HeldPlan) -> dict[str, str]:
    """Metric -> quantity so far of the running period, as decimal text; by whichever plan, in any group."""
    period = _running(held.period_start_at, held.period_end_at, held.ended_at)
    window = UsedWindow(unit.organization.id, held.subscription_id, held.item_ids, period.start, period.end)
    used = usage_rollups.read(unit.session, window)
    found = {}
    for meter in held.meters:
        rollup = merged(each.rollup for each in used if each.meter_id == meter.id)
        found[meter.code] = plain(so_far(rollup, Aggregation(meter.aggregation), period, unit.now))
    return found


def plain(quantity: Fraction) -> str:
    """A quantity as decimal text, rounded to 12 decimals: all that usage and allowances have."""
    return exact_text(Fraction(round_half_away(quantity * 10**12), 10**12))
