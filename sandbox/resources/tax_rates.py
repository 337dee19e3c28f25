"""Tax rates."""

from .. import Doc
from ..forms import BOOL, DECIMAL, HASH, STR, Shape
from ..ids import new_id
from ..pagination import field_is, narrowed, page_of
from ..routing import CREATED, LISTING, Call, Page, api
from .common import require, update_plain

_SOFT: dict[str, Shape] = {
    "active": BOOL,
    "country": STR,
    "description": STR,
    "display_name": STR,
    "jurisdiction": STR,
    "metadata": HASH,
    "state": STR,
    "tax_type": STR,
}
_SOFT_FIELDS = [name for name in _SOFT if name != "metadata"]


@api.on("POST", "/v1/tax_rates", {**_SOFT, "inclusive": BOOL, "percentage": DECIMAL})
def create_tax_rate(call: Call) -> Doc:
    require(call.params, "display_name", "percentage", "inclusive")
    return new_tax_rate(call, call.params)


def new_tax_rate(call: Call, params: Doc, *, active: bool = True) -> Doc:
    """A tax rate from checked parameters; `active` false for those that a line's own tax amounts make."""
    percentage = float(params["percentage"])
    rate: Doc = {
        "id": new_id("tax_rate"),
        "object": "tax_rate",
        "active": active,
        "country": None,
        "created": call.world.wall(),
        "description": None,
        "display_name": params["display_name"],
        "effective_percentage": percentage,
        "flat_amount": None,
        "inclusive": params["inclusive"],
        "jurisdiction": None,
        "jurisdiction_level": None,
        "livemode": False,
        "metadata": {},
        "percentage": percentage,
        "rate_type": "percentage",
        "state": None,
        "tax_type": None,
    }
    update_plain(rate, params, _SOFT_FIELDS)
    call.world.tx.add(rate)
    call.world.emit("tax_rate.created", rate)
    return rate


@api.on("GET", "/v1/tax_rates/{id}")
def retrieve_tax_rate(call: Call) -> Doc:
    return call.world.tx.get("tax_rate", call.ids[0])


@api.on("POST", "/v1/tax_rates/{id}", _SOFT)
def update_tax_rate(call: Call) -> Doc:
    rate = call.world.tx.get("tax_rate", call.ids[0])
    with call.world.changing(rate, "tax_rate.updated"):
        update_plain(rate, call.params, _SOFT_FIELDS)
    return rate


@api.on("GET", "/v1/tax_rates", {**LISTING, "active": BOOL, "created": CREATED, "inclusive": BOOL})
def list_tax_rates(call: Call) -> Page:
    page = page_of(call, "tax_rate", "/v1/tax_rates")
    wanted = ("active", "inclusive")
    return narrowed(page, *(field_is(name, call.params[name]) for name in wanted if name in call.params))
