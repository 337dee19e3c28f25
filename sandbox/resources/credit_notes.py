"""Credit notes."""

from .. import Doc
from ..engine import crediting
from ..forms import ANY, DECIMAL, HASH, INT, STR, Shape
from ..pagination import page_of, slice_list
from ..render import public, render, tax_rates
from ..routing import CREATED, LISTING, Call, Page, Rehearsal, api
from .common import require, update_plain

_LINE: Shape = {
    "amount": INT,
    "description": STR,
    "invoice_line_item": STR,
    "metadata": HASH,
    "quantity": INT,
    "tax_amounts": ANY,
    "tax_rates": [STR],
    "type": STR,
    "unit_amount": INT,
    "unit_amount_decimal": DECIMAL,
}
_NOTE: dict[str, Shape] = {
    "amount": INT,
    "credit_amount": INT,
    "effective_at": INT,
    "email_type": STR,
    "invoice": STR,
    "lines": [_LINE],
    "memo": STR,
    "metadata": HASH,
    "out_of_band_amount": INT,
    "reason": STR,
    "refund_amount": INT,
    "refunds": [{"amount_refunded": INT, "refund": STR, "type": STR}],
}


@api.on("POST", "/v1/credit_notes", _NOTE)
def create_credit_note(call: Call) -> Doc:
    require(call.params, "invoice")
    invoice = call.world.tx.get("invoice", call.params["invoice"], param="invoice")
    return crediting.issue(call.world, invoice, call.params)


@api.on("GET", "/v1/credit_notes/preview", _NOTE)
def preview_credit_note(call: Call) -> Doc:
    """Raises: Rehearsal, always: the note is issued, shown and undone."""
    require(call.params, "invoice")
    invoice = call.world.tx.get("invoice", call.params["invoice"], param="invoice")
    raise Rehearsal(render(call.world.tx, crediting.issue(call.world, invoice, call.params)))


@api.on("GET", "/v1/credit_notes/{id}")
def retrieve_credit_note(call: Call) -> Doc:
    return call.world.tx.get("credit_note", call.ids[0])


@api.on("POST", "/v1/credit_notes/{id}", {"memo": STR, "metadata": HASH})
def update_credit_note(call: Call) -> Doc:
    note = call.world.tx.get("credit_note", call.ids[0])
    with call.world.changing(note, "credit_note.updated"):
        update_plain(note, call.params, ["memo"])
    return note


@api.on("POST", "/v1/credit_notes/{id}/void")
def void_credit_note(call: Call) -> Doc:
    note = call.world.tx.get("credit_note", call.ids[0])
    crediting.void_note(call.world, note)
    return note


@api.on("GET", "/v1/credit_notes/{id}/lines", LISTING)
def list_credit_note_lines(call: Call) -> tuple[Doc, list[Doc]]:
    note = call.world.tx.get("credit_note", call.ids[0])
    tx = call.world.tx
    lines = [public(line) | {"tax_rates": tax_rates(tx, line["_tax_rates"])} for line in note["_lines"]]
    return slice_list(call, f"/v1/credit_notes/{note['id']}/lines", lines), []


@api.on("GET", "/v1/credit_notes", {**LISTING, "created": CREATED, "customer": STR, "invoice": STR})
def list_credit_notes(call: Call) -> Page:
    params = call.params
    return page_of(
        call,
        "credit_note",
        "/v1/credit_notes",
        customer=params.get("customer"),
        invoice=params.get("invoice"),
    )
