"""The lines of closed billing periods, rated once by the terms of their time and once by the draft."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from uuid import UUID

from billing.backtests import Comparison, Pricing, prorated_again
from billing.groups import GroupedTerms
from billing.metering import Aggregation
from billing.money import Money
from billing.periods import Period
from billing.proration import ProratedPart, Side
from billing.usage import Counted, Holding, held_share
from models import backtesting
from models.backtesting import BilledStretch, ClosedPeriod, Counting, PastLine, UsageWindow, WindowUsage
from models.catalog import Meter
from models.database import Session
from tasks.backtest_rows import RECURRING, Asked, Counts, Rows
from tasks.catalog_spec import PlanSpec

_METERED = ("usage", "adjustment")


@dataclass(frozen=True, slots=True)
class PriceBook:
    """What a stretch costs by the plan version that was sold, and by the draft of that plan."""

    draft: Mapping[str, PlanSpec]
    charges: Mapping[tuple[UUID, str], Mapping[str, GroupedTerms]]
    meters: Mapping[UUID, Sequence[Meter]]

    def sold(self, stretch: BilledStretch) -> Pricing:
        price = Money(stretch.price.amount_minor, stretch.price.currency)
        charges = self.charges.get((stretch.plan.id, price.currency), {})
        return Pricing(stretch.plan.base_charge, price, charges)

    def drafted(self, stretch: BilledStretch) -> Pricing | None:
        """None for a plan that the draft does not name, or does not sell in this currency and interval."""
        spec, currency = self.draft.get(stretch.plan.code), stretch.price.currency
        minor = None if spec is None else spec.prices.get((currency, stretch.price.interval))
        if spec is None or minor is None:
            return None
        charges = {meter: terms for (meter, each), terms in spec.charges.items() if each == currency}
        return Pricing(spec.base_charge, Money(minor, currency), charges)


@dataclass(frozen=True, slots=True)
class BatchRating:
    """Rates the rows of some organizations both ways."""

    session: Session
    book: PriceBook
    asked: Asked
    slugs: Mapping[UUID, str]
    rows: Rows
    counts: Counts

    def comparisons(self) -> Iterator[Comparison]:
        """Every charge of the rows' closed periods."""
        for line, closed in self.rows.lines:
            if line.kind in RECURRING and (prices := self._prices(line.item_id)) is not None:
                yield self._recurring(line, closed, prices)
        yield from self._usage()
        yield from self._changes()

    def _prices(self, item_id: UUID | None) -> tuple[BilledStretch, Pricing, Pricing] | None:
        """An asked-for item by its terms and by the draft's; what the draft has no price for is counted."""
        stretch = self.rows.stretches.get(item_id) if item_id is not None else None
        if stretch is None or not self.asked.covers(stretch):
            return None
        draft = self.book.drafted(stretch)
        if draft is None:
            self.counts.unpriced += 1
            return None
        return stretch, self.book.sold(stretch), draft

    def _recurring(
        self, line: PastLine, closed: ClosedPeriod, prices: tuple[BilledStretch, Pricing, Pricing]
    ) -> Comparison:
        stretch, sold, draft = prices
        seats = stretch.item.quantity
        return self._comparison(
            stretch,
            ("recurring", closed),
            line.amount_minor,
            sold.recurring(seats, in_trial=line.trial),
            draft.recurring(seats, in_trial=line.trial),
        )

    # -- usage, in arrears --------------------------------------------------------------------------

    def _usage(self) -> Iterator[Comparison]:
        billed: dict[UsageWindow, int] = defaultdict(int)
        for line, closed in self.rows.lines:
            if line.kind in _METERED and line.item_id is not None and line.meter_id is not None:
                billed[UsageWindow(closed, line.item_id, line.meter_id)] += line.amount_minor
        places = list(self._places())
        # Most drafts split events as the sold plan does: those are counted once.
        counted = self._counted({each for place in places for each in (place.by_sold, place.by_draft)})
        for place in places:
            sold, drafted = counted[place.by_sold], counted[place.by_draft]
            found = self._metered(place, sold, drafted, billed.get(place.window))
            if found is not None:
                yield found

    def _places(self) -> Iterator["_Place"]:
        """Each meter that an item's plan or its draft charges, in each closed period that has the item."""
        held: dict[UUID, list[UUID]] = defaultdict(list)
        for each in self.rows.stretches.values():
            if self.asked.covers(each):
                held[each.subscription.id].append(each.item.id)
        for closed in self.rows.closed.values():
            period = Period(closed.start_at, closed.end_at)
            for item_id in held[closed.subscription_id]:
                holding = _holding(self.rows.stretches[item_id], period)
                if not holding.share or (prices := self._prices(item_id)) is None:
                    continue
                for meter in self.book.meters.get(prices[0].item.product_id, ()):
                    if meter.code in prices[1].charges or meter.code in prices[2].charges:
                        window = UsageWindow(closed, item_id, meter.id)
                        yield _Place(window, meter, period, holding, *prices)

    def _counted(
        self, asked: Iterable[tuple[UsageWindow, Counting]]
    ) -> Mapping[tuple[UsageWindow, Counting], Sequence[WindowUsage]]:
        by_counting: dict[Counting, list[UsageWindow]] = defaultdict(list)
        for window, counting in asked:
            by_counting[counting].append(window)
        found: dict[tuple[UsageWindow, Counting], list[WindowUsage]] = defaultdict(list)
        for counting, windows in by_counting.items():
            for each in backtesting.usage(self.session, windows, counting):
                found[windows[each.window], counting].append(each)
        return found

    def _metered(
        self,
        place: "_Place",
        sold: Sequence[WindowUsage],
        drafted: Sequence[WindowUsage],
        billed: int | None,
    ) -> Comparison | None:
        code, aggregation = place.meter.code, Aggregation(place.meter.aggregation)
        by_sold, by_draft = (
            {each.number: _count(aggregation, each, place.period) for each in used}
            for used in (sold, drafted)
        )
        self.counts.events += sum(each.events for each in by_sold.values())
        # Nobody owes a minimum for a period of no length, or for a subscription that never began.
        began = place.stretch.subscription.status != "incomplete_expired"
        if not by_sold and not (place.period.seconds and began):
            return None
        again = place.sold.usage(code, aggregation, place.holding, by_sold)
        draft = place.draft.usage(code, aggregation, place.holding, by_draft)
        if not by_sold and billed is None and not again.minor and not draft.minor:
            return None
        return self._comparison(place.stretch, (code, place.window.closed), billed or 0, again, draft)

    # -- changes in mid-period ----------------------------------------------------------------------

    def _changes(self) -> Iterator[Comparison]:
        chains: dict[ClosedPeriod, dict[UUID, Money]] = defaultdict(dict)
        changes: list[tuple[PastLine, ClosedPeriod]] = []
        for line, closed in self.rows.lines:
            if line.kind == "proration":
                changes.append((line, closed))
            elif line.kind in RECURRING and line.item_id is not None:
                chains[closed][line.item_id] = self._charged(line)
        # A credit gives back what stood before the charge of the same instant.
        changes.sort(key=lambda each: (each[0].period_start_at, not each[0].key.startswith("change:credit")))
        for line, closed in changes:
            found = self._changed(line, closed, chains[closed])
            if found is not None:
                yield found

    def _charged(self, line: PastLine) -> Money:
        """What the draft would have charged in advance, after a discount of the same proportion."""
        assert line.item_id is not None
        pricing = self._either(line.item_id)
        amount = pricing.recurring(self.rows.stretches[line.item_id].item.quantity, in_trial=line.trial)
        net = line.amount_minor - line.discount_minor
        return amount.scaled(Fraction(net, line.amount_minor)) if line.amount_minor else amount

    def _either(self, item_id: UUID) -> Pricing:
        """The draft's pricing where the draft is asked about the item, else its own."""
        stretch = self.rows.stretches[item_id]
        draft = self.book.drafted(stretch) if self.asked.covers(stretch) else None
        return draft or self.book.sold(stretch)

    def _changed(self, line: PastLine, closed: ClosedPeriod, chain: dict[UUID, Money]) -> Comparison | None:
        assert line.item_id is not None
        part = ProratedPart.from_record(line.proration or {})
        if part is None:
            self.counts.unexplained += 1
            return None
        stretch = self.rows.stretches[line.item_id]
        listed = self._either(line.item_id).recurring(stretch.item.quantity)
        base = self._debited(stretch, chain) if part.side is Side.unused else None
        drafted = prorated_again(part, listed, base)
        if part.side is Side.remaining:
            chain[line.item_id] = drafted
        if self._prices(line.item_id) is None:
            return None
        return self._comparison(stretch, ("changes", closed), line.amount_minor, part.amount, drafted)

    def _debited(self, stretch: BilledStretch, chain: Mapping[UUID, Money]) -> Money | None:
        """What was charged for an item in advance; without proration, that is for the item before it."""
        seen: BilledStretch | None = stretch
        while seen is not None:
            if seen.item.id in chain:
                return chain[seen.item.id]
            seen = next((each for each in self.rows.stretches.values() if _precedes(each, seen)), None)
        return None

    def _comparison(
        self,
        stretch: BilledStretch,
        what: tuple[str, ClosedPeriod],
        invoiced_minor: int,
        again: Money,
        draft: Money,
    ) -> Comparison:
        part, closed = what
        slug = self.slugs[closed.organization_id]
        return Comparison(
            organization=slug,
            plan=stretch.plan.code,
            part=part,
            place=f"{slug}, {stretch.plan.code} version {stretch.plan.version}, {part}, "
            f"{closed.start_at:%Y-%m-%d} to {closed.end_at:%Y-%m-%d}",
            invoiced=Money(invoiced_minor, draft.currency),
            again=again,
            draft=draft,
        )


