"""Payment intents, charges and invoice payments: mostly to read; an intent of an invoice can be confirmed."""

from .. import Doc
from ..engine import collect, payments, wallet
from ..errors import ApiError, invalid
from ..forms import ANY, BOOL, HASH, STR
from ..pagination import field_is, narrowed, page_of
from ..routing import CREATED, LISTING, Call, Page, api
from ..world import World
from .common import update_plain


@api.on("GET", "/v1/payment_intents/{id}", {"client_secret": STR})
def retrieve_payment_intent(call: Call) -> Doc:
    return call.world.tx.get("payment_intent", call.ids[0])


@api.on("POST", "/v1/payment_intents/{id}", {"metadata": HASH, "description": STR})
def update_payment_intent(call: Call) -> Doc:
    intent = call.world.tx.get("payment_intent", call.ids[0])
    update_plain(intent, call.params, ["description"])
    return intent


@api.on("GET", "/v1/payment_intents", {**LISTING, "created": CREATED, "customer": STR})
def list_payment_intents(call: Call) -> Page:
    return page_of(call, "payment_intent", "/v1/payment_intents", customer=call.params.get("customer"))


@api.on(
    "POST",
    "/v1/payment_intents/{id}/confirm",
    {
        "payment_method": STR,
        "off_session": BOOL,
        "return_url": STR,
        "client_secret": STR,
        "mandate_data": ANY,
    },
)
def confirm_payment_intent(call: Call) -> Doc:
    """The customer pays with the intent's secret; 3-D Secure leaves it in `requires_action`."""
    world, intent = call.world, call.world.tx.get("payment_intent", call.ids[0])
    if intent["status"] not in {"requires_payment_method", "requires_confirmation", "requires_action"}:
        raise invalid(
            f"You cannot confirm this PaymentIntent because it has a status of {intent['status']}.",
            code="payment_intent_unexpected_state",
        )
    if not call.params.get("payment_method"):
        raise invalid(
            "Missing required param: payment_method.", param="payment_method", code="parameter_missing"
        )
    customer = world.tx.get("customer", intent["customer"])
    method = wallet.method_for(world, call.params["payment_method"], customer)
    refusal = pay_on_session(world, intent, method, off_session=bool(call.params.get("off_session")))
    if refusal is not None and intent["status"] != "requires_action":
        raise refusal
    return intent


def pay_on_session(world: World, intent: Doc, method: Doc, *, off_session: bool = False) -> ApiError | None:
    """One attempt by the customer on the invoice of an intent."""
    invoice = world.tx.get("invoice", intent["_invoice"])
    return collect.try_to_pay(world, invoice, collect.Attempt(method=method, off_session=off_session))


def finish_authentication(world: World, intent: Doc, *, success: bool) -> ApiError | None:
    """3-D Secure ended, well or not, for an intent in `requires_action`."""
    if intent["status"] != "requires_action":
        raise invalid(f"There is nothing to authenticate: the intent has the status {intent['status']}.")
    outcome = payments.authenticated(world, intent, success=success)
    invoice = world.tx.get("invoice", intent["_invoice"])
    return collect.conclude(world, invoice, intent, outcome, off_session=False)


@api.on("GET", "/v1/charges/{id}")
def retrieve_charge(call: Call) -> Doc:
    return call.world.tx.get("charge", call.ids[0])


@api.on("GET", "/v1/charges", {**LISTING, "created": CREATED, "customer": STR, "payment_intent": STR})
def list_charges(call: Call) -> Page:
    params = call.params
    return page_of(
        call, "charge", "/v1/charges", customer=params.get("customer"), parent=params.get("payment_intent")
    )


@api.on("GET", "/v1/invoice_payments/{id}")
def retrieve_invoice_payment(call: Call) -> Doc:
    return call.world.tx.get("invoice_payment", call.ids[0])


@api.on(
    "GET",
    "/v1/invoice_payments",
    {
        **LISTING,
        "created": CREATED,
        "invoice": STR,
        "payment": {"type": STR, "payment_intent": STR},
        "status": STR,
    },
)
def list_invoice_payments(call: Call) -> Page:
    params = call.params
    intent = (params.get("payment") or {}).get("payment_intent")
    page = page_of(
        call, "invoice_payment", "/v1/invoice_payments", invoice=params.get("invoice"), parent=intent
    )
    return narrowed(page, field_is("status", params["status"])) if params.get("status") else page
