"""`create_preview`: the next invoice, worked out for real in a transaction that is thrown away."""

from decimal import Decimal
from typing import Any

from .. import Doc
from ..engine import billing, change
from ..engine.entries import new_entry
from ..engine.items import items_of, period_lines, set_period
from ..engine.lines import line_of_invoice_item
from ..engine.subscribe import create
from ..errors import invalid
from ..forms import BOOL, DECIMAL, HASH, INT, STR, Shape
from ..ids import random_token
from ..render import ENDED, open_paths, render
from ..routing import Call, Rehearsal, api
from .common import AUTOMATIC_TAX, DISCOUNTS
from .subscriptions import CHANGED_ITEM, PRICE_DATA

_DETAILS: Shape = {
    "billing_cycle_anchor": {"type": STR, "timestamp": INT},
    "billing_mode": {"type": STR, "flexible": {"proration_discounts": STR}},
    "cancel_at": STR,
    "cancel_at_period_end": BOOL,
    "cancel_now": BOOL,
    "default_tax_rates": [STR],
    "items": [CHANGED_ITEM],
    "proration_behavior": STR,
    "proration_date": INT,
    "resume_at": STR,
    "start_date": INT,
    "trial_end": STR,
}
_ENTRY: Shape = {
    "amount": INT,
    "currency": STR,
    "description": STR,
    "discountable": BOOL,
    "discounts": DISCOUNTS,
    "invoiceitem": STR,
    "metadata": HASH,
    "period": {"start": INT, "end": INT},
    "price": STR,
    "price_data": PRICE_DATA,
    "quantity": INT,
    "quantity_decimal": DECIMAL,
    "tax_behavior": STR,
    "tax_rates": [STR],
    "unit_amount": INT,
    "unit_amount_decimal": DECIMAL,
}


@api.on(
    "POST",
    "/v1/invoices/create_preview",
    {
        "automatic_tax": AUTOMATIC_TAX,
        "currency": STR,
        "customer": STR,
        "discounts": DISCOUNTS,
        "invoice_items": [_ENTRY],
        "preview_mode": STR,
        "subscription": STR,
        "subscription_details": _DETAILS,
    },
)
def create_preview(call: Call) -> Doc:
    """Raises: Rehearsal, always: the reply leaves, and everything done to find it is undone."""
    details = call.params.get("subscription_details") or {}
    if call.params.get("subscription"):
        invoice = _of_existing(call, call.world.tx.get("subscription", call.params["subscription"]), details)
    elif details.get("items"):
        invoice = _of_new(call, details)
    else:
        raise invalid(
            "You must specify a `subscription`, or `subscription_details[items]`.", param="subscription"
        )
    invoice["billing_reason"] = "upcoming" if invoice["status"] == "draft" else invoice["billing_reason"]
    shown = render(call.world.tx, invoice)
    open_paths(call.world.tx, shown, call.params.get("expand", []))
    raise Rehearsal(_as_preview(shown))


def _as_preview(shown: Doc) -> Doc:
    fresh = f"upcoming_in_{random_token(24)}"
    for line in shown["lines"]["data"]:
        line["invoice"] = fresh
    return shown | {
        "id": fresh,
        "auto_advance": False,
        "automatically_finalizes_at": None,
        "hosted_invoice_url": None,
        "invoice_pdf": None,
        "number": None,
        "status": "draft",
    }


def _of_existing(call: Call, subscription: Doc, details: dict[str, Any]) -> Doc:
    if subscription["status"] in ENDED:
        raise invalid(
            "No upcoming invoices for customer: the subscription has ended.", code="invoice_upcoming_none"
        )
    world = call.world
    reset = (details.get("billing_cycle_anchor") or {}).get("type") == "now"
    mode = details.get("proration_behavior") or "create_prorations"
    # `none` stays none; an immediate invoice is shown from the items that it would take.
    wanted: dict[str, Any] = {
        name: details[name] for name in ("items", "proration_date", "default_tax_rates") if name in details
    }
    wanted["proration_behavior"] = "none" if mode == "none" else "create_prorations"
    if call.params.get("discounts") is not None:
        wanted["discounts"] = call.params["discounts"]
    change.update(world, subscription, wanted | ({"payment_behavior": "default_incomplete"} if reset else {}))
    _extra_entries(call, subscription)
    now = world.now_of(subscription)
    lines: list[Doc] = []
    period = (now, now)
    if reset:
        subscription["billing_cycle_anchor"] = now
    if reset or mode != "always_invoice" or "items" not in details:
        period, lines = _next_period(call, subscription, now if reset else None)
    pending = [line_of_invoice_item(entry, "preview") for entry in billing.pending_for(world, subscription)]
    return _draft(call, subscription, [*pending, *lines], period)


def _next_period(call: Call, subscription: Doc, start: int | None) -> tuple[tuple[int, int], list[Doc]]:
    """The period that closes and the lines of the one that opens (none if it is canceled then)."""
    items = items_of(call.world, subscription)
    ends = min(item["current_period_end"] for item in items)
    begins = min(item["current_period_start"] for item in items)
    if subscription["cancel_at"] is not None and subscription["cancel_at"] <= ends:
        return (begins, ends), []
    lines = []
    for item in items:
        if start is None and item["current_period_end"] != ends:
            continue
        set_period(call.world, subscription, item, ends if start is None else start)
        lines += period_lines(call.world, subscription, item, None)
    return (begins, ends if start is None else start), lines


def _extra_entries(call: Call, subscription: Doc) -> None:
    customer = call.world.tx.get("customer", subscription["customer"])
    for given in call.params.get("invoice_items") or []:
        shaped = dict(given)
        if given.get("price"):
            shaped["pricing"] = {"price": given["price"]}
        if given.get("unit_amount") is not None:
            shaped["unit_amount_decimal"] = Decimal(given["unit_amount"])
        new_entry(
            call.world,
            customer,
            {"currency": subscription["currency"], **shaped},
            currency=subscription["currency"],
        )


def _draft(call: Call, subscription: Doc, lines: list[Doc], period: tuple[int, int]) -> Doc:
    return billing.subscription_draft(
        call.world,
        subscription,
        reason="upcoming",
        period=period,
        lines=lines,
        invoice_id=f"upcoming_{random_token(12)}",
    )


def _of_new(call: Call, details: dict[str, Any]) -> Doc:
    if not call.params.get("customer"):
        raise invalid("The sandbox previews for a customer only.", param="customer", code="parameter_missing")
    wanted: dict[str, Any] = {
        "customer": call.params["customer"],
        "items": [{name: value for name, value in item.items() if name != "id"} for item in details["items"]],
        "payment_behavior": "default_incomplete",
    }
    for name in ("default_tax_rates", "billing_mode"):
        if name in details:
            wanted[name] = details[name]
    if call.params.get("discounts"):
        wanted["discounts"] = call.params["discounts"]
    if str(details.get("trial_end") or "").isdigit():
        wanted["trial_end"] = int(details["trial_end"])
    subscription = create(call.world, wanted)
    return call.world.tx.get("invoice", subscription["latest_invoice"])