@dataclass(frozen=True, slots=True)
class _Place:
    """One meter of one item in one closed period, with both prices."""

    window: UsageWindow
    meter: Meter
    period: Period
    holding: Holding
    stretch: BilledStretch
    sold: Pricing
    draft: Pricing

    @property
    def by_sold(self) -> tuple[UsageWindow, Counting]:
        return self._counting(self.sold)

    @property
    def by_draft(self) -> tuple[UsageWindow, Counting]:
        return self._counting(self.draft)

    def _counting(self, pricing: Pricing) -> tuple[UsageWindow, Counting]:
        code = self.meter.code
        charged = code in self.sold.charges
        return self.window, Counting.of(self.meter, pricing.matches(code), charged=charged)


def _holding(stretch: BilledStretch, period: Period) -> Holding:
    trial_end_at = stretch.subscription.trial_end_at
    in_trial = trial_end_at is not None and period.end <= trial_end_at
    share = held_share(period, stretch.item.started_at, stretch.item.ended_at)
    return Holding(stretch.price.interval, share, in_trial)


def _count(aggregation: Aggregation, used: WindowUsage, period: Period) -> Counted:
    """What the meter makes of a group's records, from what Postgres reduced them to."""
    quantity = Fraction(used.quantity if used.quantity is not None else Decimal(0))
    if aggregation is Aggregation.avg:
        quantity /= used.counted or 1
    elif aggregation is Aggregation.time_weighted_sum:
        quantity = quantity / period.seconds if period.seconds else Fraction(0)
    return Counted(quantity, used.counted, used.excluded, used.voided)


def _precedes(before: BilledStretch, after: BilledStretch) -> bool:
    return (
        before.subscription.id == after.subscription.id
        and before.item.product_id == after.item.product_id
        and before.item.ended_at == after.item.started_at
        and before.item.id != after.item.id
    )
