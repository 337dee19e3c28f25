"""Products and prices."""

from decimal import Decimal
from typing import Any

from .. import Doc
from ..engine.pricing import plain
from ..errors import invalid, malformed
from ..forms import ANY, BOOL, DECIMAL, HASH, INT, STR, Shape
from ..ids import new_id
from ..pagination import field_is, narrowed, page_of
from ..routing import CREATED, LISTING, Call, Page, api
from .common import deleted, require, update_plain

_PRODUCT: dict[str, Shape] = {
    "active": BOOL,
    "default_price": STR,
    "description": STR,
    "images": [STR],
    "marketing_features": [{"name": STR}],
    "metadata": HASH,
    "name": STR,
    "shippable": BOOL,
    "statement_descriptor": STR,
    "tax_code": STR,
    "unit_label": STR,
    "url": STR,
}
_PRODUCT_FIELDS = [name for name in _PRODUCT if name != "metadata"]
_RECURRING: Shape = {"interval": STR, "interval_count": INT, "usage_type": STR, "meter": STR}
_TIERS: Shape = [
    {
        "up_to": STR,
        "unit_amount": INT,
        "unit_amount_decimal": DECIMAL,
        "flat_amount": INT,
        "flat_amount_decimal": DECIMAL,
    }
]
_AMOUNT: dict[str, Shape] = {
    "unit_amount": INT,
    "unit_amount_decimal": DECIMAL,
    "tax_behavior": STR,
    "tiers": _TIERS,
}
_PRICE: dict[str, Shape] = {
    **_AMOUNT,
    "active": BOOL,
    "billing_scheme": STR,
    "currency": STR,
    "currency_options": {"*": {**_AMOUNT, "custom_unit_amount": ANY}},
    "lookup_key": STR,
    "metadata": HASH,
    "nickname": STR,
    "product": STR,
    "product_data": {"id": STR, "name": STR, "metadata": HASH, "unit_label": STR, "active": BOOL},
    "recurring": _RECURRING,
    "tiers_mode": STR,
    "transfer_lookup_key": BOOL,
    "transform_quantity": {"divide_by": INT, "round": STR},
}
_INTERVALS = frozenset({"day", "week", "month", "year"})


@api.on("POST", "/v1/products", {**_PRODUCT, "id": STR})
def create_product(call: Call) -> Doc:
    require(call.params, "name")
    return _new_product(call, call.params)


def _new_product(call: Call, params: dict[str, Any]) -> Doc:
    now = call.world.wall()
    product_id = params.get("id") or new_id("product")
    if call.world.tx.find(product_id) is not None:
        raise invalid(f"Product already exists: {product_id}", param="id", code="resource_already_exists")
    product: Doc = {
        "id": product_id,
        "object": "product",
        "active": True,
        "created": now,
        "default_price": None,
        "description": None,
        "images": [],
        "livemode": False,
        "marketing_features": [],
        "metadata": {},
        "name": params["name"],
        "package_dimensions": None,
        "shippable": None,
        "statement_descriptor": None,
        "tax_code": None,
        "type": "service",
        "unit_label": None,
        "updated": now,
        "url": None,
    }
    update_plain(product, params, _PRODUCT_FIELDS)
    call.world.tx.add(product)
    call.world.emit("product.created", product)
    return product


@api.on("GET", "/v1/products/{id}")
def retrieve_product(call: Call) -> Doc:
    return call.world.tx.get("product", call.ids[0])


@api.on("POST", "/v1/products/{id}", _PRODUCT)
def update_product(call: Call) -> Doc:
    product = call.world.tx.get("product", call.ids[0])
    if price := call.params.get("default_price"):
        call.world.tx.get("price", price, param="default_price")
    with call.world.changing(product, "product.updated"):
        update_plain(product, call.params, _PRODUCT_FIELDS)
        product["updated"] = call.world.wall()
    return product


