"""Checkout and customer portal sessions: pages where a person plays the customer."""

from typing import Any

from .. import Doc
from ..errors import invalid
from ..forms import ANY, HASH, STR
from ..ids import new_id
from ..pagination import field_is, narrowed, page_of
from ..routing import CREATED, LISTING, Call, Page, api
from ..times import DAY
from ..world import clock_of
from .common import require
from .customers import live_customer

_EMPTY = [
    "adaptive_pricing",
    "after_expiration",
    "allow_promotion_codes",
    "amount_subtotal",
    "amount_total",
    "billing_address_collection",
    "client_secret",
    "collected_information",
    "consent",
    "consent_collection",
    "currency_conversion",
    "customer_account",
    "customer_creation",
    "customer_details",
    "customer_email",
    "discounts",
    "invoice",
    "invoice_creation",
    "locale",
    "origin_context",
    "payment_intent",
    "payment_link",
    "payment_method_collection",
    "payment_method_configuration_details",
    "presentment_details",
    "recovered_from",
    "saved_payment_method_options",
    "setup_intent",
    "shipping_address_collection",
    "shipping_cost",
    "submit_type",
    "subscription",
    "total_details",
    "wallet_options",
]


@api.on(
    "POST",
    "/v1/checkout/sessions",
    {
        "cancel_url": STR,
        "client_reference_id": STR,
        "currency": STR,
        "customer": STR,
        "line_items": ANY,
        "metadata": HASH,
        "mode": STR,
        "return_url": STR,
        "setup_intent_data": ANY,
        "subscription_data": ANY,
        "success_url": STR,
        "ui_mode": STR,
    },
)
def create_checkout_session(call: Call) -> Doc:
    """`setup` only: the page at `url` saves a card for the customer."""
    params = call.params
    require(params, "mode", "customer")
    if params["mode"] != "setup":
        raise invalid("The sandbox has Checkout in `setup` mode only.", param="mode")
    customer = live_customer(call, params["customer"])
    session_id = new_id("checkout.session")
    now = call.world.wall()
    session: Doc = dict.fromkeys(_EMPTY) | {
        "id": session_id,
        "object": "checkout.session",
        "automatic_tax": {"enabled": False, "liability": None, "provider": None, "status": None},
        "cancel_url": params.get("cancel_url"),
        "client_reference_id": params.get("client_reference_id"),
        "created": now,
        "currency": params.get("currency"),
        "custom_fields": [],
        "custom_text": dict.fromkeys(
            ("after_submit", "shipping_address", "submit", "terms_of_service_acceptance")
        ),
        "customer": customer["id"],
        "expires_at": now + DAY,
        "livemode": False,
        "metadata": params.get("metadata") or {},
        "mode": "setup",
        "payment_method_options": {},
        "payment_method_types": ["card"],
        "payment_status": "no_payment_required",
        "permissions": None,
        "phone_number_collection": {"enabled": False},
        "return_url": params.get("return_url"),
        "shipping_options": [],
        "status": "open",
        "success_url": params.get("success_url"),
        "ui_mode": params.get("ui_mode") or "hosted_page",
        "url": f"{call.world.base_url}/checkout/{session_id}",
        "_clock": clock_of(customer),
    }
    return call.world.tx.add(session)


@api.on("GET", "/v1/checkout/sessions/{id}")
def retrieve_checkout_session(call: Call) -> Doc:
    return call.world.tx.get("checkout.session", call.ids[0])


@api.on("GET", "/v1/checkout/sessions", {**LISTING, "created": CREATED, "customer": STR, "status": STR})
def list_checkout_sessions(call: Call) -> Page:
    page = page_of(call, "checkout.session", "/v1/checkout/sessions", customer=call.params.get("customer"))
    return narrowed(page, field_is("status", call.params["status"])) if call.params.get("status") else page


@api.on(
    "POST",
    "/v1/billing_portal/sessions",
    {"configuration": STR, "customer": STR, "flow_data": ANY, "locale": STR, "return_url": STR},
)
def create_portal_session(call: Call) -> Doc:
    """The page at `url` is the customer's: invoices to pay, cards to add."""
    require(call.params, "customer")
    customer = live_customer(call, call.params["customer"])
    session: dict[str, Any] = {
        "id": new_id("billing_portal.session"),
        "object": "billing_portal.session",
        "configuration": call.params.get("configuration") or "bpc_sandbox",
        "created": call.world.wall(),
        "customer": customer["id"],
        "customer_account": None,
        "flow": None,
        "livemode": False,
        "locale": call.params.get("locale"),
        "on_behalf_of": None,
        "return_url": call.params.get("return_url"),
        "url": f"{call.world.base_url}/customer/{customer['id']}",
        "_clock": clock_of(customer),
    }
    return call.world.tx.add(session)
