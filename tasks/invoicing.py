"""The life of a draft: take over, close the window, rate, push, compare, finalize.

Every step looks at what is already done, so a job that died anywhere goes on from there.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from billing.discounts import Discount
from billing.errors import Conflict
from billing.invoicing import InvoiceDraft, build_invoice
from billing.keys import stripe_key
from billing.money import Money, format_money
from billing.periods import Interval, Period, period_at
from gateway import requests, translate
from gateway.errors import Refused
from gateway.translate import InvoiceFacts, PaymentFacts, SubscriptionFacts
from models import billing_queries, change_queries, closing_queries
from models.billing_queries import BilledItem
from models.closing_queries import Sold
from models.invoices import Invoice, InvoiceLine
from models.subscriptions import PendingCharge, ProductSubscription
from models.work import ClaimedJob
from tasks import (
    adjusting,
    balance,
    coupons,
    drafts,
    following,
    invoice_rows,
    mirroring,
    payments,
    prorations,
    rating,
    subscriptions,
    tax,
)
from tasks.context import Context, TenantUnit
from tasks.queue import TryLater, job
from tasks.rating import RatedLine
from tasks.stripe_calls import call

# Stripe's own lines carry these charges on a cycle draft; everything else we add.
_STRIPES_OWN = ("recurring", "seats", "proration")
_WITHOUT_INVOICES = ("incomplete", "incomplete_expired", "paused", "cancelled")
_ANOTHER_RHYTHM = "at Stripe a person gave the subscription another rhythm: no period ends there"


@job("invoicing.close_period", queue="invoicing")
def close_period(context: Context, claimed: ClaimedJob) -> None:
    """The period is over: find the draft that Stripe made for it, should its webhook be lost."""
    with context.tenant(claimed.organization) as unit:
        subscription = unit.session.get_one(ProductSubscription, (claimed.organization, claimed.subject))
        boundary_at = claimed.due_at
        period = mirroring.closed_period(unit, subscription, boundary_at)
        known = period and billing_queries.invoice_for_period(
            unit.session, subscription, "cycle", period.start
        )
    if subscription.ended_at is not None or known:
        return
    found = drafts.of_period(context, str(subscription.stripe_subscription_id), boundary_at)
    if found is not None:
        mirroring.observe(context, claimed.organization, found)
        return
    fetched = context.gateway.fetch("subscription", str(subscription.stripe_subscription_id))
    if period is None or fetched["status"] in ("canceled", "paused", "incomplete_expired"):
        return  # without a period the anchor has moved since: nothing ends here any more
    facts = translate.subscription(fetched)
    if facts.trial_end_at != subscription.trial_end_at:  # moved by a person, and nobody has told us yet
        subscriptions.observe(context, claimed.organization, facts)
        return
    if _ends(facts, boundary_at):
        raise TryLater(f"Stripe has no draft for the period that ended at {boundary_at:%Y-%m-%d %H:%M} yet")
    with context.tenant(claimed.organization) as unit:
        invoice = invoice_rows.draft(unit, subscription, "cycle", period)
        invoice_rows.park(unit, invoice, _ANOTHER_RHYTHM)


def _ends(facts: SubscriptionFacts, boundary_at: datetime) -> bool:
    """Whether a period of some item ended at an instant, or has still to end."""
    return any(
        item.period_start_at >= boundary_at or item.period_end_at <= boundary_at for item in facts.items
    )


@job("invoicing.take_over", queue="stripe")
def take_over(context: Context, claimed: ClaimedJob) -> None:
    """Before anything else, keep Stripe from finalizing and charging the draft by itself."""
    tax.ensure_default(context)
    with context.tenant(claimed.organization) as unit:
        invoice = invoice_rows.find(unit, claimed.subject)
        rates = tax.stripe_ids(unit, invoice.tax_rate_id)
    request = requests.take_over_invoice(str(invoice.stripe_invoice_id), rates)
    missed = False
    try:
        call(context, request, stripe_key("take_over", invoice.id), claimed.organization)
    except Refused:
        # Too late: Stripe finalized it. `bill` puts the usage on an invoice of its own, so this one waits
        # for nothing.
        missed = True
    with context.tenant(claimed.organization) as unit:
        invoice = invoice_rows.find(unit, invoice.id)
        if invoice.rated_at is None:
            window = timedelta(0) if missed else context.settings.collection_window
            invoice.window_closes_at = invoice.period_end_at + window
        unit.enqueue(
            "invoicing.bill", str(invoice.id), subject_id=invoice.id, due_at=invoice.window_closes_at
        )


@job("invoicing.close_final_period", queue="invoicing")
def close_final_period(context: Context, claimed: ClaimedJob) -> None:
    """The subscription has ended: its last usage goes on an invoice that we build ourselves."""
    with context.tenant(claimed.organization) as unit:
        subscription = unit.session.get_one(ProductSubscription, (claimed.organization, claimed.subject))
        assert subscription.ended_at is not None
        customer_id = str(unit.organization.stripe_customer_id)
    waiting = prorations.waiting(context, customer_id, str(subscription.stripe_subscription_id))
    with context.tenant(claimed.organization) as unit:
        subscription = billing_queries.lock_subscription(unit.session, unit.organization.id, subscription.id)
        assert subscription.ended_at is not None
        prorations.take_in(unit, subscription, waiting)
        if not _is_metered(unit, subscription) and not _is_changed(unit, subscription):
            return
        period = Period(subscription.current_period_start_at, subscription.ended_at)
        window = context.settings.collection_window
        invoice = invoice_rows.draft(unit, subscription, "final", period, window)
        unit.enqueue(
            "invoicing.bill", str(invoice.id), subject_id=invoice.id, due_at=invoice.window_closes_at
        )


@job("invoicing.bill_late_usage", queue="invoicing")
def bill_late_usage(context: Context, claimed: ClaimedJob) -> None:
    """Late usage of a subscription that will have no further invoice: one of our own."""
    with context.tenant(claimed.organization) as unit:
        subscription = unit.session.get_one(ProductSubscription, (claimed.organization, claimed.subject))
        adjusting.bill_waiting(unit, subscription, claimed.due_at)


@job("invoicing.bill", queue="invoicing")
def bill(context: Context, claimed: ClaimedJob) -> None:
    """Rate a draft, put it on Stripe, compare both totals, finalize, and have it collected."""
    organization_id, invoice_id = claimed.organization, claimed.subject
    with context.tenant(organization_id) as unit:
        invoice = invoice_rows.find(unit, invoice_id)
        if (
            invoice.status != "draft"
            or invoice.parked_at is not None
            or unit.organization.parked_at is not None
        ):
            return
        if change_queries.has_unfinished_change(
            unit.session, organization_id, invoice.subscription_id, unit.now
        ):
            raise TryLater("a change of the subscription is being made", timedelta(seconds=2))
    drafted = None
    if invoice.kind == "cycle" and invoice.rated_at is None:
        drafted, subscription = drafts.seen(context, str(invoice.stripe_invoice_id))
        if subscription is not None:
            following.follow(context, organization_id, subscription, drafted)
        if subscription is not None and subscription.collection_paused:
            drafts.park(context, organization_id, invoice_id, "a person paused its collection at Stripe")
            return
    with context.tenant(organization_id) as unit:
        if invoice.rated_at is None:
            rate_draft(unit, invoice_rows.find(unit, invoice_id), drafted)
    try:
        facts = _pushed(context, organization_id, invoice_id)
    except Refused as refused:  # a person has deleted or finalized it in these very seconds
        drafts.park(context, organization_id, invoice_id, f"Stripe refused its lines: {refused.message}")
        return
    with context.tenant(organization_id) as unit:
        invoice = invoice_rows.find(unit, invoice_id)
        if (sentence := disagreement(invoice, facts)) is not None:
            invoice_rows.park(unit, invoice, sentence)
            return
    _finalize(context, organization_id, invoice_id, facts)


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
        rated += rating.recurring_lines(sold.items, _next_period(sold, invoice))
    if drafted is not None and (found := prorations.on_invoice(drafted)):
        there = prorations.take_in(unit, subscription, found).charges
    if restarted or (drafted is not None and drafted.status != "draft"):
        # Stripe's own lines were finalized without us: they stand, the usage gets its own invoice.
        _bill_usage_apart(unit, subscription, closed)
        if drafted is not None:
            tax.take_from(unit, invoice, drafted)
    else:
        rated += rating.usage_lines(unit, sold, invoice, closed)
        rated += rating.late_lines(unit, sold, invoice)
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
    if not _is_metered(unit, subscription):
        subscription.usage_closed_until_at = max(subscription.usage_closed_until_at, closed.end)
        return
    window = unit.settings.collection_window
    own = invoice_rows.draft(unit, subscription, "adjustment", closed, window)
    unit.enqueue("invoicing.bill", str(own.id), subject_id=own.id, due_at=own.window_closes_at)


def _next_period(sold: Sold, invoice: Invoice) -> Period:
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
        and not (_is_metered(unit, subscription) or _is_changed(unit, subscription))
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


def _pushed(context: Context, organization_id: UUID, invoice_id: UUID) -> InvoiceFacts:
    """Put what Stripe does not have yet on its draft. Returns the draft as Stripe then has it."""
    with context.tenant(organization_id) as unit:
        invoice = invoice_rows.find(unit, invoice_id)
        lines = billing_queries.lines(unit.session, invoice)
        tax_rates = tax.stripe_ids(unit, invoice.tax_rate_id)
        customer_id = str(unit.organization.stripe_customer_id)
    if invoice.stripe_invoice_id is None:
        metadata = {"invoice_id": str(invoice_id), "kind": invoice.kind}
        request = requests.create_invoice(customer_id, invoice.currency, metadata, tax_rates)
        made = call(context, request, invoice_rows.intention(invoice, "invoice"), organization_id)
        with context.tenant(organization_id) as unit:
            invoice = invoice_rows.find(unit, invoice_id)
            invoice.stripe_invoice_id = str(made["id"])
    added = [line for line in lines if invoice.kind != "cycle" or line.kind not in _STRIPES_OWN]
    if added and invoice.pushed_at is None:
        request = requests.add_lines(str(invoice.stripe_invoice_id), [_stripe_line(line) for line in added])
        call(context, request, invoice_rows.intention(invoice, "lines"), organization_id)
    with context.tenant(organization_id) as unit:
        invoice_rows.find(unit, invoice_id).pushed_at = unit.now
    return translate.invoice(context.gateway.fetch("invoice", str(invoice.stripe_invoice_id)))


def _stripe_line(line: InvoiceLine) -> requests.Line:
    if waits := (line.explanation.get("proration") or {}).get("stripe_invoice_item"):
        return {"invoice_item": str(waits)}  # it has waited there for an invoice
    return {
        "description": line.description,
        "amount_minor": line.amount_minor,
        "period_start": int(line.period_start_at.timestamp()),
        "period_end": int(line.period_end_at.timestamp()),
        "discountable": line.discountable,
        "metadata": {"line_id": str(line.id)},
    }


def disagreement(invoice: Invoice, facts: InvoiceFacts) -> str | None:
    """How Stripe's total differs from ours, in a sentence; None when they agree to the minor unit."""
    # Stripe's total is the one before credit is used.
    ours = Money(invoice.total_minor + invoice.credit_minor, invoice.currency)
    stripes = Money(facts.total_minor, facts.currency)
    if ours == stripes:
        return None
    added = [
        f"{line.description or line.id} ({format_money(Money(line.amount_minor, facts.currency))})"
        for line in facts.lines
        if "line_id" not in line.metadata and not (line.proration or line.subscription_item_id)
    ]
    why = f"; a person added there: {'; '.join(added)}" if added else ""
    return f"our total is {format_money(ours)}, Stripe's is {format_money(stripes)}{why}"


