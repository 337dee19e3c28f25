"""Collecting an invoice, and recording money in. `invoice.paid` alone is money in."""

from contextlib import suppress
from datetime import datetime
from uuid import UUID

from billing.dunning import Decline
from billing.keys import stripe_key
from billing.lifecycles import INVOICE_MOVES, InvoiceStatus, move
from gateway import requests, translate
from gateway.errors import Declined, Refused
from gateway.translate import InvoiceFacts, PaymentFacts, PaymentIntentFacts
from models import billing_queries, credit_note_queries
from models.base import new_id
from models.invoices import Invoice, Payment
from models.work import ClaimedJob
from tasks import dunning_cases, invoice_rows, notifications
from tasks.context import Context, TenantUnit
from tasks.queue import TryLater, job
from tasks.stripe_calls import call, first_said

# Nothing that a bank said: there was no card to ask it about.
_NO_CARD = Decline(code="no_payment_method", decline_code=None, advice_code="do_not_try_again")
_UNFINISHED = ("pending", "unknown")
# What came in and went back later did come in.
_MONEY_IN = ("succeeded", "refunded")


@job("payments.collect", queue="stripe")
def collect_invoice(context: Context, claimed: ClaimedJob) -> None:
    """Attempt an open invoice once; who asks for it again must bring another job."""
    collect(context, claimed, claimed.subject)


@job("payments.take_charge", queue="stripe")
def take_charge(context: Context, claimed: ClaimedJob) -> None:
    """Keep Stripe from collecting what it made for a person; one that stands open is ours to collect."""
    with context.tenant(claimed.organization) as unit:
        invoice = invoice_rows.find(unit, claimed.subject)
    request = requests.stop_collection(str(invoice.stripe_invoice_id))
    with suppress(Refused):  # paid or taken back in the meantime: nothing is left to stop
        call(context, request, stripe_key("stop_collection", invoice.id), claimed.organization)
    with context.tenant(claimed.organization) as unit:
        untried = not billing_queries.payments(unit.session, invoice)
    if untried:
        collect(context, claimed, invoice.id)


def collect(context: Context, claimed: ClaimedJob, invoice_id: UUID, retry: int | None = None) -> None:
    """The one payment attempt of a job. The caller holds the organization's lock.

    The attempt's row is committed first, has the job's id, and names the idempotency key: a job that died
    between here and the bank's answer goes on with the same attempt, and one that died after it makes no
    other. `retry` is the number of a scheduled dunning retry, which is used up with the attempt.
    """
    with context.tenant(claimed.organization) as unit:
        invoice = invoice_rows.find(unit, invoice_id)
        made = unit.session.get(Payment, (claimed.organization, claimed.id))
        if made is not None and made.status not in _UNFINISHED:
            return  # the bank has answered this job, and is not asked twice
        payment = _attempt(unit, invoice, claimed.id, retry)
    if payment is not None:
        carry_out(context, invoice, payment, requests.pay_invoice(str(invoice.stripe_invoice_id)))


def carry_out(
    context: Context, invoice: Invoice, payment: Payment, request: requests.Request
) -> Declined | None:
    """Make an attempt whose row is there, or go on with it as it was first meant, and record what came of it.

    Returns the bank's refusal, None for money in. The caller holds the organization's lock.
    """
    organization_id, invoice_id = invoice.organization_id, invoice.id
    key = stripe_key("pay", invoice_id, payment.attempt)
    try:
        reply = call(context, first_said(context, request, key), key, organization_id)
    except Declined as declined:
        decline = Decline(declined.code, declined.decline_code, declined.advice_code)
        _record_failure(context, payment, decline, declined.payment_intent_id, declined.message)
        return declined
    except Refused as refusal:
        # Somebody paid it in the meantime, on Stripe's page perhaps: what Stripe has now decides.
        reply = context.gateway.fetch("invoice", str(invoice.stripe_invoice_id), ["payments"])
        if reply["status"] != "paid":
            if payment.demanded:
                _record_refusal(context, payment, refusal)
            raise
    facts = translate.invoice(reply)
    paid = [made for made in translate.payments_of(reply) if made.status == "paid"] or settled(context, facts)
    with context.tenant(organization_id) as unit:
        record_paid(unit, invoice_rows.find(unit, invoice_id), paid, facts.paid_at or unit.now)
    return None


