"""Backtests: real past usage under draft prices. Reads as the auditor, in snapshots; writes nothing."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from billing.backtests import Tally
from billing.errors import InvalidTerms
from billing.groups import GroupedTerms
from billing.periods import Period
from models import backtesting
from models.catalog import Meter, ProductPlan
from models.database import Session
from tasks import backtest_rows
from tasks.backtest_rating import BatchRating, PriceBook
from tasks.backtest_rows import Asked, Counts
from tasks.catalog_file import parse
from tasks.catalog_spec import CatalogSpec, MeterSpec, PlanSpec
from tasks.catalog_stored import stored
from tasks.context import Context

# Few enough that a batch's rows are small, many enough that a statement is worth its trip.
_ORGANIZATIONS_PER_BATCH = 200

Progress = Callable[[int, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class BacktestTerms:
    """Billing periods that begin in `period`; of one currency or organization, if these are given."""

    period: Period
    currency: str | None = None
    organization_id: UUID | None = None


@dataclass(slots=True)
class Backtest:
    """The result. `new_plans` are those of the file that nobody ever had."""

    terms: BacktestTerms
    plans: Sequence[str]
    new_plans: Sequence[str]
    counts: Counts = field(default_factory=Counts)
    tally: Tally = field(default_factory=Tally)

    @property
    def proven(self) -> bool:
        """Whether every charge, by the terms of its time, came to what was invoiced."""
        return not self.tally.disagreeing


def run(
    context: Context, text: str, terms: BacktestTerms, progress: Progress = lambda *_counts: None
) -> Backtest:
    """Rate the past anew by the plans of a catalog file; `progress` hears (organizations done, all, events).

    Raises: InvalidTerms, whose field is the place in the file.
    """
    with context.auditor.snapshot() as session:
        draft = _draft(text, stored(session))
        versions = backtesting.plans(session, list(draft))
        known = {plan.code for plan in versions}
        if not known:
            raise InvalidTerms("none of its plans was ever sold", field="file")
        book = _book(session, draft, versions)
        ids = [plan.id for plan in versions]
        subscribers = backtesting.subscribers(session, ids, terms.currency, terms.organization_id)
    found = Backtest(terms, sorted(known), sorted(set(draft) - known))
    asked = Asked(frozenset(known), terms.currency)
    for start in range(0, len(subscribers), _ORGANIZATIONS_PER_BATCH):
        batch = subscribers[start : start + _ORGANIZATIONS_PER_BATCH]
        _add_batch(context, found, book, asked, dict(batch))
        progress(start + len(batch), len(subscribers), found.counts.events)
    return found


def _add_batch(
    context: Context, found: Backtest, book: PriceBook, asked: Asked, slugs: Mapping[UUID, str]
) -> None:
    with context.auditor.snapshot() as session:
        rows = backtest_rows.load(session, list(slugs), found.terms.period, asked, found.counts)
        rating = BatchRating(session, book, asked, slugs, rows, found.counts)
        found.tally.add(rating.comparisons())


def _draft(text: str, sold: CatalogSpec) -> Mapping[str, PlanSpec]:
    """The plans of a file by code; their meters must add up as the events were counted."""
    spec = parse(text, sold)
    if not spec.plans:
        raise InvalidTerms("has no plan", field="products")
    for product in spec.products.values():
        before = sold.products[product.code].meters if product.code in sold.products else {}
        for code, meter in product.meters.items():
            known = before.get(code)
            if known is not None and _counting(known) != _counting(meter):
                raise InvalidTerms(
                    "counts otherwise than the meter of its past events; that is another meter",
                    field=f"products.{product.code}.meters.{code}",
                )
    return spec.plans


def _counting(meter: MeterSpec) -> tuple[object, ...]:
    return meter.aggregation, meter.unique_property, meter.filters, meter.group_by


def _book(session: Session, draft: Mapping[str, PlanSpec], versions: Sequence[ProductPlan]) -> PriceBook:
    ids = [plan.id for plan in versions]
    charges: dict[tuple[UUID, str], dict[str, GroupedTerms]] = defaultdict(dict)
    for charge, meter in backtesting.charges(session, ids):
        charges[charge.plan_id, charge.currency][meter.code] = GroupedTerms.from_record(charge.terms)
    meters: dict[UUID, list[Meter]] = defaultdict(list)
    for meter in backtesting.meters(session, ids):
        meters[meter.product_id].append(meter)
    return PriceBook(draft, charges, meters)
