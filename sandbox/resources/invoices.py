"""Invoices: the operations of their life; lines and previews have their own files."""

from typing import Any

from .. import Doc
from ..engine import advance, billing, collect, discounts, invoices, standing, wallet
from ..engine.drafting import DraftTerms
from ..engine.items import rates_named
from ..errors import invalid
from ..forms import ANY, BOOL, HASH, INT, STR, Shape
from ..ids import new_id
from ..pagination import field_is, narrowed, page_of
from ..routing import CREATED, LISTING, Call, Page, api
from ..times import HOUR
from ..world import clock_of
from . import invoice_lines, invoice_preview
from .common import AUTOMATIC_TAX, DISCOUNTS, deleted, require, update_plain
from .customers import live_customer

__all__ = ["invoice_lines", "invoice_preview"]

_COMMON: dict[str, Shape] = {
    "auto_advance": BOOL,
    "automatic_tax": AUTOMATIC_TAX,
    "automatically_finalizes_at": INT,
    "collection_method": STR,
    "custom_fields": [{"name": STR, "value": STR}],
    "days_until_due": INT,
    "default_payment_method": STR,
    "default_tax_rates": [STR],
    "description": STR,
    "discounts": DISCOUNTS,
    "due_date": INT,
    "effective_at": INT,
    "footer": STR,
    "metadata": HASH,
    "number": STR,
    "payment_settings": ANY,
    "statement_descriptor": STR,
}
_PLAIN = ("custom_fields", "description", "due_date", "effective_at", "footer", "statement_descriptor")
_OPEN_TO_CHANGE = frozenset(
    {"auto_advance", "metadata", "default_payment_method", "expand", "payment_settings"}
)


@api.on(
    "POST",
    "/v1/invoices",
    {**_COMMON, "currency": STR, "customer": STR, "pending_invoice_items_behavior": STR, "subscription": STR},
)
def create_invoice(call: Call) -> Doc:
    world, params = call.world, call.params
    require(params, "customer")
    customer = live_customer(call, params["customer"])
    subscription = None
    if params.get("subscription"):
        subscription = world.tx.get("subscription", params["subscription"], param="subscription")
    inherited = subscription or {}
    currency = (params.get("currency") or inherited.get("currency") or customer["currency"] or "usd").lower()
    now = world.now_of(customer)
    invoice_id = new_id("invoice")
    terms = DraftTerms(
        customer=customer,
        currency=currency,
        billing_reason="manual",
        period=(now, now),
        subscription=subscription,
        auto_advance=params.get("auto_advance") is True,
        collection_method=params.get("collection_method") or "charge_automatically",
        days_until_due=params.get("days_until_due"),
        default_tax_rates=_rates(call, inherited.get("_default_tax_rates", [])),
        discounts=[] if "discounts" in params else inherited.get("discounts", []),
        metadata=params.get("metadata") or {},
    )
    waiting = _waiting(call, customer, subscription, currency)
    lines = billing.take_pending(world, waiting, invoice_id)
    invoice = invoices.create_draft(world, terms, lines, invoice_id)
    customer["currency"] = customer["currency"] or currency
    _apply(
        call,
        invoice,
        {name: value for name, value in params.items() if name not in {"metadata", "auto_advance"}},
    )
    return invoice


def _rates(call: Call, inherited: list[str]) -> list[str]:
    if "default_tax_rates" not in call.params:
        return inherited
    return rates_named(call.world, call.params["default_tax_rates"], "default_tax_rates")


def _waiting(call: Call, customer: Doc, subscription: Doc | None, currency: str) -> list[Doc]:
    """The pending items that a new invoice takes: its subscription's, or all when asked to include them."""
    pending = [
        doc
        for doc in call.world.tx.select("invoiceitem", customer=customer["id"])
        if doc["invoice"] is None and doc["currency"] == currency
    ]
    if subscription is not None:
        return [doc for doc in pending if doc["_subscription"] == subscription["id"]]
    if call.params.get("pending_invoice_items_behavior") == "include":
        return [doc for doc in pending if doc["_subscription"] is None]
    return []


def _apply(call: Call, invoice: Doc, params: dict[str, Any]) -> None:
    world = call.world
    customer = world.tx.get("customer", invoice["customer"])
    update_plain(invoice, params, _PLAIN)
    if (params.get("automatic_tax") or {}).get("enabled"):
        raise invalid("The sandbox has no automatic tax: use tax rates.", param="automatic_tax[enabled]")
    if params.get("collection_method"):
        invoice["collection_method"] = params["collection_method"]
    if "days_until_due" in params:
        invoice["_days_until_due"] = params["days_until_due"] or 0
    if "default_payment_method" in params:
        method = params["default_payment_method"]
        param = "default_payment_method"
        invoice[param] = wallet.attached_method(world, method, customer, param=param) if method else None
    if params.get("payment_settings"):
        invoice["payment_settings"] |= params["payment_settings"]
    if "default_tax_rates" in params:
        invoice["_default_tax_rates"] = _rates(call, [])
    invoice["discounts"] = discounts.replaced(world, params, invoice, customer)
    if "auto_advance" in params:
        _set_auto_advance(call, invoice, params["auto_advance"])
    if params.get("automatically_finalizes_at"):
        _finalize_at(call, invoice, params["automatically_finalizes_at"])
    if invoice["status"] == "draft":
        invoices.refresh(world, invoice)


