"""Taking the money of an invoice: one attempt, its success, its failure."""

from dataclasses import dataclass

from .. import Doc
from ..cards import card_error
from ..errors import ApiError, invalid
from ..render import public
from ..world import World
from . import payments, standing, wallet
from .invoices import change_balance


@dataclass(frozen=True)
class Attempt:
    """How to try: with which method (None: the default), with the customer present or not, by whom."""

    method: Doc | None = None
    off_session: bool = True
    automatic: bool = False


def try_to_pay(world: World, invoice: Doc, attempt: Attempt) -> ApiError | None:
    """Attempt the amount remaining of an open or uncollectible invoice.

    Returns the refusal to answer with when it did not succeed (its effects are already recorded).
    """
    customer = world.tx.get("customer", invoice["customer"])
    subscription = standing.subscription_of(world, invoice)
    method = attempt.method or wallet.default_for(world, customer, subscription, invoice)
    if method is None:
        if attempt.automatic:
            _count(world, invoice, automatic=True)
            _failed(world, invoice)
        return no_method()
    intent = world.tx.get("payment_intent", invoice["_payment_intent"])
    intent["amount"] = invoice["amount_remaining"]
    outcome = payments.attempt(world, intent, method, off_session=attempt.off_session)
    _count(world, invoice, automatic=attempt.automatic)
    return conclude(world, invoice, intent, outcome, off_session=attempt.off_session)


def conclude(
    world: World, invoice: Doc, intent: Doc, outcome: payments.Outcome, *, off_session: bool
) -> ApiError | None:
    """Carry an attempt's outcome over to the invoice and its subscription."""
    if outcome.result == payments.SUCCEEDED:
        _pay_by_intent(world, invoice, intent)
        return None
    if outcome.result == payments.NEEDS_ACTION:
        world.emit("invoice.payment_action_required", invoice)
    _failed(world, invoice)
    return _refusal(intent, outcome, off_session)


def _refusal(intent: Doc, outcome: payments.Outcome, off_session: bool) -> ApiError:
    shown = public(intent)
    if outcome.result == payments.NEEDS_ACTION and not off_session:
        return ApiError(
            402,
            "card_error",
            "This payment requires additional user action before it can be completed "
            "successfully. Payment can be "
            "completed using the PaymentIntent associated with the invoice.",
            code="invoice_payment_intent_requires_action",
            extra={"payment_intent": shown},
            keeps_effects=True,
        )
    error = card_error(outcome.decline_code or "generic_decline", payment_intent=shown)
    if intent["last_payment_error"]:
        error.extra["payment_method"] = intent["last_payment_error"]["payment_method"]
        if charge := intent["last_payment_error"].get("charge"):
            error.extra["charge"] = charge
    return error


def no_method() -> ApiError:
    return invalid(
        "There is no `default_payment_method` set on this Customer or Invoice. Please set a "
        "`default_payment_method` before calling this endpoint.",
        code="missing",
    )


def _count(world: World, invoice: Doc, *, automatic: bool) -> None:
    with world.changing(invoice, "invoice.updated"):
        invoice["attempted"] = True
        invoice["next_payment_attempt"] = None
        if automatic or invoice["attempt_count"] == 0:
            invoice["attempt_count"] += 1


def _failed(world: World, invoice: Doc) -> None:
    world.emit("invoice.payment_failed", invoice)
    standing.after_failure(world, invoice)


def _pay_by_intent(world: World, invoice: Doc, intent: Doc) -> None:
    for payment in world.tx.select("invoice_payment", parent=intent["id"]):
        payment |= {"status": "paid", "amount_paid": intent["amount"], "amount_requested": intent["amount"]}
        payment["status_transitions"]["paid_at"] = world.now_of(invoice)
        world.emit("invoice_payment.paid", payment)
    subscription = standing.subscription_of(world, invoice)
    if subscription is not None and _keeps_method(subscription):
        with world.changing(subscription, "customer.subscription.updated"):
            subscription["default_payment_method"] = intent["payment_method"]
    settle(world, invoice, intent["amount"])


def _keeps_method(subscription: Doc) -> bool:
    return bool(subscription["payment_settings"]["save_default_payment_method"] == "on_subscription")


def settle(world: World, invoice: Doc, amount: int) -> None:
    """The invoice is paid; `amount` came in just now (0 when nothing was due)."""
    with world.changing(invoice, "invoice.updated"):
        invoice |= {
            "status": "paid",
            "amount_paid": invoice["amount_paid"] + amount,
            "amount_remaining": 0,
            "attempted": True,
            "auto_advance": False,
            "next_payment_attempt": None,
            "status_details": None,
        }
        invoice["status_transitions"]["paid_at"] = world.now_of(invoice)
    world.emit("invoice.paid", invoice)
    world.emit("invoice.payment_succeeded", invoice)
    standing.after_payment(world, invoice)


def pay_out_of_band(world: World, invoice: Doc) -> None:
    """The money came another way."""
    amount = invoice["amount_remaining"]
    for payment in world.tx.select("invoice_payment", invoice=invoice["id"]):
        if payment["status"] == "open":
            payment["status"] = "canceled"
            payment["status_transitions"]["canceled_at"] = world.now_of(invoice)
    if invoice["_payment_intent"]:
        payments.cancel_intent(
            world, world.tx.get("payment_intent", invoice["_payment_intent"]), "void_invoice"
        )
    invoice["amount_paid_off_stripe"] = amount
    settle(world, invoice, amount)


def credit_customer(world: World, customer: Doc, amount: int, *, currency: str, credit_note: str) -> Doc:
    """Give `amount` (positive) to the customer's balance for a credit note."""
    return change_balance(
        world, customer, -amount, currency=currency, kind="credit_note", credit_note=credit_note
    )
