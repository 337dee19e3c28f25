"""What Stripe says of an invoice, applied to ours: new drafts, first invoices, money in, ends."""

import logging
from datetime import datetime
from uuid import UUID

from billing.invoicing import InvoiceDraft, build_invoice, differences
from billing.lifecycles import INVOICE_MOVES, InvoiceStatus, move
from billing.money import Money
from billing.periods import Interval, Period, period_at
from gateway import translate
from gateway.translate import CreditNoteFacts, InvoiceFacts
from models import billing_queries, change_queries
from models.invoices import Invoice
from models.subscriptions import ProductSubscription
from models.work import ClaimedJob
from tasks import (
    balance,
    coupons,
    drafts,
    dunning_cases,
    following,
    invoice_rows,
    note_rows,
    payments,
    prorations,
    rating,
    subscriptions,
    tax,
)
from tasks.context import Context, TenantUnit
from tasks.queue import job

log = logging.getLogger("dunlin.mirroring")

_INSTANT = datetime.resolution
# The job that an adopted draft needs first.
TAKE_OVER = "invoicing.take_over"


@job("mirroring.observe_invoice", queue="stripe")
def observe_latest(context: Context, claimed: ClaimedJob) -> None:
    """Fetch and apply the first invoice of a subscription that has just been made."""
    with context.tenant(claimed.organization) as unit:
        subscription = unit.session.get_one(ProductSubscription, (claimed.organization, claimed.subject))
    fetched = context.gateway.fetch(
        "subscription",
        str(subscription.stripe_subscription_id),
        ["latest_invoice", "latest_invoice.payments"],
    )
    if latest := fetched.get("latest_invoice"):
        observe(context, claimed.organization, translate.invoice(latest))


def observe(context: Context, organization_id: UUID, facts: InvoiceFacts) -> None:
    """Apply Stripe's present state of an invoice. The caller holds the organization's lock."""
    paid = payments.settled(context, facts) if facts.status == "paid" else []
    failed = payments.failed(context, facts) if facts.status == "open" else None
    if facts.billing_reason == "subscription_update":
        facts = _with_its_cause(context, organization_id, facts)
    notes = _notes(context, facts)
    with context.tenant(organization_id) as unit:
        invoice = find(unit, facts)
        if invoice is None:
            invoice = _adopt(unit, facts)
        if invoice is None or invoice.status == "draft":
            return  # a draft moves on by its own job, which the adoption has started
        # Before the payment: what is due follows from them.
        for note in notes:
            note_rows.record(unit, invoice, note)
        if facts.status == "paid":
            payments.record_paid(unit, invoice, paid, facts.paid_at or unit.now)
        elif failed is not None and facts.billing_reason != "subscription_create":
            payments.record_outside_failure(unit, invoice, failed)
        else:
            record_end(unit, invoice, facts)


def _with_its_cause(context: Context, organization_id: UUID, facts: InvoiceFacts) -> InvoiceFacts:
    """An invoice that is new to us, whole; the change that made it may not have been told yet."""
    with context.tenant(organization_id) as unit:
        if find(unit, facts) is not None:
            return facts
    whole, changed = drafts.seen(context, facts.id)
    if changed is not None:
        subscriptions.observe(context, organization_id, changed)
        following.follow(context, organization_id, changed, whole)
    return whole


def _notes(context: Context, facts: InvoiceFacts) -> list[CreditNoteFacts]:
    """Stripe's credit notes of an invoice that has some, the oldest first."""
    if not facts.credited_minor:
        return []
    listed = context.gateway.list("credit_note", {"invoice": facts.id})
    return [translate.credit_note(each) for each in listed][::-1]


def find(unit: TenantUnit, facts: InvoiceFacts) -> Invoice | None:
    """Our row of Stripe's invoice: by its id, or by the row that our own request named."""
    found = billing_queries.invoice_by_stripe_id(unit.session, unit.organization.id, facts.id)
    if found is None and "invoice_id" in facts.metadata:
        found = unit.session.get(Invoice, (unit.organization.id, UUID(facts.metadata["invoice_id"])))
    return found


