"""Playing the customer: add cards, pay, decline, finish 3-D Secure; every form carries the page's token."""

import hmac
import secrets
from collections.abc import Callable

from flask import Blueprint, abort, flash, redirect, render_template, request
from werkzeug.wrappers import Response as BaseResponse

from .. import Doc
from ..control import finish_authentication
from ..dispatch import Dispatcher
from ..engine import standing, wallet
from ..errors import ApiError
from ..render import public
from ..resources import payment_intents, setup_intents
from ..store import ClockBusy
from ..world import World

CARDS = {
    "pm_card_visa": "Visa that works",
    "pm_card_mastercard": "Mastercard that works",
    "pm_card_chargeCustomerFail": "Card whose charges fail",
    "pm_card_visa_chargeDeclined": "Card that the bank refuses",
    "pm_card_visa_chargeDeclinedInsufficientFunds": "Card without funds",
    "pm_card_authenticationRequired": "Card with 3-D Secure",
}
DECLINES = (
    "insufficient_funds",
    "generic_decline",
    "lost_card",
    "stolen_card",
    "expired_card",
    "do_not_honor",
    "processing_error",
    "card_velocity_exceeded",
)


def actions(dispatcher: Dispatcher) -> Blueprint:
    """The pages of a paying customer."""
    blueprint = Blueprint("actions", __name__, template_folder="templates")
    token = secrets.token_urlsafe(24)
    shown = {"form_token": token, "test_cards": CARDS, "declines": DECLINES}
    blueprint.app_context_processor(lambda: shown)

    @blueprint.before_request
    def same_page() -> None:
        """A form that was not on one of our pages may change nothing."""
        if request.method == "POST" and not hmac.compare_digest(request.form.get("token", ""), token):
            abort(403)

    _paying(blueprint, dispatcher)
    _saving(blueprint, dispatcher)
    _checking_out(blueprint, dispatcher)
    return blueprint


def _do(dispatcher: Dispatcher, said: str, work: Callable[[World], ApiError | None]) -> bool:
    """Run `work` in a transaction and tell the person how it went."""
    try:
        with dispatcher.store.transaction() as tx:
            refusal = work(dispatcher.world(tx))
    except ApiError as error:
        refusal = error
    except ClockBusy:
        flash("The test clock is moving; try again in a moment.", "bad")
        return False
    flash(refusal.message if refusal else said, "bad" if refusal else "good")
    return refusal is None


def _paying(blueprint: Blueprint, dispatcher: Dispatcher) -> None:
    store = dispatcher.store

    @blueprint.get("/pay/<invoice_id>")
    def pay_page(invoice_id: str) -> str:
        with store.transaction_quietly() as tx:
            invoice = tx.find(invoice_id)
            if invoice is None or invoice["object"] != "invoice":
                abort(404)
            intent = tx.find(invoice["_payment_intent"]) if invoice["_payment_intent"] else None
            cards = tx.select("payment_method", customer=invoice["customer"])
            return render_template(
                "pay.html", invoice=invoice, lines=invoice["_lines"], intent=intent, cards=cards
            )

    @blueprint.post("/pay/<invoice_id>")
    def pay(invoice_id: str) -> BaseResponse:
        def work(world: World) -> ApiError | None:
            invoice = world.tx.get("invoice", invoice_id)
            customer = world.tx.get("customer", invoice["customer"])
            method = wallet.method_for(world, request.form["card"], customer)
            intent = world.tx.get("payment_intent", invoice["_payment_intent"])
            return payment_intents.pay_on_session(world, intent, method)

        _do(dispatcher, "Paid. Thank you.", work)
        return _after_payment(dispatcher, invoice_id)

    @blueprint.get("/authenticate/<intent_id>")
    def authenticate_page(intent_id: str) -> str:
        with store.transaction_quietly() as tx:
            intent = tx.find(intent_id)
            if intent is None or intent["object"] not in {"payment_intent", "setup_intent"}:
                abort(404)
            return render_template("authenticate.html", intent=public(intent), invoice=intent.get("_invoice"))

    @blueprint.post("/authenticate/<intent_id>")
    def authenticate(intent_id: str) -> BaseResponse:
        success = request.form.get("outcome") == "complete"
        said = "Authenticated." if success else "Authentication failed, as you asked."

        def work(world: World) -> ApiError | None:
            finish_authentication(world, intent_id, success=success)
            return None

        _do(dispatcher, said, work)
        with store.transaction_quietly() as tx:
            intent = tx.find(intent_id) or {}
        invoice_id = intent.get("_invoice")
        return redirect(f"/pay/{invoice_id}" if invoice_id else f"/customer/{intent.get('customer')}", 303)


