"""Invoice items: pending ones for a customer's or a subscription's next invoice, or straight onto a draft."""

from .. import Doc
from ..engine import entries, invoices
from ..engine.lines import line_of_invoice_item
from ..errors import invalid
from ..forms import BOOL, DECIMAL, HASH, INT, STR, Shape
from ..pagination import page_of
from ..routing import CREATED, LISTING, Call, Page, api
from .common import DISCOUNTS, deleted, require, update_plain
from .customers import live_customer
from .subscriptions import PRICE_DATA

_ENTRY: dict[str, Shape] = {
    "amount": INT,
    "description": STR,
    "discountable": BOOL,
    "discounts": DISCOUNTS,
    "metadata": HASH,
    "period": {"start": INT, "end": INT},
    "price_data": PRICE_DATA,
    "pricing": {"price": STR},
    "quantity": INT,
    "quantity_decimal": DECIMAL,
    "tax_behavior": STR,
    "tax_rates": [STR],
    "unit_amount_decimal": DECIMAL,
}


@api.on(
    "POST",
    "/v1/invoiceitems",
    {**_ENTRY, "currency": STR, "customer": STR, "invoice": STR, "subscription": STR},
)
def create_invoice_item(call: Call) -> Doc:
    world, params = call.world, call.params
    invoice = world.tx.get("invoice", params["invoice"], param="invoice") if params.get("invoice") else None
    if invoice is not None:
        invoices.require_draft(invoice, "added to")
    else:
        require(params, "customer")
    customer = live_customer(call, params.get("customer") or str(invoice and invoice["customer"]))
    entry = entries.new_entry(world, customer, params, currency=invoice["currency"] if invoice else None)
    if params.get("subscription"):
        _for_subscription(call, entry)
    if invoice is not None:
        put_on_invoice(call, invoice, [entry])
    world.emit("invoiceitem.created", entry)
    return entry


def _for_subscription(call: Call, entry: Doc) -> None:
    subscription = call.world.tx.get("subscription", call.params["subscription"], param="subscription")
    if subscription["currency"] != entry["currency"]:
        raise invalid("The currency must match that of the subscription.", param="currency")
    entry["_subscription"] = subscription["id"]
    entry["parent"] = {
        "type": "subscription_details",
        "subscription_details": {"subscription": subscription["id"], "subscription_item": None},
    }


def put_on_invoice(call: Call, invoice: Doc, entered: list[Doc]) -> None:
    """Make the entries lines of a draft, its figures brought up to date."""
    with call.world.changing(invoice, "invoice.updated"):
        for entry in entered:
            entry["invoice"] = invoice["id"]
            invoice["_lines"].append(line_of_invoice_item(entry, invoice["id"]))
        invoices.refresh(call.world, invoice)


@api.on("GET", "/v1/invoiceitems/{id}")
def retrieve_invoice_item(call: Call) -> Doc:
    return call.world.tx.get("invoiceitem", call.ids[0])


@api.on("POST", "/v1/invoiceitems/{id}", _ENTRY)
def update_invoice_item(call: Call) -> Doc:
    entry = call.world.tx.get("invoiceitem", call.ids[0])
    change_entry(call, entry)
    return entry


def change_entry(call: Call, entry: Doc) -> None:
    """Apply the request to an invoice item, and to its line when it is on a draft.

    Raises: ApiError 400 when its invoice is final.
    """
    world, params = call.world, call.params
    invoice = world.tx.get("invoice", entry["invoice"]) if entry["invoice"] else None
    if invoice is not None:
        invoices.require_draft(invoice, "changed")
    customer = world.tx.get("customer", entry["customer"])
    if params.keys() & {
        "amount",
        "price_data",
        "pricing",
        "quantity",
        "quantity_decimal",
        "unit_amount_decimal",
    }:
        entries.reprice(world, entry, params)
    entries.describe(world, entry, {**params, "metadata": None}, customer)
    update_plain(entry, params, [])
    if invoice is not None:
        with world.changing(invoice, "invoice.updated"):
            line = next(line for line in invoice["_lines"] if of_entry(line, entry["id"]))
            line |= {**line_of_invoice_item(entry, invoice["id"]), "id": line["id"]}
            invoices.refresh(world, invoice)


def of_entry(line: Doc, entry_id: str) -> bool:
    """Whether an invoice item made this line."""
    details = (line["parent"] or {}).get("invoice_item_details")
    return bool(details and details["invoice_item"] == entry_id)


@api.on("DELETE", "/v1/invoiceitems/{id}")
def delete_invoice_item(call: Call) -> Doc:
    world, entry = call.world, call.world.tx.get("invoiceitem", call.ids[0])
    if entry["invoice"]:
        invoice = world.tx.get("invoice", entry["invoice"])
        invoices.require_draft(invoice, "changed")
        with world.changing(invoice, "invoice.updated"):
            invoice["_lines"] = [line for line in invoice["_lines"] if not of_entry(line, entry["id"])]
            invoices.refresh(world, invoice)
    world.tx.remove(entry)
    world.emit("invoiceitem.deleted", entry)
    return deleted(entry)


@api.on(
    "GET",
    "/v1/invoiceitems",
    {**LISTING, "created": CREATED, "customer": STR, "invoice": STR, "pending": BOOL},
)
def list_invoice_items(call: Call) -> Page:
    params = call.params
    page = page_of(
        call,
        "invoiceitem",
        "/v1/invoiceitems",
        customer=params.get("customer"),
        invoice=params.get("invoice"),
    )
    if "pending" in params:
        word = "IS NULL" if params["pending"] else "IS NOT NULL"
        page = Page(page.url, f"{page.where} AND json_extract(doc, '$.invoice') {word}", page.values)
    return page
