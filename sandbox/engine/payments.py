"""Payment intents and charges: one attempt to take money from one card, and what it leaves behind."""

from dataclasses import dataclass

from .. import Doc
from ..cards import ALWAYS, CARDS, ON_SESSION, UNLESS_SET_UP, Card, advice, error_code, message
from ..ids import new_id, random_token
from ..world import World, clock_of
from .disputes import open_dispute

SUCCEEDED = "succeeded"
DECLINED = "declined"
NEEDS_ACTION = "needs_action"


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended: SUCCEEDED, DECLINED or NEEDS_ACTION, with the decline code if there is one."""

    result: str
    decline_code: str | None = None


def new_intent(world: World, *, customer: Doc, amount: int, currency: str, description: str | None) -> Doc:
    """A payment intent that waits for a payment method."""
    intent_id = new_id("payment_intent")
    empty = (
        "amount_details application application_fee_amount canceled_at cancellation_reason description "
        "last_payment_error latest_charge next_action on_behalf_of payment_method processing review source "
        "payment_method_configuration_details receipt_email shipping statement_descriptor transfer_data "
        "statement_descriptor_suffix transfer_group customer_account excluded_payment_method_types"
    )
    intent = dict.fromkeys(empty.split()) | {
        "id": intent_id,
        "object": "payment_intent",
        "amount": amount,
        "amount_capturable": 0,
        "amount_received": 0,
        "amount_details": {"tip": {}},
        "automatic_payment_methods": None,
        "capture_method": "automatic",
        "client_secret": f"{intent_id}_secret_{random_token(25)}",
        "confirmation_method": "automatic",
        "created": world.now_of(customer),
        "currency": currency,
        "customer": customer["id"],
        "description": description,
        "livemode": False,
        "metadata": {},
        "payment_method_options": {"card": {"request_three_d_secure": "automatic"}},
        "payment_method_types": ["card"],
        "setup_future_usage": None,
        "status": "requires_payment_method",
        "_clock": clock_of(customer),
    }
    world.tx.add(intent)
    world.emit("payment_intent.created", intent)
    return intent


def attempt(world: World, intent: Doc, method: Doc, *, off_session: bool) -> Outcome:
    """Confirm the intent with a card; records the charge, its events and the intent's new state."""
    card = CARDS[method["_card"]]
    if _asks_for_authentication(card, method, off_session):
        return _ask(world, intent, method, off_session=off_session)
    return _charge(world, intent, method)


def authenticated(world: World, intent: Doc, *, success: bool) -> Outcome:
    """The customer finished (or failed) 3-D Secure for an intent in `requires_action`."""
    method = world.tx.get("payment_method", intent["_action_method"])
    if success:
        return _charge(world, intent, method)
    intent["next_action"] = None
    return _fail(world, intent, method, "authentication_required", None)


def cancel_intent(world: World, intent: Doc, reason: str) -> None:
    """Cancel an intent that did not succeed."""
    if intent["status"] in {"succeeded", "canceled"}:
        return
    intent |= {
        "status": "canceled",
        "canceled_at": world.now_of(intent),
        "cancellation_reason": reason,
        "next_action": None,
    }
    world.emit("payment_intent.canceled", intent)


def _asks_for_authentication(card: Card, method: Doc, off_session: bool) -> bool:
    if card.authentication == ALWAYS:
        return True
    if card.authentication == UNLESS_SET_UP:
        return not method["_set_up"]
    return card.authentication == ON_SESSION and not off_session


def _ask(world: World, intent: Doc, method: Doc, *, off_session: bool) -> Outcome:
    intent |= {
        "status": "requires_action",
        "next_action": {
            "type": "redirect_to_url",
            "redirect_to_url": {"return_url": None, "url": f"{world.base_url}/authenticate/{intent['id']}"},
        },
        "payment_method": method["id"],
        "_action_method": method["id"],
        "last_payment_error": payment_error("authentication_required", method, None) if off_session else None,
    }
    world.emit("payment_intent.requires_action", intent)
    return Outcome(NEEDS_ACTION, "authentication_required")


def _charge(world: World, intent: Doc, method: Doc) -> Outcome:
    decline_code = method["_decline"] or CARDS[method["_card"]].charge
    charge = _new_charge(world, intent, method, decline_code)
    if decline_code:
        return _fail(world, intent, method, decline_code, charge)
    intent |= {
        "status": "succeeded",
        "amount_received": intent["amount"],
        "latest_charge": charge["id"],
        "payment_method": method["id"],
        "last_payment_error": None,
        "next_action": None,
    }
    world.emit("charge.succeeded", charge)
    world.emit("payment_intent.succeeded", intent)
    if CARDS[method["_card"]].dispute:
        open_dispute(world, charge)
    return Outcome(SUCCEEDED)


