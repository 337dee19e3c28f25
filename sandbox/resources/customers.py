"""Customers, their balance, and their payment methods."""

from typing import Any

from .. import Doc
from ..engine import invoices, standing, wallet
from ..errors import invalid, missing
from ..forms import HASH, INT, STR, Shape
from ..ids import new_id, random_token
from ..pagination import field_is, narrowed, page_of
from ..render import ENDED
from ..routing import CREATED, LISTING, Call, Page, api
from .common import ADDRESS, address_of, deleted, require, update_plain

_SHIPPING: Shape = {"address": ADDRESS, "carrier": STR, "name": STR, "phone": STR, "tracking_number": STR}
_SETTINGS: Shape = {
    "custom_fields": [{"name": STR, "value": STR}],
    "default_payment_method": STR,
    "footer": STR,
    "rendering_options": {"amount_tax_display": STR, "template": STR},
}
_CUSTOMER: dict[str, Shape] = {
    "address": ADDRESS,
    "balance": INT,
    "business_name": STR,
    "description": STR,
    "email": STR,
    "individual_name": STR,
    "invoice_prefix": STR,
    "invoice_settings": _SETTINGS,
    "metadata": HASH,
    "name": STR,
    "next_invoice_sequence": INT,
    "phone": STR,
    "preferred_locales": [STR],
    "shipping": _SHIPPING,
    "tax": {"ip_address": STR, "validate_location": STR},
    "tax_exempt": STR,
}
_PLAIN = (
    "business_name",
    "description",
    "email",
    "individual_name",
    "invoice_prefix",
    "name",
    "next_invoice_sequence",
    "phone",
)
MAX_CUSTOMERS_ON_A_CLOCK = 3


@api.on("POST", "/v1/customers", {**_CUSTOMER, "payment_method": STR, "test_clock": STR})
def create_customer(call: Call) -> Doc:
    world, params = call.world, call.params
    clock_id = params.get("test_clock")
    if clock_id:
        _check_clock(call, clock_id)
    customer: Doc = dict.fromkeys(
        (*_PLAIN, "address", "customer_account", "default_source", "discount", "shipping")
    ) | {
        "id": new_id("customer"),
        "object": "customer",
        "balance": 0,
        "created": world.now(clock_id),
        "currency": None,
        "delinquent": False,
        "invoice_prefix": random_token(8).upper(),
        "invoice_settings": {
            "custom_fields": None,
            "default_payment_method": None,
            "footer": None,
            "rendering_options": None,
        },
        "livemode": False,
        "metadata": {},
        "next_invoice_sequence": 1,
        "preferred_locales": params.get("preferred_locales") or [],
        "tax_exempt": "none",
        "test_clock": clock_id,
    }
    world.tx.add(customer)
    attached = None
    if method := params.get("payment_method"):
        attached = wallet.attached_method(world, method, customer, param="payment_method")
    _apply(call, customer, params, attached)
    world.emit("customer.created", customer)
    return customer


def _check_clock(call: Call, clock_id: str) -> None:
    call.world.tx.get("test_helpers.test_clock", clock_id, param="test_clock")
    if len(call.world.tx.select("customer", clock=clock_id)) >= MAX_CUSTOMERS_ON_A_CLOCK:
        message = f"A test clock can have at most {MAX_CUSTOMERS_ON_A_CLOCK} customers."
        raise invalid(message, param="test_clock")


def _apply(call: Call, customer: Doc, params: dict[str, Any], attached: str | None = None) -> None:
    """The fields of create and update alike; `attached` is the method that this request has just attached."""
    update_plain(customer, params, _PLAIN)
    if "address" in params:
        customer["address"] = address_of(params["address"])
    if "shipping" in params:
        given = params["shipping"]
        customer["shipping"] = (given and {**given, "address": address_of(given.get("address"))}) or None
    if "preferred_locales" in params:
        customer["preferred_locales"] = params["preferred_locales"] or []
    if "tax_exempt" in params:
        customer["tax_exempt"] = params["tax_exempt"] or "none"
    if "balance" in params:
        _set_balance(call, customer, params["balance"])
    settings = params.get("invoice_settings") or {}
    for name, given in settings.items():
        value = given
        if name == "default_payment_method" and given:
            # A test id in both parameters of one request means one and the same card.
            same = attached is not None and wallet.card_name_of(given) is not None
            param = "invoice_settings[default_payment_method]"
            value = attached if same else wallet.attached_method(call.world, given, customer, param=param)
        customer["invoice_settings"][name] = value or None