def _adopt(unit: TenantUnit, facts: InvoiceFacts) -> Invoice | None:
    """Make our row of an invoice that Stripe made by itself."""
    subscription = None
    if facts.subscription_id is not None:
        subscription = billing_queries.subscription_by_stripe_id(
            unit.session, unit.organization.id, facts.subscription_id
        )
    if subscription is not None and _is_restart(subscription, facts):
        return _adopt_restart(unit, subscription, facts)
    if subscription is not None and facts.billing_reason == "subscription_update":
        return _adopt_change(unit, subscription, facts)
    if subscription is None or facts.billing_reason not in ("subscription_create", "subscription_cycle"):
        log.warning("Stripe's invoice %s (%s) is none of ours", facts.id, facts.billing_reason)
        return None
    if facts.billing_reason == "subscription_create":
        return _adopt_first(unit, subscription, facts)
    return adopt_cycle(unit, subscription, facts)


def _is_restart(subscription: ProductSubscription, facts: InvoiceFacts) -> bool:
    """A pause has ended, or a longer interval begun: Stripe charged a whole period from a new anchor on."""
    starts = {line.period_start_at for line in facts.lines if not line.proration}
    moved = subscription.anchor_at > subscription.usage_closed_until_at
    return facts.billing_reason == "subscription_update" and moved and starts == {subscription.anchor_at}


def _adopt_restart(unit: TenantUnit, subscription: ProductSubscription, facts: InvoiceFacts) -> Invoice:
    """Our cycle invoice that closes everything before the new anchor."""
    closed = Period(subscription.usage_closed_until_at, subscription.anchor_at)
    invoice = invoice_rows.draft(unit, subscription, "cycle", closed)
    invoice.stripe_invoice_id = facts.id
    unit.enqueue(TAKE_OVER, str(invoice.id), subject_id=invoice.id)
    return invoice


def _adopt_change(unit: TenantUnit, subscription: ProductSubscription, facts: InvoiceFacts) -> Invoice:
    """A person had a change invoiced at once: Stripe's prorations, on a row of ours."""
    invoice = _own_row(unit, subscription, facts)
    taken = prorations.take_in(unit, subscription, prorations.on_invoice(facts))
    tax.take_from(unit, invoice, facts)
    rated = prorations.taken_lines(invoice, taken.charges)
    none_yet = Money.zero(subscription.currency)
    draft = build_invoice(
        [line.draft for line in rated], subscription.currency, (), tax.terms_of(unit, invoice), none_yet
    )
    invoice_rows.fill(unit, invoice, rated, draft)
    invoice.pushed_at = unit.now
    reason = _odd_lines(facts, taken) or disagreement(draft, facts)
    if facts.status == "draft":
        reason = "Stripe made it for a change by a person, and has not finalized it"
    if reason or (reason := balance.use(unit, invoice, facts)):
        invoice_rows.park(unit, invoice, reason)
    else:
        invoice_rows.number(unit, invoice)
    if facts.status in ("draft", "open"):
        unit.enqueue("payments.take_charge", str(invoice.id), subject_id=invoice.id)
    return invoice


def _own_row(unit: TenantUnit, subscription: ProductSubscription, facts: InvoiceFacts) -> Invoice:
    """A row of its own for an invoice that closes no period, however many are made in one second."""
    at = facts.created_at
    while billing_queries.invoice_for_period(unit.session, subscription, "adjustment", at) is not None:
        at += _INSTANT
    invoice = invoice_rows.draft(unit, subscription, "adjustment", Period(at, at))
    invoice.stripe_invoice_id, invoice.hosted_invoice_url = facts.id, facts.hosted_invoice_url
    return invoice


def _odd_lines(facts: InvoiceFacts, taken: prorations.Taken) -> str | None:
    """What stands on Stripe's invoice and is of nothing that we know, in a sentence."""
    odd = [line.description or line.id for line in facts.lines if not line.proration]
    odd += [each.description or each.id for each in taken.unknown]
    return f"Stripe charges for what is not known here: {'; '.join(odd)}" if odd else None


def adopt_cycle(unit: TenantUnit, subscription: ProductSubscription, facts: InvoiceFacts) -> Invoice | None:
    """Our draft for the period that Stripe's cycle invoice closes: one, however often it is seen."""
    closed = closed_period(unit, subscription, facts.period_end_at)
    if closed is None:
        return _adopt_strange(unit, subscription, facts)
    invoice = invoice_rows.draft(unit, subscription, "cycle", closed)
    invoice.stripe_invoice_id = facts.id
    unit.enqueue(TAKE_OVER, str(invoice.id), subject_id=invoice.id)
    return invoice