def _fail(world: World, intent: Doc, method: Doc, decline_code: str, charge: Doc | None) -> Outcome:
    intent |= {
        "status": "requires_payment_method",
        "payment_method": None,
        "next_action": None,
        "last_payment_error": payment_error(decline_code, method, charge),
    }
    if charge is not None:
        intent["latest_charge"] = charge["id"]
        world.emit("charge.failed", charge)
    world.emit("payment_intent.payment_failed", intent)
    return Outcome(DECLINED, decline_code)


def payment_error(decline_code: str, method: Doc, charge: Doc | None) -> Doc:
    """The `last_payment_error` of a decline."""
    code = error_code(decline_code)
    error: Doc = {
        "advice_code": advice(decline_code),
        "code": code,
        "decline_code": decline_code,
        "doc_url": f"https://stripe.com/docs/error-codes/{code.replace('_', '-')}",
        "message": message(decline_code),
        "payment_method": {key: value for key, value in method.items() if not key.startswith("_")},
        "type": "card_error",
    }
    if charge is not None:
        error["charge"] = charge["id"]
    return error


def _new_charge(world: World, intent: Doc, method: Doc, decline_code: str | None) -> Doc:
    failed = decline_code is not None
    code = error_code(decline_code) if decline_code else None
    empty = (
        "application application_fee application_fee_amount balance_transaction "
        "failure_balance_transaction on_behalf_of receipt_email receipt_number review shipping source "
        "source_transfer statement_descriptor statement_descriptor_suffix transfer_data transfer_group"
    )
    charge_id = new_id("charge")
    charge = dict.fromkeys(empty.split()) | {
        "id": charge_id,
        "object": "charge",
        "amount": intent["amount"],
        "amount_captured": 0 if failed else intent["amount"],
        "amount_refunded": 0,
        "billing_details": method["billing_details"],
        "calculated_statement_descriptor": "SANDBOX",
        "captured": not failed,
        "created": world.now_of(intent),
        "currency": intent["currency"],
        "customer": intent["customer"],
        "description": intent["description"],
        "disputed": False,
        "failure_code": code,
        "failure_message": message(decline_code) if decline_code else None,
        "fraud_details": {},
        "livemode": False,
        "metadata": dict(intent["metadata"]),
        "outcome": _charge_outcome(decline_code),
        "paid": not failed,
        "payment_intent": intent["id"],
        "payment_method": method["id"],
        "payment_method_details": _method_details(method, intent["amount"], failed),
        "radar_options": {},
        "receipt_url": None if failed else f"{world.base_url}/object/{charge_id}",
        "refunded": False,
        "status": "failed" if failed else "succeeded",
        "_clock": clock_of(intent),
        "_parent": intent["id"],
    }
    return world.tx.add(charge)


def _charge_outcome(decline_code: str | None) -> Doc:
    if decline_code is None:
        return {
            "advice_code": None,
            "network_advice_code": None,
            "network_decline_code": None,
            "network_status": "approved_by_network",
            "reason": None,
            "risk_level": "normal",
            "risk_score": 20,
            "seller_message": "Payment complete.",
            "type": "authorized",
        }
    return {
        "advice_code": advice(decline_code),
        "network_advice_code": None,
        "network_decline_code": None,
        "network_status": "declined_by_network",
        "reason": decline_code,
        "risk_level": "normal",
        "risk_score": 20,
        "seller_message": f"The bank returned the decline code `{decline_code}`.",
        "type": "issuer_declined",
    }


def _method_details(method: Doc, amount: int, failed: bool) -> Doc:
    card = method["card"]
    empty = "extended_authorization installments mandate network_transaction_id three_d_secure wallet"
    details = dict.fromkeys(empty.split()) | {
        "amount_authorized": None if failed else amount,
        "authorization_code": None if failed else "123456",
        "brand": card["brand"],
        "checks": card["checks"],
        "country": card["country"],
        "exp_month": card["exp_month"],
        "exp_year": card["exp_year"],
        "fingerprint": card["fingerprint"],
        "funding": card["funding"],
        "incremental_authorization": {"status": "unavailable"},
        "last4": card["last4"],
        "multicapture": {"status": "unavailable"},
        "network": card["brand"],
        "network_token": {"used": False},
        "overcapture": {"maximum_amount_capturable": amount, "status": "unavailable"},
        "regulated_status": "unregulated",
    }
    return {"card": details, "type": "card"}