def _after_payment(dispatcher: Dispatcher, invoice_id: str) -> BaseResponse:
    with dispatcher.store.transaction_quietly() as tx:
        invoice = tx.get("invoice", invoice_id)
        intent = tx.find(invoice["_payment_intent"]) or {} if invoice["_payment_intent"] else {}
    if intent.get("status") == "requires_action":
        return redirect(f"/authenticate/{intent['id']}", 303)
    return redirect(f"/pay/{invoice_id}", 303)


def _saving(blueprint: Blueprint, dispatcher: Dispatcher) -> None:
    store = dispatcher.store

    @blueprint.post("/customer/<customer_id>/cards")
    def add_card(customer_id: str) -> BaseResponse:
        made: list[Doc] = []

        def work(world: World) -> ApiError | None:
            customer = world.tx.get("customer", customer_id)
            made.append(_set_up(world, customer, request.form["card"]))
            return None

        worked = _do(dispatcher, "The card is saved.", work)
        if worked and made[0]["status"] == "requires_action":
            return redirect(f"/authenticate/{made[0]['id']}", 303)
        return redirect(f"/customer/{customer_id}", 303)

    @blueprint.post("/customer/<customer_id>/default")
    def make_default(customer_id: str) -> BaseResponse:
        def work(world: World) -> ApiError | None:
            customer = world.tx.get("customer", customer_id)
            method = wallet.attached_method(world, request.form["card"], customer, param="card")
            with world.changing(customer, "customer.updated"):
                customer["invoice_settings"]["default_payment_method"] = method
            return None

        _do(dispatcher, "This card pays from now on.", work)
        return redirect(f"/customer/{customer_id}", 303)

    @blueprint.post("/card/<method_id>/bank")
    def bank(method_id: str) -> BaseResponse:
        decline = request.form.get("decline") or None
        with store.transaction() as tx:
            method = tx.get("payment_method", method_id)
            method["_decline"] = decline
            customer_id = method["customer"]
        flash(f"The bank now says: {decline or 'approved'}.", "good")
        return redirect(f"/customer/{customer_id}", 303)


def _checking_out(blueprint: Blueprint, dispatcher: Dispatcher) -> None:
    store = dispatcher.store

    @blueprint.get("/checkout/<session_id>")
    def checkout_page(session_id: str) -> str:
        with store.transaction_quietly() as tx:
            session = tx.find(session_id)
            if session is None or session["object"] != "checkout.session":
                abort(404)
            return render_template("checkout.html", session=public(session))

    @blueprint.post("/checkout/<session_id>")
    def checkout(session_id: str) -> BaseResponse:
        ended: list[Doc] = []

        def work(world: World) -> ApiError | None:
            session = world.tx.get("checkout.session", session_id)
            customer = world.tx.get("customer", session["customer"])
            intent = _set_up(world, customer, request.form["card"])
            session |= {"setup_intent": intent["id"], "status": "complete"}
            world.emit("checkout.session.completed", session)
            ended.append(session)
            return None

        if not _do(dispatcher, "The card is saved.", work):
            return redirect(f"/checkout/{session_id}", 303)
        target = ended[0]["success_url"] or f"/customer/{ended[0]['customer']}"
        return redirect(target.replace("{CHECKOUT_SESSION_ID}", session_id), 303)


def _set_up(world: World, customer: Doc, card: str) -> Doc:
    """Save a card through a setup intent, as a customer's browser would."""
    intent = standing.new_setup_intent(world, customer)
    method = wallet.method_for(world, card, customer)
    intent |= {"payment_method": method["id"], "status": "requires_confirmation"}
    setup_intents.confirm(world, intent)
    return intent
