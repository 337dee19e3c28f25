"""From a draft to its lines: what an invoice charges for, discounts it and taxes it with; also rehearsed.

One at a time, whatever is on it. Many usual ones at once: `rating_together.py`, by the same rules.
"""

from collections.abc import Sequence

from billing.discounts import Discount
from billing.errors import Conflict
from billing.invoicing import InvoiceDraft, build_invoice
from billing.money import Money
from billing.periods import Interval, Period, period_at
from gateway.translate import InvoiceFacts
from models import billing_queries, change_queries, closing_queries
from models.billing_queries import BilledItem
from models.closing_queries import Sold
from models.invoices import Invoice
from models.subscriptions import PendingCharge, ProductSubscription
from tasks import balance, coupons, invoice_rows, prorations, rating, tax, usage_lines
from tasks.context import TenantUnit
from tasks.rating import RatedLine

_WITHOUT_INVOICES = ("incomplete", "incomplete_expired", "paused", "cancelled")


def rate_draft(
    unit: TenantUnit, invoice: Invoice, drafted: InvoiceFacts | None, *, restarted: bool = False
) -> None:
    """Close the usage window and write the lines, in one transaction with the usage that they take.

    `drafted` is Stripe's invoice of a cycle, which holds Stripe's own lines already. `restarted` rehearses
    one that Stripe finalizes as it makes it.
    """
    subscription = billing_queries.lock_subscription(
        unit.session, unit.organization.id, invoice.subscription_id
    )
    closed = Period(invoice.period_start_at, invoice.period_end_at)
    sold = closing_queries.sold(unit.session, subscription, closed)
    rated: list[RatedLine] = []
    there: Sequence[PendingCharge] = []
    # There is no later invoice for what was changed at the end itself.
    if invoice.kind == "final" and sold.extras.charges:
        there = change_queries.all_charges(unit.session, unit.organization.id, subscription.id)
    if invoice.kind == "cycle":
        rated += rating.recurring_lines(sold.items, next_period(sold, invoice))
    if drafted is not None and (found := prorations.on_invoice(drafted)):
        there = prorations.take_in(unit, subscription, found).charges
    if restarted or (drafted is not None and drafted.status != "draft"):
        # Stripe's own lines were finalized without us: they stand, the usage gets its own invoice.
        _bill_usage_apart(unit, subscription, closed)
        if drafted is not None:
            tax.take_from(unit, invoice, drafted)
    else:
        rated += usage_lines.usage_lines(unit, sold, invoice, closed)
        rated += usage_lines.late_lines(unit, sold, invoice)
        if closed.seconds:  # an adjustment at an instant closes nothing: the running period goes on
            subscription.usage_closed_until_at = max(subscription.usage_closed_until_at, closed.end)
    if there or sold.extras.charges:
        rated += prorations.change_lines(unit, subscription, invoice, there)
    built = _built(unit, sold, invoice, rated)
    rating.note_debits(sold.items, rated, built)
    if sold.extras.coupons:
        coupons.spend(unit, subscription, invoice, built)
    invoice_rows.fill(unit, invoice, rated, built)


def _bill_usage_apart(unit: TenantUnit, subscription: ProductSubscription, closed: Period) -> None:
    """The usage of a period whose invoice Stripe has finalized: on one of our own, once its window closes."""
    if not is_metered(unit, subscription):
        subscription.usage_closed_until_at = max(subscription.usage_closed_until_at, closed.end)
        return
    window = unit.settings.collection_window
    own = invoice_rows.draft(unit, subscription, "adjustment", closed, window)
    unit.enqueue("invoicing.bill", str(own.id), subject_id=own.id, due_at=own.window_closes_at)


def next_period(sold: Sold, invoice: Invoice) -> Period:
    """The period that a cycle invoice charges in advance: the one that begins where it closes."""
    begins_at, subscription = invoice.period_end_at, sold.subscription
    live = (each.price.interval for each in sold.items if rating.is_live(each.item, begins_at))
    return period_at(subscription.anchor_at, Interval(next(live, subscription.interval)), begins_at)


def _built(unit: TenantUnit, sold: Sold, invoice: Invoice, rated: Sequence[RatedLine]) -> InvoiceDraft:
    # Discounts belong to recurring charges, which only a cycle invoice carries.
    subscription, given = sold.subscription, list[Discount]()
    if invoice.kind == "cycle" and (subscription.discount_minor or sold.extras.coupons):
        given = coupons.discounts(unit, subscription, sold.items, invoice.period_end_at)
    none_yet = Money.zero(subscription.currency)  # credit is used when the invoice is finalized
    return build_invoice(
        [line.draft for line in rated], subscription.currency, given, tax.terms_of(unit, invoice), none_yet
    )


def recurring_draft(
    unit: TenantUnit,
    subscription: ProductSubscription,
    items: Sequence[BilledItem],
    rated: Sequence[RatedLine],
) -> InvoiceDraft:
    """Recurring lines after the discounts that a cycle invoice gives them now, before tax."""
    currency = subscription.currency
    given = coupons.discounts(unit, subscription, items, unit.now)
    return build_invoice([line.draft for line in rated], currency, given, None, Money.zero(currency))


def rehearsed(unit: TenantUnit, subscription: ProductSubscription, waiting: Invoice | None = None) -> Invoice:
    """The coming invoice as things stand. Only inside a rehearsal: it takes usage and charges.

    It is the draft `waiting` for its window to close, else that of the running period: the cycle's, or
    the final one of a subscription that ends. Raises: Conflict where none will come.
    """
    period = Period(subscription.current_period_start_at, subscription.current_period_end_at)
    kind = "final" if subscription.cancel_at_period_end else "cycle"
    if waiting is None and (subscription.ended_at is not None or subscription.status in _WITHOUT_INVOICES):
        raise Conflict(f"a subscription that is {subscription.status} has no coming invoice")
    if (
        waiting is None
        and kind == "final"
        and not (is_metered(unit, subscription) or is_changed(unit, subscription))
    ):
        raise Conflict("the subscription ends and will have no further invoice")
    invoice = waiting or invoice_rows.draft(unit, subscription, kind, period)
    rate_draft(unit, invoice, None)
    balance.rehearse(unit, invoice)
    return invoice


def rehearsed_restart(unit: TenantUnit, subscription: ProductSubscription) -> Invoice:
    """The invoice of an anchor that a rehearsed change has just set; Stripe makes and charges it at once."""
    closed = Period(subscription.usage_closed_until_at, subscription.anchor_at)
    invoice = invoice_rows.draft(unit, subscription, "cycle", closed)
    rate_draft(unit, invoice, None, restarted=True)
    balance.rehearse(unit, invoice)
    return invoice


def is_metered(unit: TenantUnit, subscription: ProductSubscription) -> bool:
    return any(
        billing_queries.metered_charges(unit.session, billed.plan.id, subscription.currency)
        for billed in billing_queries.billed_items(unit.session, unit.organization.id, subscription.id)
    )


def is_changed(unit: TenantUnit, subscription: ProductSubscription) -> bool:
    """Whether credits or charges of changes wait for an invoice that Stripe will not make any more."""
    charges = change_queries.all_charges(unit.session, unit.organization.id, subscription.id)
    return any(charge.invoice_id is None for charge in charges)
