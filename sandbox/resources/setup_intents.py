"""Setup intents: saving a card for later."""

from .. import Doc
from ..cards import ALWAYS, CARDS, UNLESS_SET_UP, card_error
from ..engine import payments, standing, wallet
from ..errors import invalid
from ..forms import ANY, BOOL, HASH, STR, Shape
from ..ids import new_id
from ..pagination import page_of
from ..render import public
from ..routing import CREATED, LISTING, Call, Page, api
from ..world import World, clock_of
from .common import update_plain
from .customers import live_customer

_INTENT: dict[str, Shape] = {
    "customer": STR,
    "description": STR,
    "metadata": HASH,
    "payment_method": STR,
    "payment_method_options": ANY,
}


@api.on(
    "POST",
    "/v1/setup_intents",
    {
        **_INTENT,
        "allowed_payment_method_types": [STR],
        "automatic_payment_methods": {"enabled": BOOL, "allow_redirects": STR},
        "confirm": BOOL,
        "mandate_data": ANY,
        "return_url": STR,
        "usage": STR,
    },
)
def create_setup_intent(call: Call) -> Doc:
    if not call.params.get("customer"):
        raise invalid(
            "The sandbox makes setup intents for a customer only.", param="customer", code="parameter_missing"
        )
    customer = live_customer(call, call.params["customer"])
    intent = standing.new_setup_intent(
        call.world,
        customer,
        automatic_payment_methods=_automatic(call),
        usage=call.params.get("usage") or "off_session",
        description=call.params.get("description"),
        metadata=call.params.get("metadata") or {},
    )
    if call.params.get("payment_method"):
        _set_method(call, intent)
    if call.params.get("confirm"):
        confirm(call.world, intent)
    return intent


def _automatic(call: Call) -> Doc | None:
    asked = call.params.get("automatic_payment_methods")
    return {"allow_redirects": "always", **asked} if asked else {"allow_redirects": "always", "enabled": True}


def _set_method(call: Call, intent: Doc) -> None:
    customer = call.world.tx.get("customer", intent["customer"])
    method = wallet.method_for(call.world, call.params["payment_method"], customer)
    intent |= {"payment_method": method["id"], "status": "requires_confirmation"}


def confirm(world: World, intent: Doc) -> None:
    """Set the card up: attach it, or ask for 3-D Secure first.

    Raises: ApiError 402 when the bank refuses the card (recorded on the intent).
    """
    if intent["status"] not in {"requires_payment_method", "requires_confirmation"}:
        raise invalid(
            f"You cannot confirm this SetupIntent because it has a status of {intent['status']}.",
            code="setup_intent_unexpected_state",
        )
    if intent["payment_method"] is None:
        raise invalid(
            "You cannot confirm this SetupIntent because it's missing a payment method.",
            code="setup_intent_unexpected_state",
        )
    method = world.tx.get("payment_method", intent["payment_method"])
    card = CARDS[method["_card"]]
    if card.authentication in {ALWAYS, UNLESS_SET_UP} and not method["_set_up"]:
        intent |= {
            "status": "requires_action",
            "next_action": {
                "type": "redirect_to_url",
                "redirect_to_url": {
                    "return_url": None,
                    "url": f"{world.base_url}/authenticate/{intent['id']}",
                },
            },
        }
        world.emit("setup_intent.requires_action", intent)
        return
    complete(world, intent, method)


def complete(world: World, intent: Doc, method: Doc) -> None:
    """The card is set up (or refused by its bank: 402)."""
    decline = CARDS[method["_card"]].attach
    _record_attempt(world, intent, method, succeeded=decline is None)
    if decline is not None:
        fail(world, intent, method, decline)
        raise card_error(decline, setup_intent=public(intent))
    wallet.attach(world, method, world.tx.get("customer", intent["customer"]))
    method["_set_up"] = True
    intent |= {"status": "succeeded", "next_action": None, "last_setup_error": None}
    world.emit("setup_intent.succeeded", intent)
    for subscription in world.tx.select("subscription", customer=intent["customer"]):
        if subscription["pending_setup_intent"] == intent["id"]:
            with world.changing(subscription, "customer.subscription.updated"):
                subscription |= {"pending_setup_intent": None, "default_payment_method": method["id"]}


def fail(world: World, intent: Doc, method: Doc, decline_code: str) -> None:
    """The setup did not work: back to asking for a payment method."""
    intent |= {
        "status": "requires_payment_method",
        "payment_method": None,
        "next_action": None,
        "last_setup_error": payments.payment_error(decline_code, method, None),
    }
    world.emit("setup_intent.setup_failed", intent)


def _record_attempt(world: World, intent: Doc, method: Doc, *, succeeded: bool) -> None:
    attempt = world.tx.add(
        {
            "id": new_id("setup_attempt"),
            "object": "setup_attempt",
            "application": None,
            "attach_to_self": None,
            "created": world.now_of(intent),
            "customer": intent["customer"],
            "customer_account": None,
            "flow_directions": None,
            "livemode": False,
            "on_behalf_of": None,
            "payment_method": method["id"],
            "payment_method_details": {"type": "card", "card": {"brand": method["card"]["brand"]}},
            "setup_error": None,
            "setup_intent": intent["id"],
            "status": "succeeded" if succeeded else "failed",
            "usage": intent["usage"],
            "_clock": clock_of(intent),
        }
    )
    intent["latest_attempt"] = attempt["id"]


@api.on("GET", "/v1/setup_intents/{id}", {"client_secret": STR})
def retrieve_setup_intent(call: Call) -> Doc:
    return call.world.tx.get("setup_intent", call.ids[0])


@api.on("POST", "/v1/setup_intents/{id}", _INTENT)
def update_setup_intent(call: Call) -> Doc:
    intent = call.world.tx.get("setup_intent", call.ids[0])
    update_plain(intent, call.params, ["description"])
    if call.params.get("payment_method"):
        _set_method(call, intent)
    return intent


@api.on(
    "POST",
    "/v1/setup_intents/{id}/confirm",
    {"payment_method": STR, "return_url": STR, "mandate_data": ANY, "client_secret": STR},
)
def confirm_setup_intent(call: Call) -> Doc:
    intent = call.world.tx.get("setup_intent", call.ids[0])
    if call.params.get("payment_method") and intent["status"] in {
        "requires_payment_method",
        "requires_confirmation",
    }:
        _set_method(call, intent)
    confirm(call.world, intent)
    return intent


@api.on("POST", "/v1/setup_intents/{id}/cancel", {"cancellation_reason": STR})
def cancel_setup_intent(call: Call) -> Doc:
    intent = call.world.tx.get("setup_intent", call.ids[0])
    if intent["status"] in {"succeeded", "canceled"}:
        raise invalid(
            f"You cannot cancel this SetupIntent because it has a status of {intent['status']}.",
            code="setup_intent_unexpected_state",
        )
    reason = call.params.get("cancellation_reason")
    intent |= {"status": "canceled", "cancellation_reason": reason, "next_action": None}
    call.world.emit("setup_intent.canceled", intent)
    return intent


@api.on("GET", "/v1/setup_intents", {**LISTING, "created": CREATED, "customer": STR, "payment_method": STR})
def list_setup_intents(call: Call) -> Page:
    return page_of(call, "setup_intent", "/v1/setup_intents", customer=call.params.get("customer"))
