"""Payment methods: made from test tokens, attached, detached."""

from .. import Doc
from ..engine import wallet
from ..errors import invalid, missing
from ..forms import HASH, INT, STR, Shape
from ..pagination import page_of
from ..routing import LISTING, Call, Page, api
from .common import ADDRESS, address_of, require, update_plain
from .customers import live_customer

_BILLING: Shape = {"address": ADDRESS, "email": STR, "name": STR, "phone": STR, "tax_id": STR}
_CARD: Shape = {"token": STR, "number": STR, "exp_month": INT, "exp_year": INT, "cvc": STR}


@api.on(
    "POST",
    "/v1/payment_methods",
    {"type": STR, "card": _CARD, "billing_details": _BILLING, "metadata": HASH, "allow_redisplay": STR},
)
def create_payment_method(call: Call) -> Doc:
    require(call.params, "type")
    token = (call.params.get("card") or {}).get("token")
    if call.params["type"] != "card" or not token:
        raise invalid(
            "The sandbox makes cards from test tokens only: type=card, card[token]=tok_visa.", param="card"
        )
    name = wallet.card_name_of(token)
    if name is None:
        raise missing("token", token, param="card[token]", status=400)
    method = wallet.new_method(call.world, name, created=call.world.wall())
    _describe(call, method)
    return method


def _describe(call: Call, method: Doc) -> None:
    update_plain(method, call.params, [])
    given = call.params.get("billing_details") or {}
    for name, value in given.items():
        method["billing_details"][name] = address_of(value) if name == "address" else value or None


@api.on("GET", "/v1/payment_methods/{id}")
def retrieve_payment_method(call: Call) -> Doc:
    return call.world.tx.get("payment_method", call.ids[0])


@api.on(
    "POST",
    "/v1/payment_methods/{id}",
    {
        "billing_details": _BILLING,
        "metadata": HASH,
        "card": {"exp_month": INT, "exp_year": INT},
        "allow_redisplay": STR,
    },
)
def update_payment_method(call: Call) -> Doc:
    method = call.world.tx.get("payment_method", call.ids[0])
    if method["customer"] is None:
        raise invalid("You must save this PaymentMethod to a customer before you can update it.")
    with call.world.changing(method, "payment_method.updated"):
        _describe(call, method)
        method["card"] |= call.params.get("card") or {}
    return method


@api.on("POST", "/v1/payment_methods/{id}/attach", {"customer": STR})
def attach_payment_method(call: Call) -> Doc:
    require(call.params, "customer")
    customer = live_customer(call, call.params["customer"])
    name = wallet.card_name_of(call.ids[0])
    if name is not None:
        method = wallet.new_method(call.world, name, created=call.world.now_of(customer))
    else:
        method = call.world.tx.get("payment_method", call.ids[0])
    wallet.attach(call.world, method, customer)
    return method


@api.on("POST", "/v1/payment_methods/{id}/detach")
def detach_payment_method(call: Call) -> Doc:
    method = call.world.tx.get("payment_method", call.ids[0])
    wallet.detach(call.world, method)
    return method


@api.on("GET", "/v1/payment_methods", {**LISTING, "customer": STR, "type": STR, "allow_redisplay": STR})
def list_payment_methods(call: Call) -> Page:
    return page_of(call, "payment_method", "/v1/payment_methods", customer=call.params.get("customer"))
