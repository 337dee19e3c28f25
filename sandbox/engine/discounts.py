"""Discounts: coupons put on subscriptions, items, invoices and lines, and how long they last."""

from typing import Any

from .. import Doc
from ..errors import invalid
from ..ids import new_id
from ..times import add_months
from ..world import World, clock_of


def put_on(world: World, requested: Any, holder: Doc, customer: Doc) -> list[str]:
    """The discount ids for a `discounts` parameter: new ones for coupons, known ones by id; "" gives none.

    A coupon that is there already, named anew, begins anew.
    `holder` is the subscription, item, invoice or invoice item that carries them.
    Raises: ApiError 400 for coupons that are unknown or may no longer be redeemed.
    """
    ids = []
    for entry in requested or []:
        if "coupon" in entry:
            ids.append(_discount_with(world, entry["coupon"], holder, customer))
        elif "discount" in entry:
            ids.append(world.tx.get("discount", entry["discount"], param="discounts")["id"])
        else:
            raise invalid(
                "A discount needs a `coupon` or a `discount`; the sandbox has no promotion codes.",
                param="discounts",
            )
    return ids


def _discount_with(world: World, coupon_id: str, holder: Doc, customer: Doc) -> str:
    coupon = world.tx.get("coupon", coupon_id, param="discounts[0][coupon]")
    now = world.now_of(customer)
    if not coupon["valid"] or (coupon["redeem_by"] and coupon["redeem_by"] < world.wall()):
        raise invalid(f"Coupon expired: {coupon_id}", param="coupon", code="coupon_expired")
    coupon["times_redeemed"] += 1
    if coupon["max_redemptions"] and coupon["times_redeemed"] >= coupon["max_redemptions"]:
        coupon["valid"] = False
    kind = holder["object"]
    repeating = coupon["duration"] == "repeating"
    discount = world.tx.add(
        {
            "id": new_id("discount"),
            "object": "discount",
            "checkout_session": None,
            "customer": customer["id"],
            "customer_account": None,
            "end": add_months(now, coupon["duration_in_months"]) if repeating else None,
            "invoice": holder["id"] if kind == "invoice" else None,
            "invoice_item": holder["id"] if kind == "invoiceitem" else None,
            "promotion_code": None,
            "source": {"coupon": coupon_id, "type": "coupon"},
            "start": now,
            "subscription": holder["id"] if kind == "subscription" else holder.get("subscription"),
            "subscription_item": holder["id"] if kind == "subscription_item" else None,
            "_clock": clock_of(customer),
        }
    )
    return str(discount["id"])


def live(world: World, ids: list[str], now: int) -> list[str]:
    """Those whose months have not run out."""
    found = (world.tx.get("discount", discount_id) for discount_id in ids)
    return [doc["id"] for doc in found if doc["end"] is None or doc["end"] > now]


def replaced(world: World, params: dict[str, Any], holder: Doc, customer: Doc) -> list[str]:
    """The holder's discounts after an update: unchanged when the request does not name them."""
    current: list[str] = holder["discounts"]
    if "discounts" not in params:
        return current
    return put_on(world, params["discounts"], holder, customer)
