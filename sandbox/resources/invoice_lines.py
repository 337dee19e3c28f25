"""The lines of an invoice: listed always, changed while it is a draft."""

from typing import Any

from .. import Doc
from ..engine import entries, invoices
from ..engine.items import merged_metadata
from ..errors import invalid, missing
from ..forms import BOOL, DECIMAL, HASH, INT, STR, Shape
from ..pagination import slice_list
from ..render import public
from ..routing import LISTING, Call, api
from .common import DISCOUNTS, update_plain
from .invoice_items import change_entry, of_entry, put_on_invoice
from .subscriptions import PRICE_DATA

_RATE: Shape = {
    "country": STR,
    "description": STR,
    "display_name": STR,
    "inclusive": BOOL,
    "jurisdiction": STR,
    "jurisdiction_level": STR,
    "percentage": DECIMAL,
    "state": STR,
    "tax_type": STR,
}
_LINE: dict[str, Shape] = {
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
    "tax_amounts": [{"amount": INT, "taxable_amount": INT, "taxability_reason": STR, "tax_rate_data": _RATE}],
    "tax_rates": [STR],
}
_ON_ANY_LINE = frozenset({"description", "metadata", "expand", "discountable", "tax_rates"})


@api.on("GET", "/v1/invoices/{id}/lines", LISTING)
def list_lines(call: Call) -> tuple[Doc, list[Doc]]:
    invoice = call.world.tx.get("invoice", call.ids[0])
    shown = [public(line) for line in invoice["_lines"]]
    return slice_list(call, f"/v1/invoices/{invoice['id']}/lines", shown), []


@api.on(
    "POST",
    "/v1/invoices/{id}/add_lines",
    {"lines": [{**_LINE, "invoice_item": STR}], "invoice_metadata": HASH},
)
def add_lines(call: Call) -> Doc:
    """Add up to 250 lines in all; an invoice item stands behind each."""
    world, params = call.world, call.params
    invoice = world.tx.get("invoice", call.ids[0])
    invoices.require_draft(invoice, "added to")
    if not params.get("lines"):
        raise invalid("Missing required param: lines.", param="lines", code="parameter_missing")
    customer = world.tx.get("customer", invoice["customer"])
    with world.changing(invoice, "invoice.updated"):
        if "invoice_metadata" in params:
            invoice["metadata"] = merged_metadata(invoice["metadata"], params["invoice_metadata"])
        given = enumerate(params["lines"])
        put_on_invoice(call, invoice, [_entry(call, invoice, customer, line, index) for index, line in given])
    return invoice


def _entry(call: Call, invoice: Doc, customer: Doc, given: dict[str, Any], index: int) -> Doc:
    if given.get("invoice_item"):
        entry = call.world.tx.get("invoiceitem", given["invoice_item"], param=f"lines[{index}][invoice_item]")
        if entry["invoice"] is not None:
            raise invalid(
                "This invoice item is already on an invoice.", param=f"lines[{index}][invoice_item]"
            )
        return entry
    entry = entries.new_entry(
        call.world, customer, {"currency": invoice["currency"], **given}, currency=invoice["currency"]
    )
    if given.get("tax_amounts"):
        if given.get("tax_rates") or invoice["_default_tax_rates"]:
            raise invalid(
                "You cannot set tax amounts together with tax rates.", param=f"lines[{index}][tax_amounts]"
            )
        entries.set_tax_amounts(call.world, entry, given["tax_amounts"])
    call.world.emit("invoiceitem.created", entry)
    return entry


@api.on(
    "POST",
    "/v1/invoices/{id}/remove_lines",
    {"lines": [{"id": STR, "behavior": STR}], "invoice_metadata": HASH},
)
def remove_lines(call: Call) -> Doc:
    world, invoice = call.world, call.world.tx.get("invoice", call.ids[0])
    invoices.require_draft(invoice, "changed")
    with world.changing(invoice, "invoice.updated"):
        for given in call.params.get("lines") or []:
            line = _line(invoice, given["id"])
            invoice["_lines"].remove(line)
            for entry in world.tx.select("invoiceitem", invoice=invoice["id"]):
                if not of_entry(line, entry["id"]):
                    continue
                if given.get("behavior") == "unassign":
                    entry["invoice"] = None
                else:
                    world.tx.remove(entry)
        invoices.refresh(world, invoice)
    return invoice


def _line(invoice: Doc, line_id: str) -> Doc:
    lines: list[Doc] = invoice["_lines"]
    for line in lines:
        if line["id"] == line_id:
            return line
    raise missing("line_item", line_id)


@api.on("POST", "/v1/invoices/{id}/lines/{line}", _LINE)
def update_line(call: Call) -> tuple[Doc, list[Doc]]:
    """Lines of invoice items change as those do; a subscription's own only in words, tax, discountable."""
    world, invoice = call.world, call.world.tx.get("invoice", call.ids[0])
    invoices.require_draft(invoice, "changed")
    line = _line(invoice, call.ids[1])
    details = (line["parent"] or {}).get("invoice_item_details")
    if details:
        change_entry(call, world.tx.get("invoiceitem", details["invoice_item"]))
        return public(_line(invoice, call.ids[1])), []
    if set(call.params) - _ON_ANY_LINE:
        raise invalid("The amount of a subscription's line cannot be changed.", param="amount")
    with world.changing(invoice, "invoice.updated"):
        update_plain(line, call.params, ("description", "discountable"))
        if "tax_rates" in call.params:
            line["_tax_rates"] = call.params["tax_rates"] or []
        invoices.refresh(world, invoice)
    return public(line), []
