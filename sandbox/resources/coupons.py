"""Coupons."""

from .. import Doc
from ..errors import invalid, missing
from ..forms import DECIMAL, HASH, INT, STR, Shape
from ..ids import new_id
from ..pagination import page_of
from ..routing import CREATED, LISTING, Call, Page, api
from .common import deleted, update_plain

_COUPON: dict[str, Shape] = {
    "amount_off": INT,
    "applies_to": {"products": [STR]},
    "currency": STR,
    "currency_options": {"*": {"amount_off": INT}},
    "duration": STR,
    "duration_in_months": INT,
    "id": STR,
    "max_redemptions": INT,
    "metadata": HASH,
    "name": STR,
    "percent_off": DECIMAL,
    "redeem_by": INT,
}


@api.on("POST", "/v1/coupons", _COUPON)
def create_coupon(call: Call) -> Doc:
    params = call.params
    percent, amount = params.get("percent_off"), params.get("amount_off")
    if (percent is None) == (amount is None):
        raise invalid("You must pass exactly one of `percent_off` and `amount_off`.", param="percent_off")
    if percent is not None and not 0 < percent <= 100:
        raise invalid("Invalid percent_off: must be greater than 0 and at most 100.", param="percent_off")
    if amount is not None and not params.get("currency"):
        raise invalid("You must pass currency when passing amount_off", param="currency")
    duration = params.get("duration") or "once"
    if (duration == "repeating") != ("duration_in_months" in params):
        raise invalid(
            "`duration_in_months` goes with `duration=repeating`, and only with it.",
            param="duration_in_months",
        )
    coupon_id = params.get("id") or new_id("coupon")
    if call.world.tx.find(coupon_id) is not None:
        raise invalid("Coupon already exists.", param="id", code="resource_already_exists")
    for product in (params.get("applies_to") or {}).get("products", []):
        call.world.tx.get("product", product, param="applies_to[products]")
    coupon: Doc = {
        "id": coupon_id,
        "object": "coupon",
        "amount_off": amount,
        "created": call.world.wall(),
        "currency": params["currency"].lower() if amount is not None else None,
        "duration": duration,
        "duration_in_months": params.get("duration_in_months"),
        "livemode": False,
        "max_redemptions": params.get("max_redemptions"),
        "metadata": params.get("metadata") or {},
        "name": params.get("name"),
        # JSON has one kind of number; the decimal's shortest form goes out and comes back exactly.
        "percent_off": None if percent is None else float(percent),
        "redeem_by": params.get("redeem_by"),
        "times_redeemed": 0,
        "valid": True,
        "_applies_to": params.get("applies_to"),
        "_currency_options": params.get("currency_options"),
    }
    call.world.tx.add(coupon)
    call.world.emit("coupon.created", coupon)
    return coupon


def _live(call: Call) -> Doc:
    coupon = call.world.tx.get("coupon", call.ids[0])
    if coupon.get("_gone"):
        raise missing("coupon", coupon["id"])
    return coupon


@api.on("GET", "/v1/coupons/{id}")
def retrieve_coupon(call: Call) -> Doc:
    return _live(call)


@api.on("POST", "/v1/coupons/{id}", {"metadata": HASH, "name": STR})
def update_coupon(call: Call) -> Doc:
    coupon = _live(call)
    with call.world.changing(coupon, "coupon.updated"):
        update_plain(coupon, call.params, ["name"])
    return coupon


@api.on("DELETE", "/v1/coupons/{id}")
def delete_coupon(call: Call) -> Doc:
    """Deleting keeps the discounts that were already given: the coupon is only no longer valid."""
    coupon = _live(call)
    coupon |= {"valid": False, "_gone": True}
    call.world.emit("coupon.deleted", coupon)
    return deleted(coupon)


@api.on("GET", "/v1/coupons", {**LISTING, "created": CREATED})
def list_coupons(call: Call) -> Page:
    page = page_of(call, "coupon", "/v1/coupons")
    return Page(page.url, f"{page.where} AND json_extract(doc, '$._gone') IS NULL", page.values)
