"""What staff do to an issued invoice that is not paid: void it, write it off, have it paid now.

Each looks first at what Stripe has: the customer may have paid there a moment ago. All of it happens under
the organization's lock, so that no dunning attempt runs beside it.
"""

from dataclasses import dataclass, field
from typing import Literal
from uuid import UUID

from billing.dunning import Decline
from billing.errors import Conflict, NotFound, RefusedTransition, UnderWay
from billing.keys import stripe_key
from billing.lifecycles import INVOICE_MOVES, InvoiceStatus, move
from gateway import requests, translate
from gateway.errors import Declined
from models import billing_queries, credit_note_queries
from models.base import new_id
from models.invoices import Invoice, Payment
from models.subscriptions import ProductSubscription
from models.work import ClaimedJob
from tasks import audit, invoice_rows, mirroring, payments
from tasks.context import Context, TenantUnit
from tasks.credit_notes import find_invoice
from tasks.queue import job
from tasks.stripe_calls import call, is_begun

_UNPAID = ("open", "uncollectible")
_REQUESTS = {
    InvoiceStatus.void: requests.void_invoice,
    InvoiceStatus.uncollectible: requests.mark_uncollectible,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentTerms:
    """How to pay: with a card of ours by its id, None for the default one; or out of band.

    `id` names the demand: a repeat goes on with the attempt that it made.
    """

    payment_method_id: UUID | None = None
    out_of_band: bool = False
    id: UUID = field(default_factory=new_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentResult:
    """How a demanded payment ended: `paid`, `declined` (by the bank's code) or `needs_action`.

    The customer acts on `hosted_invoice_url`, where the invoice may also be paid with another card.
    """

    result: Literal["paid", "declined", "needs_action"]
    decline_code: str | None = None
    message: str | None = None
    hosted_invoice_url: str | None = None


def void(context: Context, organization_id: UUID, invoice_id: UUID, actor: str) -> Invoice:
    """Take an unpaid invoice back for ever: it is not owed. A repeat changes nothing.

    Its number stays, its usage stays rated by it and is not billed again; credit that it used is there
    again, and its dunning stops. Raises: NotFound; RefusedTransition, Conflict where it cannot be voided.
    """
    return _closed(context, organization_id, invoice_id, InvoiceStatus.void, actor)


def write_off(context: Context, organization_id: UUID, invoice_id: UUID, actor: str) -> Invoice:
    """Give up collecting an open invoice; it is still owed and can be paid. A repeat changes nothing.

    Access stays what an unpaid invoice leaves. Raises: NotFound, RefusedTransition, Conflict.
    """
    return _closed(context, organization_id, invoice_id, InvoiceStatus.uncollectible, actor)


def _closed(
    context: Context, organization_id: UUID, invoice_id: UUID, target: InvoiceStatus, actor: str
) -> Invoice:
    word = "void" if target is InvoiceStatus.void else "uncollectible"
    with context.database.organization_lock(organization_id):
        _catch_up(context, organization_id, invoice_id)
        with context.tenant(organization_id) as unit:
            invoice = find_invoice(unit, invoice_id)
            if invoice.status == target.value:
                return invoice
            _check_closable(unit, invoice, target)
            audit.note(unit, actor, f"invoice.{word}", invoice_id, number=invoice.number)
        request = _REQUESTS[target](str(invoice.stripe_invoice_id))
        reply = call(context, request, stripe_key(word, invoice_id), organization_id)
        mirroring.observe(context, organization_id, translate.invoice(reply))
        with context.tenant(organization_id) as unit:
            return find_invoice(unit, invoice_id)


def _check_closable(unit: TenantUnit, invoice: Invoice, target: InvoiceStatus) -> None:
    if invoice.status == "draft":
        raise RefusedTransition("draft", target.value, "only an issued invoice can be closed")
    move(INVOICE_MOVES, InvoiceStatus(invoice.status), target)
    _check_undisturbed(unit, invoice)
    subscription = unit.session.get_one(ProductSubscription, (unit.organization.id, invoice.subscription_id))
    if subscription.status == "incomplete":
        raise Conflict("the subscription waits for this first payment: cancel the subscription instead")
    if target is InvoiceStatus.void and invoice.reduced_minor:
        raise Conflict("it has credit notes: credit the rest instead of voiding it")


def _check_undisturbed(unit: TenantUnit, invoice: Invoice) -> None:
    if payments.unfinished(unit, invoice) is not None:
        raise UnderWay("a payment attempt is under way; try again in a moment")
    if credit_note_queries.pending_of(unit.session, invoice) is not None:
        raise UnderWay("a credit note is under way; try again in a moment")


def _catch_up(context: Context, organization_id: UUID, invoice_id: UUID) -> None:
    with context.tenant(organization_id) as unit:
        invoice = find_invoice(unit, invoice_id)
    if invoice.status in _UNPAID:
        facts = translate.invoice(context.gateway.fetch("invoice", str(invoice.stripe_invoice_id)))
        mirroring.observe(context, organization_id, facts)


def pay(
    context: Context, organization_id: UUID, invoice_id: UUID, terms: PaymentTerms, actor: str
) -> PaymentResult:
    """Have an unpaid invoice paid now, outside of dunning's dates; a retry that is planned stays planned.

    Raises: NotFound for the invoice or the card; RefusedTransition, Conflict when there is nothing to pay
    or another attempt is under way.
    """
    with context.database.organization_lock(organization_id):
        if not terms.out_of_band:
            return _charged(context, organization_id, invoice_id, terms, actor)
        return _paid_out_of_band(context, organization_id, invoice_id, terms, actor)


def _charged(
    context: Context, organization_id: UUID, invoice_id: UUID, terms: PaymentTerms, actor: str
) -> PaymentResult:
    with context.tenant(organization_id) as unit:
        payment = unit.session.get(Payment, (organization_id, terms.id))
    if payment is None:
        _catch_up(context, organization_id, invoice_id)
    with context.tenant(organization_id) as unit:
        invoice = find_invoice(unit, invoice_id)
        card, rings = None, []
        if payment is None:
            _demand(unit, invoice, terms, actor)
            card = _card(unit, terms.payment_method_id)
            payment = payments.new_payment(unit, invoice, terms.id, demanded=True)
            unit.enqueue("payments.finish", f"{invoice.id}:{payment.attempt}", subject_id=invoice.id)
            rings = unit.take_rings()
    request = requests.pay_invoice(str(invoice.stripe_invoice_id), payment_method=card)
    with context.ringing_at_last(rings):
        declined = payments.carry_out(context, invoice, payment, request)
    return PaymentResult(result="paid") if declined is None else _declined(declined, invoice)


def _paid_out_of_band(
    context: Context, organization_id: UUID, invoice_id: UUID, terms: PaymentTerms, actor: str
) -> PaymentResult:
    """Stripe is told that the money came another way."""
    key = stripe_key("pay_out_of_band", invoice_id, terms.id)
    is_repeat = is_begun(context, key)
    if not is_repeat:
        _catch_up(context, organization_id, invoice_id)
    with context.tenant(organization_id) as unit:
        invoice = find_invoice(unit, invoice_id)
        if not is_repeat:
            _demand(unit, invoice, terms, actor)
    request = requests.pay_invoice_out_of_band(str(invoice.stripe_invoice_id))
    reply = call(context, request, key, organization_id)
    mirroring.observe(context, organization_id, translate.invoice(reply))
    return PaymentResult(result="paid")


def _demand(unit: TenantUnit, invoice: Invoice, terms: PaymentTerms, actor: str) -> None:
    """Raises RefusedTransition, Conflict when there is nothing to pay, or another attempt is under way."""
    _check_payable(unit, invoice)
    audit.note(unit, actor, "invoice.pay", invoice.id, out_of_band=terms.out_of_band)


def _check_payable(unit: TenantUnit, invoice: Invoice) -> None:
    if invoice.status == "draft":
        raise RefusedTransition("draft", "paid", "only an issued invoice can be paid")
    if invoice.status == "paid":
        raise Conflict("the invoice is paid")
    move(INVOICE_MOVES, InvoiceStatus(invoice.status), InvoiceStatus.paid)
    if invoice.parked_at is not None or unit.organization.parked_at is not None:
        raise Conflict("it is parked: a person must look first")
    _check_undisturbed(unit, invoice)


def _card(unit: TenantUnit, payment_method_id: UUID | None) -> str | None:
    """Stripe's id of the named card; None for the default one. Raises NotFound, Conflict without any."""
    if payment_method_id is None:
        if not payments.has_card(unit):
            raise Conflict("there is no default card: name one, or have the customer add one")
        return None
    cards = billing_queries.payment_methods(unit.session, unit.organization.id)
    found = next((card for card in cards if card.id == payment_method_id), None)
    if found is None:
        raise NotFound("no such payment method")
    return found.stripe_payment_method_id


def _declined(declined: Declined, invoice: Invoice) -> PaymentResult:
    decline = Decline(declined.code, declined.decline_code, declined.advice_code)
    authenticate = declined.requires_action or "authentication_required" in (
        decline.code,
        decline.decline_code,
    )
    return PaymentResult(
        result="needs_action" if authenticate else "declined",
        decline_code=declined.decline_code or declined.code,
        message=declined.message,
        hosted_invoice_url=invoice.hosted_invoice_url,
    )


@job("payments.finish", queue="stripe")
def finish(context: Context, claimed: ClaimedJob) -> None:
    """Go on with a demanded attempt whose process died before the bank's answer was recorded."""
    with context.tenant(claimed.organization) as unit:
        invoice = invoice_rows.find(unit, claimed.subject)
        payment: Payment | None = payments.unfinished(unit, invoice)
    if payment is not None and payment.attempt == claimed.number:
        request = requests.pay_invoice(str(invoice.stripe_invoice_id))
        payments.carry_out(context, invoice, payment, request)