def _set_auto_advance(call: Call, invoice: Doc, value: bool) -> None:
    turned_on = value and not invoice["auto_advance"]
    invoice["auto_advance"] = value
    if invoice["status"] != "draft":
        return
    if not value:
        invoice["automatically_finalizes_at"] = None
    elif turned_on:
        _finalize_at(call, invoice, call.world.now_of(invoice) + HOUR)


def _finalize_at(call: Call, invoice: Doc, at: int) -> None:
    if not invoice["auto_advance"]:
        raise invalid(
            "automatically_finalizes_at needs auto_advance=true.", param="automatically_finalizes_at"
        )
    invoice["automatically_finalizes_at"] = at
    call.world.tx.set_timer(at, clock_of(invoice), "finalize", invoice["id"])


@api.on("GET", "/v1/invoices/{id}")
def retrieve_invoice(call: Call) -> Doc:
    return call.world.tx.get("invoice", call.ids[0])


@api.on("POST", "/v1/invoices/{id}", _COMMON)
def update_invoice(call: Call) -> Doc:
    invoice = call.world.tx.get("invoice", call.ids[0])
    if set(call.params) - _OPEN_TO_CHANGE:
        invoices.require_draft(invoice, "updated")
    with call.world.changing(invoice, "invoice.updated"):
        _apply(call, invoice, call.params)
    return invoice


@api.on("DELETE", "/v1/invoices/{id}")
def delete_invoice(call: Call) -> Doc:
    world, invoice = call.world, call.world.tx.get("invoice", call.ids[0])
    if invoice["status"] != "draft":
        raise invalid("You can only delete draft invoices.", code="invoice_not_editable")
    if invoice["billing_reason"] != "manual":
        raise invalid("You can only delete one-off invoices; this one belongs to a subscription.")
    for entry in world.tx.select("invoiceitem", invoice=invoice["id"]):
        world.tx.remove(entry)
    world.tx.remove(invoice)
    world.emit("invoice.deleted", invoice)
    return deleted(invoice)


@api.on("POST", "/v1/invoices/{id}/finalize", {"auto_advance": BOOL})
def finalize_invoice(call: Call) -> Doc:
    world, invoice = call.world, call.world.tx.get("invoice", call.ids[0])
    advance.finalize_and_settle(world, invoice, auto_advance=call.params.get("auto_advance"))
    if invoice["status"] == "open" and invoice["auto_advance"]:
        # Stripe attempts about an hour later; a test that wants the money now calls `pay`.
        world.tx.set_timer(world.now_of(invoice) + HOUR, clock_of(invoice), "collect", invoice["id"])
        with world.changing(invoice, "invoice.updated"):
            invoice["next_payment_attempt"] = world.now_of(invoice) + HOUR
    return invoice


@api.on(
    "POST",
    "/v1/invoices/{id}/pay",
    {"forgive": BOOL, "mandate": STR, "off_session": BOOL, "paid_out_of_band": BOOL, "payment_method": STR},
)
def pay_invoice(call: Call) -> Doc:
    """402 when the card declines: the attempt, its charge and its events are recorded all the same."""
    world, invoice = call.world, call.world.tx.get("invoice", call.ids[0])
    if invoice["status"] == "paid":
        raise invalid("Invoice is already paid", code="invoice_already_paid")
    if invoice["status"] == "draft":
        advance.finalize_and_settle(world, invoice)
        if invoice["status"] == "paid":
            return invoice
    if invoice["status"] == "void":
        raise invoices.wrong_status(invoice, "paid")
    if call.params.get("paid_out_of_band"):
        collect.pay_out_of_band(world, invoice)
        return invoice
    method = None
    if call.params.get("payment_method"):
        customer = world.tx.get("customer", invoice["customer"])
        method = wallet.method_for(world, call.params["payment_method"], customer)
    off_session = call.params.get("off_session", True)
    refusal = collect.try_to_pay(world, invoice, collect.Attempt(method=method, off_session=off_session))
    if refusal is not None:
        raise refusal
    return invoice


@api.on("POST", "/v1/invoices/{id}/void")
def void_invoice(call: Call) -> Doc:
    invoice = call.world.tx.get("invoice", call.ids[0])
    invoices.void(call.world, invoice)
    return invoice


@api.on("POST", "/v1/invoices/{id}/mark_uncollectible")
def mark_invoice_uncollectible(call: Call) -> Doc:
    invoice = call.world.tx.get("invoice", call.ids[0])
    latest = standing.subscription_of(call.world, invoice)
    is_latest = latest is not None and standing.is_latest_finalized(call.world, latest, invoice)
    invoices.mark_uncollectible(call.world, invoice)
    if is_latest:
        standing.after_uncollectible(call.world, invoice)
    return invoice


@api.on("POST", "/v1/invoices/{id}/send")
def send_invoice(call: Call) -> Doc:
    world, invoice = call.world, call.world.tx.get("invoice", call.ids[0])
    if invoice["status"] == "draft":
        advance.finalize_and_settle(world, invoice)
    world.emit("invoice.sent", invoice)
    return invoice


@api.on(
    "GET",
    "/v1/invoices",
    {
        **LISTING,
        "collection_method": STR,
        "created": CREATED,
        "customer": STR,
        "due_date": CREATED,
        "status": STR,
        "subscription": STR,
    },
)
def list_invoices(call: Call) -> Page:
    params = call.params
    page = page_of(
        call,
        "invoice",
        "/v1/invoices",
        customer=params.get("customer"),
        subscription=params.get("subscription"),
    )
    wanted = ("status", "collection_method")
    return narrowed(page, *(field_is(name, params[name]) for name in wanted if params.get(name)))