@api.on("DELETE", "/v1/products/{id}")
def delete_product(call: Call) -> Doc:
    product = call.world.tx.get("product", call.ids[0])
    if call.world.tx.select("price", parent=product["id"]):
        raise invalid("This product cannot be deleted because it has one or more user-created prices.")
    call.world.tx.remove(product)
    call.world.emit("product.deleted", product)
    return deleted(product)


@api.on(
    "GET",
    "/v1/products",
    {**LISTING, "active": BOOL, "created": CREATED, "ids": [STR], "url": STR, "shippable": BOOL},
)
def list_products(call: Call) -> Page:
    page = page_of(call, "product", "/v1/products")
    if "active" in call.params:
        page = narrowed(page, field_is("active", call.params["active"]))
    if call.params.get("ids"):
        marks = ", ".join("?" for _ in call.params["ids"])
        page = Page(page.url, f"{page.where} AND id IN ({marks})", [*page.values, *call.params["ids"]])
    return page


@api.on("POST", "/v1/prices", _PRICE)
def create_price(call: Call) -> Doc:
    params = call.params
    require(params, "currency")
    currency = params["currency"].lower()
    if params.get("product_data"):
        product = _new_product(call, params["product_data"])
    else:
        require(params, "product")
        product = call.world.tx.get("product", params["product"], param="product")
    tiered = params.get("billing_scheme") == "tiered"
    price: Doc = {
        "id": new_id("price"),
        "object": "price",
        "active": params.get("active", True),
        "billing_scheme": params.get("billing_scheme") or "per_unit",
        "created": call.world.wall(),
        "currency": currency,
        "custom_unit_amount": None,
        "livemode": False,
        "lookup_key": None,
        "metadata": params.get("metadata") or {},
        "nickname": params.get("nickname"),
        "product": product["id"],
        "recurring": _recurring(params.get("recurring")),
        "tax_behavior": params.get("tax_behavior") or "unspecified",
        "tiers_mode": params.get("tiers_mode"),
        "transform_quantity": params.get("transform_quantity"),
        "type": "recurring" if params.get("recurring") else "one_time",
        **_amounts(params, tiered),
        "_parent": product["id"],
        "_tiers": _tiers(params) if tiered else None,
    }
    price["_currency_options"] = _currency_options(price, params, tiered)
    _claim_lookup_key(call, price)
    call.world.tx.add(price)
    call.world.emit("price.created", price)
    return price


def _recurring(given: dict[str, Any] | None) -> Doc | None:
    if not given:
        return None
    if given.get("interval") not in _INTERVALS:
        raise malformed(
            "Invalid recurring[interval]: must be one of day, week, month, or year",
            param="recurring[interval]",
        )
    if given.get("usage_type") == "metered":
        raise invalid(
            "The sandbox has no metered prices: usage is billed by invoice lines.",
            param="recurring[usage_type]",
        )
    return {
        "interval": given["interval"],
        "interval_count": given.get("interval_count", 1),
        "meter": None,
        "trial_period_days": None,
        "usage_type": "licensed",
    }


def _amounts(params: dict[str, Any], tiered: bool) -> Doc:
    if tiered:
        return {"unit_amount": None, "unit_amount_decimal": None}
    if (params.get("unit_amount") is None) == (params.get("unit_amount_decimal") is None):
        message = "You must specify exactly one of `unit_amount` and `unit_amount_decimal`."
        raise malformed(message, param="unit_amount", code="parameter_missing")
    amount = Decimal(
        params["unit_amount"] if params.get("unit_amount") is not None else params["unit_amount_decimal"]
    )
    whole = int(amount) if amount == int(amount) else None
    return {"unit_amount": whole, "unit_amount_decimal": plain(amount)}


def _tiers(params: dict[str, Any]) -> list[Doc]:
    given = params.get("tiers")
    if not given or params.get("tiers_mode") not in {"graduated", "volume", None}:
        raise malformed(
            "Tiered prices need `tiers` and a `tiers_mode`.", param="tiers", code="parameter_missing"
        )
    return [_tier(tier) for tier in given]