def _set_balance(call: Call, customer: Doc, balance: int) -> None:
    change = balance - customer["balance"]
    if change:
        currency = customer["currency"] or "usd"
        invoices.change_balance(call.world, customer, change, currency=currency, kind="adjustment")


def live_customer(call: Call, customer_id: str) -> Doc:
    """The customer; 404 when it was deleted."""
    customer = call.world.tx.get("customer", customer_id)
    if customer.get("deleted"):
        raise missing("customer", customer_id)
    return customer


@api.on("GET", "/v1/customers/{id}")
def retrieve_customer(call: Call) -> Doc:
    return call.world.tx.get("customer", call.ids[0])


@api.on("POST", "/v1/customers/{id}", _CUSTOMER)
def update_customer(call: Call) -> Doc:
    customer = live_customer(call, call.ids[0])
    with call.world.changing(customer, "customer.updated"):
        _apply(call, customer, call.params)
    return customer


@api.on("DELETE", "/v1/customers/{id}")
def delete_customer(call: Call) -> Doc:
    """Ends the subscriptions, detaches nothing else; what remains answers `deleted: true`."""
    world, customer = call.world, live_customer(call, call.ids[0])
    for subscription in world.tx.select("subscription", customer=customer["id"]):
        if subscription["status"] not in ENDED:
            standing.end(world, subscription, reason=None)
    world.emit("customer.deleted", customer)
    clock = customer["test_clock"]
    gone = deleted(customer)
    customer.clear()
    customer |= gone | {"_clock": clock}
    return customer


@api.on("GET", "/v1/customers", {**LISTING, "created": CREATED, "email": STR, "test_clock": STR})
def list_customers(call: Call) -> Page:
    page = page_of(call, "customer", "/v1/customers", clock=call.params.get("test_clock"))
    page = Page(page.url, page.where + " AND json_extract(doc, '$.deleted') IS NULL", page.values)
    return narrowed(page, field_is("email", call.params["email"])) if call.params.get("email") else page


@api.on("GET", "/v1/customers/{id}/payment_methods", {**LISTING, "type": STR, "allow_redisplay": STR})
def list_customer_methods(call: Call) -> Page:
    customer = live_customer(call, call.ids[0])
    return page_of(
        call, "payment_method", f"/v1/customers/{customer['id']}/payment_methods", customer=customer["id"]
    )


@api.on("GET", "/v1/customers/{id}/payment_methods/{method}")
def retrieve_customer_method(call: Call) -> Doc:
    method = call.world.tx.get("payment_method", call.ids[1])
    if method["customer"] != call.ids[0]:
        raise missing("PaymentMethod", call.ids[1])
    return method


@api.on(
    "POST",
    "/v1/customers/{id}/balance_transactions",
    {"amount": INT, "currency": STR, "description": STR, "metadata": HASH},
)
def create_balance_transaction(call: Call) -> Doc:
    require(call.params, "amount", "currency")
    customer = live_customer(call, call.ids[0])
    entry = invoices.change_balance(
        call.world,
        customer,
        call.params["amount"],
        currency=call.params["currency"].lower(),
        kind="adjustment",
        description=call.params.get("description"),
    )
    update_plain(entry, call.params, [])
    return entry


@api.on("GET", "/v1/customers/{id}/balance_transactions", {**LISTING, "created": CREATED, "invoice": STR})
def list_balance_transactions(call: Call) -> Page:
    url = f"/v1/customers/{call.ids[0]}/balance_transactions"
    return page_of(
        call, "customer_balance_transaction", url, customer=call.ids[0], invoice=call.params.get("invoice")
    )


@api.on("GET", "/v1/customers/{id}/balance_transactions/{transaction}")
def retrieve_balance_transaction(call: Call) -> Doc:
    return call.world.tx.get("customer_balance_transaction", call.ids[1])


@api.on("GET", "/v1/customers/{id}/subscriptions", LISTING)
def list_customer_subscriptions(call: Call) -> Page:
    return page_of(call, "subscription", f"/v1/customers/{call.ids[0]}/subscriptions", customer=call.ids[0])