def unfinished(unit: TenantUnit, invoice: Invoice) -> Payment | None:
    """The attempt whose outcome is not known yet: nothing may be asked of the bank beside it."""
    made = billing_queries.payments(unit.session, invoice)
    return made[-1] if made and made[-1].status in _UNFINISHED else None


def _attempt(unit: TenantUnit, invoice: Invoice, job_id: UUID, retry: int | None) -> Payment | None:
    """The attempt to make now: the unfinished one, or a new one; None when there is nothing to collect."""
    if invoice.status != "open" or invoice.parked_at is not None or unit.organization.parked_at is not None:
        return None
    if (begun := unfinished(unit, invoice)) is not None:
        return begun
    if credit_note_queries.pending_of(unit.session, invoice) is not None:
        raise TryLater("a credit note of this invoice is under way: what is due is not known yet")
    case = billing_queries.dunning_case(unit.session, invoice)
    if case is not None and case.state == "stopped":
        return None  # a cancellation ended the pursuit: the customer may still pay, we do not charge
    if retry is not None:
        if case is None or case.retries_done >= retry:
            return None
        case.retries_done, case.next_attempt_at = retry, None
    payment = new_payment(unit, invoice, job_id)
    if not has_card(unit):
        _fail(unit, payment, _NO_CARD, "there is no payment method")
        dunning_cases.record_failure(unit, invoice, payment, _NO_CARD)
        return None
    return payment


def has_card(unit: TenantUnit) -> bool:
    """Whether there is a default card to ask for money."""
    cards = billing_queries.payment_methods(unit.session, unit.organization.id)
    return any(card.is_default for card in cards)


def new_payment(
    unit: TenantUnit, invoice: Invoice, asked_as: UUID | None = None, *, demanded: bool = False
) -> Payment:
    """The row of the next attempt, of all that is due, with the id of what asked for it: a job, a demand."""
    payment = Payment(
        organization_id=unit.organization.id,
        id=asked_as or new_id(),
        invoice_id=invoice.id,
        attempt=len(billing_queries.payments(unit.session, invoice)) + 1,
        amount_minor=invoice.due_minor,
        demanded=demanded,
        currency=invoice.currency,
        status="pending",
        attempted_at=unit.now,
    )
    unit.session.add(payment)
    unit.session.flush()
    return payment


def _record_failure(
    context: Context, attempted: Payment, decline: Decline, intent_id: str | None, message: str
) -> None:
    with context.tenant(attempted.organization_id) as unit:
        payment = unit.session.get_one(
            Payment, (attempted.organization_id, attempted.id), populate_existing=True
        )
        if payment.status not in _UNFINISHED:
            return
        payment.stripe_payment_intent_id = intent_id
        _fail(unit, payment, decline, message)
        dunning_cases.record_failure(unit, invoice_rows.find(unit, payment.invoice_id), payment, decline)


def _record_refusal(context: Context, attempted: Payment, refusal: Refused) -> None:
    """What a person asked for could not be tried: the attempt is over, and dunning learns nothing of it."""
    with context.tenant(attempted.organization_id) as unit:
        payment = unit.session.get_one(Payment, (attempted.organization_id, attempted.id))
        if payment.status in _UNFINISHED:
            _fail(unit, payment, Decline(refusal.code, None, None), refusal.message)


def _fail(unit: TenantUnit, payment: Payment, decline: Decline, message: str) -> None:
    payment.status, payment.settled_at = "failed", unit.now
    payment.decline_code = decline.decline_code or decline.code
    payment.decline_message = message
    unit.session.flush()