def _finalize(context: Context, organization_id: UUID, invoice_id: UUID, facts: InvoiceFacts) -> None:
    """Finalize at Stripe, then here; an invoice of nothing is paid by that, any other is collected."""
    if facts.status == "draft":
        balance.tell(context, organization_id)
        with context.tenant(organization_id) as unit:
            key = invoice_rows.intention(invoice_rows.find(unit, invoice_id), "finalize")
        try:
            call(context, requests.finalize_invoice(facts.id), key, organization_id)
        except Refused as refused:
            # A person may have been quicker: what Stripe has now decides.
            if context.gateway.fetch("invoice", facts.id)["status"] == "draft":
                drafts.park(context, organization_id, invoice_id, f"Stripe refused it: {refused.message}")
                return
        facts = translate.invoice(context.gateway.fetch("invoice", facts.id))
    paid = payments.settled(context, facts) if facts.status == "paid" else []
    with context.tenant(organization_id) as unit:
        finish(unit, invoice_rows.find(unit, invoice_id), facts, paid)


def finish(unit: TenantUnit, invoice: Invoice, facts: InvoiceFacts, paid: list[PaymentFacts]) -> None:
    """Finalize here what Stripe has finalized: its credit, its number, its seal; then it is collected."""
    invoice.hosted_invoice_url = facts.hosted_invoice_url
    if (sentence := balance.use(unit, invoice, facts)) is not None:
        invoice_rows.park(unit, invoice, sentence)
        return
    invoice_rows.number(unit, invoice)
    if facts.status == "paid":
        payments.record_paid(unit, invoice, paid, facts.paid_at or unit.now)
    elif facts.status == "open":
        unit.enqueue("payments.collect", f"{invoice.id}:first", subject_id=invoice.id)
    else:
        mirroring.record_end(unit, invoice, facts)  # a person was quicker, and took it back


def _is_metered(unit: TenantUnit, subscription: ProductSubscription) -> bool:
    return any(
        billing_queries.metered_charges(unit.session, billed.plan.id, subscription.currency)
        for billed in billing_queries.billed_items(unit.session, unit.organization.id, subscription.id)
    )


def _is_changed(unit: TenantUnit, subscription: ProductSubscription) -> bool:
    """Whether credits or charges of changes wait for an invoice that Stripe will not make any more."""
    charges = change_queries.all_charges(unit.session, unit.organization.id, subscription.id)
    return any(charge.invoice_id is None for charge in charges)
