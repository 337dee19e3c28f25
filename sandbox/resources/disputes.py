"""Disputes: they come from the card `pm_card_createDispute`; accepting one loses it."""

from .. import Doc
from ..engine.disputes import close_dispute
from ..forms import HASH, STR
from ..pagination import page_of
from ..routing import CREATED, LISTING, Call, Page, api
from .common import update_plain


@api.on("GET", "/v1/disputes/{id}")
def retrieve_dispute(call: Call) -> Doc:
    return call.world.tx.get("dispute", call.ids[0])


@api.on("POST", "/v1/disputes/{id}", {"metadata": HASH})
def update_dispute(call: Call) -> Doc:
    dispute = call.world.tx.get("dispute", call.ids[0])
    with call.world.changing(dispute, "charge.dispute.updated"):
        update_plain(dispute, call.params, [])
    return dispute


@api.on("POST", "/v1/disputes/{id}/close")
def accept_dispute(call: Call) -> Doc:
    dispute = call.world.tx.get("dispute", call.ids[0])
    close_dispute(call.world, dispute, "lost")
    return dispute


@api.on("GET", "/v1/disputes", {**LISTING, "charge": STR, "created": CREATED, "payment_intent": STR})
def list_disputes(call: Call) -> Page:
    charge = call.params.get("charge")
    if call.params.get("payment_intent"):
        intent = call.world.tx.get("payment_intent", call.params["payment_intent"], param="payment_intent")
        charge = intent["latest_charge"] or "none"
    return page_of(call, "dispute", "/v1/disputes", parent=charge)
