"""The lines of an invoice: recurring charges in advance. Usage in arrears: `usage_lines.py`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from typing import Any
from uuid import UUID

from billing.invoicing import DraftLine, InvoiceDraft, LineKind
from billing.keys import line_key
from billing.money import Money
from billing.periods import Period
from models.billing_queries import BilledItem
from models.subscriptions import SubscriptionItem


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


def debits(
    items: Sequence[BilledItem], rated: Sequence[RatedLine], built: InvoiceDraft
) -> Iterator[tuple[SubscriptionItem, dict[str, Any]]]:
    """What each item's recurring line really charged, for a change in mid-period to give back of."""
    by_id = {billed.item.id: billed.item for billed in items}
    for line, source in zip(built.lines, rated, strict=True):
        if line.kind in (LineKind.recurring, LineKind.seats):
            yield (
                by_id[source.item_id],
                {
                    "debited_minor": line.net.minor,
                    "debited_from_at": line.period.start,
                    "debited_until_at": line.period.end,
                },
            )


def note_debits(items: Sequence[BilledItem], rated: Sequence[RatedLine], built: InvoiceDraft) -> None:
    """Remember them on the items."""
    for item, values in debits(items, rated, built):
        for name, value in values.items():
            setattr(item, name, value)


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
        explanation={**plan_record(billed), "terms": None, "interval": billed.price.interval},
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


def plan_record(billed: BilledItem) -> dict[str, Any]:
    """By which plan's terms a line is what it is."""
    return {"plan": {"code": billed.plan.code, "version": billed.plan.version}}
