"""Refunds."""

from .. import Doc
from ..engine.refunding import RefundTerms, charge_of_intent, refund
from ..errors import malformed
from ..forms import HASH, INT, STR
from ..pagination import field_is, narrowed, page_of
from ..routing import CREATED, LISTING, Call, Page, api
from .common import update_plain


@api.on(
    "POST",
    "/v1/refunds",
    {"amount": INT, "charge": STR, "metadata": HASH, "payment_intent": STR, "reason": STR},
)
def create_refund(call: Call) -> Doc:
    params = call.params
    if params.get("payment_intent"):
        charge = charge_of_intent(call.world, params["payment_intent"])
    elif params.get("charge"):
        charge = call.world.tx.get("charge", params["charge"], param="charge")
    else:
        raise malformed(
            "One of the following params should be provided: payment_intent or charge.", param="charge"
        )
    terms = RefundTerms(
        charge=charge,
        amount=params.get("amount"),
        reason=params.get("reason"),
        metadata=params.get("metadata") or {},
    )
    return refund(call.world, terms)


@api.on("GET", "/v1/refunds/{id}")
def retrieve_refund(call: Call) -> Doc:
    return call.world.tx.get("refund", call.ids[0])


@api.on("POST", "/v1/refunds/{id}", {"metadata": HASH})
def update_refund(call: Call) -> Doc:
    given_back = call.world.tx.get("refund", call.ids[0])
    with call.world.changing(given_back, "refund.updated"):
        update_plain(given_back, call.params, [])
    return given_back


@api.on("GET", "/v1/refunds", {**LISTING, "charge": STR, "created": CREATED, "payment_intent": STR})
def list_refunds(call: Call) -> Page:
    params = call.params
    page = page_of(call, "refund", "/v1/refunds", parent=params.get("charge"))
    if params.get("payment_intent"):
        unfiltered = page_of(call, "refund", "/v1/refunds").where
        where = page.where.replace(" AND clock IS NULL", "") if page.where == unfiltered else page.where
        page = narrowed(
            Page(page.url, where, page.values), field_is("payment_intent", params["payment_intent"])
        )
    return page
