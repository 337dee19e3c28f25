"""Rating the drafts of many organizations in one transaction: those on which there is nothing unusual.

What is read is read for all of them at once, and so it is written; the lines, discounts, tax and totals come
of the same functions as in `drafting.rate_draft`, which does what is left here.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from billing.invoicing import InvoiceDraft, TaxTerms, build_invoice
from billing.money import Money
from billing.periods import Period
from gateway.translate import InvoiceFacts
from models import bulk, together, usage_together
from models.closing_queries import Extras, Sold
from models.invoices import Invoice, InvoiceLine
from models.subscriptions import ProductSubscription, SubscriptionItem
from models.together import Held
from tasks import coupons, drafting, invoice_rows, prorations, rating, tax, usage_lines
from tasks.context import Context, Unit
from tasks.rating import RatedLine
from tasks.usage_lines import COUNTED_THERE, Metered

_NOTHING_RARE = Extras(charges=False, coupons=False, late=False, corrections=False, slices=False)


@dataclass(frozen=True, slots=True)
class Draft:
    """A draft to rate, with Stripe's own as it was just seen."""

    organization_id: UUID
    invoice_id: UUID
    facts: InvoiceFacts


@dataclass(frozen=True, slots=True)
class _Closing:
    """A draft that is usual, with what it is made of."""

    held: Held
    period: Period
    sold: Sold
    metered: Sequence[Metered]

    @property
    def invoice(self) -> Invoice:
        return self.held.invoice


@dataclass(frozen=True, slots=True)
class Rated:
    """A draft as it has been rated: the rows of its lines, and its figures."""

    lines: Sequence[bulk.Row]
    total_minor: int


@dataclass(frozen=True, slots=True)
class _Drawn:
    closing: _Closing
    lines: Sequence[RatedLine]
    built: InvoiceDraft
    terms: TaxTerms | None


def rate(context: Context, drafts: Sequence[Draft]) -> dict[UUID, Rated]:
    """Rate the usual ones of some drafts. Returns what is on them, by their ids; others are as they were.

    The caller holds the locks of their organizations.
    """
    facts = {draft.invoice_id: draft.facts for draft in drafts}
    with context.billing() as unit:
        keys = [(draft.organization_id, draft.invoice_id) for draft in drafts]
        held = together.hold(unit.session, keys, unit.wall)
        usual = _closings(unit, [each for each in _one_each(held) if _is_plain(each, facts[each.invoice.id])])
        return _write(unit, _drawn(unit, usual)) if usual else {}


def _one_each(held: Iterable[Held]) -> Iterable[Held]:
    """The first draft of each subscription: how far its usage is closed moves with one after the other."""
    first: dict[UUID, Held] = {}
    for each in held:
        first.setdefault(each.subscription.id, each)
    return first.values()


def _is_plain(held: Held, facts: InvoiceFacts) -> bool:
    """Whether it is a cycle's draft, here and at Stripe, that nothing keeps from being rated."""
    invoice = held.invoice
    is_waiting = invoice.status == "draft" and invoice.kind == "cycle" and invoice.rated_at is None
    is_kept = invoice.parked_at is not None or held.organization.parked_at is not None or held.changing
    return is_waiting and not is_kept and facts.status == "draft" and not prorations.on_invoice(facts)


def _closings(unit: Unit, held: Sequence[Held]) -> list[_Closing]:
    """Those that no rare thing is on: no late usage, corrections, changes or coupons, and only sums."""
    periods = [Period(each.invoice.period_start_at, each.invoice.period_end_at) for each in held]
    sold = together.sold(
        unit.session, [(each.subscription, period) for each, period in zip(held, periods, strict=True)]
    )
    charges = together.metered_charges(
        unit.session, {billed.plan.id for each in sold for billed in each.items}
    )
    closings = []
    for each, period, of in zip(held, periods, sold, strict=True):
        metered = usage_lines.metered(of, lambda *plan: charges.get(plan, ()), period)
        adds_up = all(usage.metered.rules.aggregation in COUNTED_THERE for usage in metered)
        if adds_up and of.extras == _NOTHING_RARE:
            closings.append(_Closing(each, period, of, metered))
    return closings


def _drawn(unit: Unit, closings: Sequence[_Closing]) -> list[_Drawn]:
    """Take the usage, and draw up the lines and totals."""
    windows = [
        (usage.window, usage_lines.line_ids(closing.invoice, usage.usage_keys))
        for closing in closings
        for usage in closing.metered
    ]
    took, totals = usage_together.take(unit.session, windows)
    taken = zip(took, totals, strict=True)
    rates = together.tax_rates(unit.session, (closing.invoice.tax_rate_id for closing in closings))
    bundles = together.bundles(unit.session, (closing.held.subscription.bundle_id for closing in closings))
    drawn = []
    for closing in closings:
        invoice, sold = closing.invoice, closing.sold
        lines = rating.recurring_lines(sold.items, drafting.next_period(sold, invoice))
        for usage in closing.metered:
            events, sums = next(taken)
            counted = usage_lines.added(usage.metered.rules.aggregation, sums)
            lines += usage_lines.owed_lines(usage, events, counted)
        terms = tax.terms(rates[invoice.tax_rate_id]) if invoice.tax_rate_id else None
        code = coupons.bundle_code(bundles.get(sold.subscription.bundle_id))
        discounts = coupons.bundle_discounts(code, sold.subscription, sold.items)
        none_yet = Money.zero(invoice.currency)
        built = build_invoice([line.draft for line in lines], invoice.currency, discounts, terms, none_yet)
        drawn.append(_Drawn(closing, lines, built, terms))
    return drawn


def _write(unit: Unit, drawn: Sequence[_Drawn]) -> dict[UUID, Rated]:
    invoices: list[bulk.Row] = []
    subscriptions: list[bulk.Row] = []
    items: list[bulk.Row] = []
    rated: dict[UUID, Rated] = {}
    for each in drawn:
        invoice, sold, held = each.closing.invoice, each.closing.sold, each.closing.held
        now = unit.of(held.organization, held.clock).now
        lines = list(invoice_rows.lines(invoice, each.lines, each.built))
        rated[invoice.id] = Rated(lines, each.built.total.minor)
        invoices.append({**_key(invoice), **invoice_rows.totals(each.built, each.terms, now)})
        closed_until_at = max(sold.subscription.usage_closed_until_at, each.closing.period.end)
        subscriptions.append({**_key(sold.subscription), "usage_closed_until_at": closed_until_at})
        debits = rating.debits(sold.items, each.lines, each.built)
        items += [{**_key(item), **values} for item, values in debits]
    bulk.insert(unit.session, InvoiceLine, [line for each in rated.values() for line in each.lines])
    bulk.update(unit.session, Invoice, invoices)
    bulk.update(unit.session, ProductSubscription, subscriptions)
    bulk.update(unit.session, SubscriptionItem, items)
    return rated


def _key(row: Invoice | ProductSubscription | SubscriptionItem) -> dict[str, Any]:
    return {"organization_id": row.organization_id, "id": row.id}