def _tier(tier: dict[str, Any]) -> Doc:
    shaped: Doc = {"up_to": None if tier["up_to"] == "inf" else int(tier["up_to"])}
    for name in ("unit_amount", "flat_amount"):
        decimal = tier.get(f"{name}_decimal")
        amount = Decimal(tier[name]) if tier.get(name) is not None else decimal
        shaped[name] = int(amount) if amount is not None and amount == int(amount) else None
        shaped[f"{name}_decimal"] = plain(amount)
    return shaped


def _currency_options(price: Doc, params: dict[str, Any], tiered: bool) -> Doc:
    own = {
        "custom_unit_amount": None,
        "tax_behavior": price["tax_behavior"],
        "unit_amount": price["unit_amount"],
        "unit_amount_decimal": price["unit_amount_decimal"],
    }
    options = {price["currency"]: own | ({"tiers": price["_tiers"]} if tiered else {})}
    for currency, given in (params.get("currency_options") or {}).items():
        option = {"custom_unit_amount": None, "tax_behavior": given.get("tax_behavior") or "unspecified"}
        option |= _amounts(given, tiered)
        options[currency] = option | ({"tiers": _tiers(given)} if tiered else {})
    return options


def _claim_lookup_key(call: Call, price: Doc) -> None:
    key = call.params.get("lookup_key")
    if not key:
        return
    for other in call.world.tx.select("price"):
        if other["lookup_key"] == key and other["id"] != price["id"]:
            if not call.params.get("transfer_lookup_key"):
                raise invalid(f"A price (`{other['id']}`) already uses that lookup key.", param="lookup_key")
            with call.world.changing(other, "price.updated"):
                other["lookup_key"] = None
    price["lookup_key"] = key


@api.on("GET", "/v1/prices/{id}")
def retrieve_price(call: Call) -> Doc:
    return call.world.tx.get("price", call.ids[0])


_PRICE_UPDATE: dict[str, Shape] = {
    name: _PRICE[name]
    for name in (
        "active",
        "currency_options",
        "lookup_key",
        "metadata",
        "nickname",
        "tax_behavior",
        "transfer_lookup_key",
    )
}


@api.on("POST", "/v1/prices/{id}", _PRICE_UPDATE)
def update_price(call: Call) -> Doc:
    price = call.world.tx.get("price", call.ids[0])
    with call.world.changing(price, "price.updated"):
        update_plain(price, call.params, ("active", "nickname", "tax_behavior"))
        if call.params.get("currency_options"):
            tiered = price["billing_scheme"] == "tiered"
            price["_currency_options"] |= _currency_options(price, call.params, tiered)
        if call.params.get("lookup_key") == "":
            price["lookup_key"] = None
        _claim_lookup_key(call, price)
    return price


_PRICE_FILTERS: dict[str, Shape] = {
    **LISTING,
    "active": BOOL,
    "created": CREATED,
    "currency": STR,
    "lookup_keys": [STR],
    "product": STR,
    "recurring": _RECURRING,
    "type": STR,
}


@api.on("GET", "/v1/prices", _PRICE_FILTERS)
def list_prices(call: Call) -> Page:
    params = call.params
    page = page_of(call, "price", "/v1/prices", parent=params.get("product"))
    page = narrowed(
        page, *(field_is(name, params[name]) for name in ("active", "currency", "type") if name in params)
    )
    for name, value in (params.get("recurring") or {}).items():
        page = narrowed(page, field_is(f"recurring.{name}", value))
    if params.get("lookup_keys"):
        marks = ", ".join("?" for _ in params["lookup_keys"])
        where = f"{page.where} AND json_extract(doc, '$.lookup_key') IN ({marks})"
        page = Page(page.url, where, [*page.values, *params["lookup_keys"]])
    return page
