"""Invoices that a subscription makes: pending items first, then its own; final now or left as a draft."""

from .. import Doc
from ..errors import ApiError
from ..ids import new_id
from ..world import World, clock_of
from . import advance, discounts, invoices
from .drafting import DraftTerms
from .items import items_of, note_billed, trial_line
from .lines import line_of_invoice_item


def pending_for(world: World, subscription: Doc) -> list[Doc]:
    """Invoice items that wait for the subscription's next invoice: its own and the customer's loose ones."""
    waiting = [
        doc
        for doc in world.tx.select("invoiceitem", customer=subscription["customer"])
        if doc["invoice"] is None
    ]
    return [
        doc
        for doc in waiting
        if doc["_subscription"] in {None, subscription["id"]} and doc["currency"] == subscription["currency"]
    ]


def take_pending(world: World, entries: list[Doc], invoice_id: str) -> list[Doc]:
    """Put pending invoice items on an invoice: the lines that they become."""
    for entry in entries:
        entry["invoice"] = invoice_id
    return [line_of_invoice_item(entry, invoice_id) for entry in entries]


def subscription_draft(
    world: World,
    subscription: Doc,
    *,
    reason: str,
    period: tuple[int, int],
    lines: list[Doc],
    invoice_id: str,
    auto_advance: bool = True,
) -> Doc:
    """A draft with the subscription's terms: its living discounts, tax rates and way of collecting."""
    now = world.now_of(subscription)
    terms = DraftTerms(
        customer=world.tx.get("customer", subscription["customer"]),
        currency=subscription["currency"],
        billing_reason=reason,
        period=period,
        subscription=subscription,
        auto_advance=auto_advance,
        collection_method=subscription["collection_method"],
        days_until_due=subscription["days_until_due"],
        default_tax_rates=subscription["_default_tax_rates"],
        discounts=discounts.live(world, subscription["discounts"], now),
        description=subscription["description"],
    )
    return invoices.create_draft(world, terms, lines, invoice_id)


def bill_now(world: World, subscription: Doc, *, reason: str, lines: list[Doc], invoice_id: str) -> Doc:
    """An invoice made inside a request: no draft window, open (or paid, when nothing is due) on return."""
    now = world.now_of(subscription)
    pending = take_pending(world, pending_for(world, subscription), invoice_id)
    invoice = subscription_draft(
        world, subscription, reason=reason, period=(now, now), lines=[*pending, *lines], invoice_id=invoice_id
    )
    subscription["latest_invoice"] = invoice["id"]
    advance.finalize_and_settle(world, invoice)
    return invoice


def bill_update(world: World, subscription: Doc, lines: list[Doc], *, attempt: bool) -> ApiError | None:
    """Invoice a change at once (`always_invoice`, a new anchor); the refusal when the payment failed."""
    invoice = bill_now(
        world, subscription, reason="subscription_update", lines=lines, invoice_id=new_id("invoice")
    )
    if lines:
        note_billed(invoice, items_of(world, subscription))
    return advance.collect_automatically(world, invoice) if attempt else None


def trial_lines(world: World, subscription: Doc, invoice_id: str) -> list[Doc]:
    return [trial_line(world, subscription, item, invoice_id) for item in items_of(world, subscription)]


def next_boundary(world: World, subscription: Doc) -> None:
    """Set the alarm for the end of the item period that ends first."""
    ends = [item["current_period_end"] for item in items_of(world, subscription)]
    world.tx.set_timer(min(ends), clock_of(subscription), "cycle", subscription["id"])