def settled(context: Context, facts: InvoiceFacts) -> list[PaymentFacts]:
    """The payments at Stripe that paid this invoice; none for one of zero, or paid out of band."""
    listed = context.gateway.list("invoice_payment", {"invoice": facts.id, "status": "paid"})
    return [translate.payment(found) for found in listed]


def failed(context: Context, facts: InvoiceFacts) -> PaymentIntentFacts | None:
    """The last failed attempt that Stripe itself made on this open invoice; None when there is none."""
    for found in context.gateway.list("invoice_payment", {"invoice": facts.id}):
        intent_id = translate.payment(found).payment_intent_id
        if intent_id is not None:
            intent = translate.payment_intent(context.gateway.fetch("payment_intent", intent_id))
            return intent if intent.decline is not None else None
    return None


def record_paid(unit: TenantUnit, invoice: Invoice, paid: list[PaymentFacts], paid_at: datetime) -> None:
    """Money in: Stripe's payments become ours, the invoice is paid, its pursuit ends. Repeatable."""
    for facts in paid:
        _settle(unit, invoice, facts, paid_at)
    if invoice.status == "paid":
        return
    if not paid and invoice.due_minor:
        _record_outside(unit, invoice, paid_at)
    credited = invoice.total_minor > 0 and invoice.due_minor == 0  # by notes alone: no money came in
    invoice.status = move(INVOICE_MOVES, InvoiceStatus(invoice.status), InvoiceStatus.paid).value
    invoice.paid_minor = invoice.total_minor - invoice.reduced_minor
    invoice.paid_at = invoice.closed_at = paid_at
    case = billing_queries.dunning_case(unit.session, invoice)
    is_pursued = case is not None and case.state == "open"
    told = invoice_rows.invoice_content(invoice)
    # Who was pursued is thanked once, by the mail that ends it.
    thanked = invoice.paid_minor > 0 and not is_pursued
    notifications.write(unit, "invoice.paid", str(invoice.id), told, by_mail=thanked)
    if case is None or not is_pursued:
        return
    if credited:
        dunning_cases.close(unit, case, "stopped", "credit notes took off all that was due")
    else:
        dunning_cases.close(unit, case, "recovered", "the invoice is paid")


def _record_outside(unit: TenantUnit, invoice: Invoice, paid_at: datetime) -> None:
    """Money that did not come through Stripe: a payment without an intent."""
    payment = unfinished(unit, invoice) or new_payment(unit, invoice)
    payment.status, payment.settled_at = "succeeded", paid_at


def _settle(unit: TenantUnit, invoice: Invoice, facts: PaymentFacts, paid_at: datetime) -> None:
    """Find the attempt that Stripe's payment was, or record one that was made without us."""
    made = billing_queries.payments(unit.session, invoice)
    if any(
        row.status in _MONEY_IN and row.stripe_payment_intent_id == facts.payment_intent_id for row in made
    ):
        return
    payment = unfinished(unit, invoice) or new_payment(unit, invoice)
    payment.status, payment.settled_at = "succeeded", paid_at
    payment.amount_minor = facts.amount_paid_minor
    payment.stripe_payment_intent_id = facts.payment_intent_id
    unit.session.flush()


def record_outside_failure(unit: TenantUnit, invoice: Invoice, intent: PaymentIntentFacts) -> None:
    """A failed attempt that Stripe made by itself; nothing to do when the attempts are ours."""
    if intent.decline is None or billing_queries.payments(unit.session, invoice):
        return
    payment = new_payment(unit, invoice)
    payment.stripe_payment_intent_id = intent.id
    decline = Decline(intent.decline.code, intent.decline.decline_code, intent.decline.advice_code)
    _fail(unit, payment, decline, "declined at Stripe's own attempt")
    dunning_cases.record_failure(unit, invoice, payment, decline)