def _adopt_strange(
    unit: TenantUnit, subscription: ProductSubscription, facts: InvoiceFacts
) -> Invoice | None:
    """A draft of a period that we do not know: kept from finalizing itself, and a person looks at it."""
    log.error("Stripe's invoice %s ends at no boundary of subscription %s", facts.id, subscription.id)
    invoice = _own_row(unit, subscription, facts)
    invoice_rows.park(
        unit, invoice, f"Stripe closes a period on {facts.period_end_at:%Y-%m-%d %H:%M} that is not ours"
    )
    unit.enqueue("payments.take_charge", str(invoice.id), subject_id=invoice.id)
    return invoice


def closed_period(
    unit: TenantUnit, subscription: ProductSubscription, boundary_at: datetime
) -> Period | None:
    """The usage period that ends at a boundary, from our own anchor; None when it is no boundary."""
    interval = change_queries.interval_at(unit.session, subscription, boundary_at - _INSTANT)
    return period_closed(subscription, interval, boundary_at)


def period_closed(
    subscription: ProductSubscription, interval: Interval, boundary_at: datetime
) -> Period | None:
    """The same, of a subscription that was charged by this interval just before the boundary."""
    if boundary_at == subscription.trial_end_at:
        return Period(subscription.started_at, boundary_at)
    if (
        boundary_at <= subscription.anchor_at
        or period_at(subscription.anchor_at, interval, boundary_at).start != boundary_at
    ):
        return None
    previous = period_at(subscription.anchor_at, interval, boundary_at - _INSTANT)
    return Period(max(previous.start, subscription.started_at), boundary_at)


def _adopt_first(unit: TenantUnit, subscription: ProductSubscription, facts: InvoiceFacts) -> Invoice:
    """The invoice that Stripe finalized when the subscription began: compared, then numbered."""
    period = Period(subscription.started_at, subscription.trial_end_at or subscription.current_period_end_at)
    in_trial = subscription.trial_end_at is not None
    lines = rating.trial_lines if in_trial else rating.recurring_lines
    items = billing_queries.billed_items(unit.session, unit.organization.id, subscription.id)
    rated = lines(items, period)
    invoice = invoice_rows.draft(
        unit, subscription, "first", Period(subscription.started_at, subscription.started_at)
    )
    tax.take_from(unit, invoice, facts)
    draft = build_invoice(
        [line.draft for line in rated],
        subscription.currency,
        coupons.discounts(unit, subscription, items, subscription.started_at),
        tax.terms_of(unit, invoice),
        Money.zero(subscription.currency),
    )
    invoice.stripe_invoice_id = facts.id
    invoice.hosted_invoice_url = facts.hosted_invoice_url
    invoice_rows.fill(unit, invoice, rated, draft)
    coupons.spend(unit, subscription, invoice, draft)
    rating.note_debits(items, rated, draft)
    invoice.pushed_at = unit.now
    if difference := disagreement(draft, facts) or balance.use(unit, invoice, facts):
        invoice_rows.park(unit, invoice, difference)
    else:
        invoice_rows.number(unit, invoice)
    return invoice


def disagreement(draft: InvoiceDraft, facts: InvoiceFacts) -> str | None:
    """How Stripe's figures differ from ours, in a sentence; None when they agree to the minor unit."""
    return differences(draft, Money(facts.total_minor, facts.currency))


def record_end(unit: TenantUnit, invoice: Invoice, facts: InvoiceFacts) -> None:
    """Voided or given up, by us or by a person in Stripe's dashboard."""
    if facts.status not in ("void", "uncollectible") or invoice.status == facts.status:
        return
    invoice.status = move(INVOICE_MOVES, InvoiceStatus(invoice.status), InvoiceStatus(facts.status)).value
    invoice.closed_at = facts.voided_at or unit.now
    if invoice.status == "void":
        balance.give_back(unit, invoice)
    case = billing_queries.dunning_case(unit.session, invoice)
    if case is not None and case.state == "open":
        dunning_cases.close(unit, case, "stopped", f"the invoice is {facts.status}")
