"""Subscription items, each on its own: the same changes as through the subscription."""

from typing import Any

from .. import Doc
from ..engine import change
from ..engine.items import items_of
from ..forms import BOOL, INT, STR, Shape
from ..pagination import page_of
from ..routing import LISTING, Call, Page, api
from .common import deleted, require
from .subscriptions import ITEM

_HOW: dict[str, Shape] = {
    "payment_behavior": STR,
    "proration_behavior": STR,
    "proration_date": INT,
    "off_session": BOOL,
}


@api.on("GET", "/v1/subscription_items", {**LISTING, "subscription": STR})
def list_subscription_items(call: Call) -> Page:
    require(call.params, "subscription")
    subscription = call.world.tx.get("subscription", call.params["subscription"])
    return page_of(call, "subscription_item", "/v1/subscription_items", subscription=subscription["id"])


@api.on("GET", "/v1/subscription_items/{id}")
def retrieve_subscription_item(call: Call) -> Doc:
    return call.world.tx.get("subscription_item", call.ids[0])


@api.on("POST", "/v1/subscription_items", {**ITEM, **_HOW, "subscription": STR})
def create_subscription_item(call: Call) -> Doc:
    require(call.params, "subscription")
    subscription = call.world.tx.get("subscription", call.params["subscription"], param="subscription")
    _change(call, subscription, {name: value for name, value in call.params.items() if name in ITEM})
    return items_of(call.world, subscription)[-1]


@api.on("POST", "/v1/subscription_items/{id}", {**ITEM, **_HOW})
def update_subscription_item(call: Call) -> Doc:
    item = call.world.tx.get("subscription_item", call.ids[0])
    named = {name: value for name, value in call.params.items() if name in ITEM}
    _change(call, call.world.tx.get("subscription", item["subscription"]), {**named, "id": item["id"]})
    return item


@api.on("DELETE", "/v1/subscription_items/{id}", {**_HOW, "clear_usage": BOOL})
def delete_subscription_item(call: Call) -> Doc:
    item = call.world.tx.get("subscription_item", call.ids[0])
    subscription = call.world.tx.get("subscription", item["subscription"])
    _change(call, subscription, {"id": item["id"], "deleted": True})
    return deleted(item)


def _change(call: Call, subscription: Doc, item: dict[str, Any]) -> None:
    how = {name: value for name, value in call.params.items() if name in _HOW}
    change.update(call.world, subscription, {**how, "items": [item]})
