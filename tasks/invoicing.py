"""The life of a draft: take over, close the window, rate, push, compare, finalize.

Every step looks at what is already done, so a job that died anywhere goes on from there.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from billing.keys import stripe_key
from billing.periods import Period
from gateway import requests, translate
from gateway.errors import Refused
from gateway.translate import InvoiceFacts, SubscriptionFacts
from models import billing_queries, change_queries
from models.invoices import Invoice, InvoiceLine
from models.subscriptions import ProductSubscription
from models.work import ClaimedJob
from tasks import (
    adjusting,
    balance,
    drafting,
    drafts,
    finishing,
    following,
    invoice_rows,
    mirroring,
    payments,
    prorations,
    subscriptions,
    tax,
)
from tasks.context import Context
from tasks.queue import TryLater, job
from tasks.stripe_calls import call

# Stripe's own lines carry these charges on a cycle draft; everything else we add.
_STRIPES_OWN = ("recurring", "seats", "proration")
_ANOTHER_RHYTHM = "at Stripe a person gave the subscription another rhythm: no period ends there"


@job("invoicing.close_period", queue="invoicing")
def close_period(context: Context, claimed: ClaimedJob) -> None:
    """The period is over: find the draft that Stripe made for it, should its webhook be lost."""
    with context.tenant(claimed.organization) as unit:
        subscription = unit.session.get_one(ProductSubscription, (claimed.organization, claimed.subject))
        boundary_at = subscriptions.boundary_of(claimed)
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
    except Refused as refused:
        if refused.code == "resource_missing":
            drafts.park(context, claimed.organization, invoice.id, "its draft was deleted at Stripe")
            return
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
        if not drafting.is_metered(unit, subscription) and not drafting.is_changed(unit, subscription):
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
            drafting.rate_draft(unit, invoice_rows.find(unit, invoice_id), drafted)
    try:
        facts = _pushed(context, claimed)
    except Refused as refused:  # a person has deleted or finalized it in these very seconds
        drafts.park(context, organization_id, invoice_id, f"Stripe refused its lines: {refused.message}")
        return
    with context.tenant(organization_id) as unit:
        invoice = invoice_rows.find(unit, invoice_id)
        if (sentence := finishing.disagreement(invoice, facts)) is not None:
            invoice_rows.park(unit, invoice, sentence)
            return
    _finalize(context, claimed, facts)


def _pushed(context: Context, claimed: ClaimedJob) -> InvoiceFacts:
    """Put what Stripe does not have yet on its draft. Returns the draft as Stripe then has it."""
    organization_id, invoice_id = claimed.organization, claimed.subject
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
    facts = push_lines(context, invoice, lines) if invoice.pushed_at is None else None
    with context.tenant(organization_id) as unit:
        invoice_rows.find(unit, invoice_id).pushed_at = unit.now
    if facts is not None and claimed.is_first_try:
        return facts
    return translate.invoice(context.gateway.fetch("invoice", str(invoice.stripe_invoice_id)))


def push_lines(context: Context, invoice: Invoice, lines: Sequence[InvoiceLine]) -> InvoiceFacts | None:
    """Put the lines on Stripe's draft that it did not make itself. Returns it with them; None for none."""
    added = [line for line in lines if invoice.kind != "cycle" or line.kind not in _STRIPES_OWN]
    if not added:
        return None
    request = requests.add_lines(str(invoice.stripe_invoice_id), [_stripe_line(line) for line in added])
    key = invoice_rows.intention(invoice, "lines")
    return translate.invoice(call(context, request, key, invoice.organization_id))


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


def _finalize(context: Context, claimed: ClaimedJob, facts: InvoiceFacts) -> None:
    """Finalize at Stripe, then here; an invoice of nothing is paid by that, any other is collected."""
    organization_id, invoice_id = claimed.organization, claimed.subject
    if facts.status == "draft":
        balance.tell(context, organization_id)
        with context.tenant(organization_id) as unit:
            key = invoice_rows.intention(invoice_rows.find(unit, invoice_id), "finalize")
        try:
            reply = call(context, requests.finalize_invoice(facts.id), key, organization_id)
        except Refused as refused:
            # A person may have been quicker: what Stripe has now decides.
            reply = context.gateway.fetch("invoice", facts.id)
            if reply["status"] == "draft":
                drafts.park(context, organization_id, invoice_id, f"Stripe refused it: {refused.message}")
                return
        else:
            if not claimed.is_first_try:  # an answer of some time ago, perhaps
                reply = context.gateway.fetch("invoice", facts.id)
        facts = translate.invoice(reply)
    paid = payments.settled(context, facts) if facts.status == "paid" else []
    with context.tenant(organization_id) as unit:
        finishing.finish(unit, invoice_rows.find(unit, invoice_id), facts, paid)
