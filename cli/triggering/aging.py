"""A current object of Stripe as an earlier release train showed it, as far as anything here reads it.

Each release that moved something is one step back. Source: docs.stripe.com/changelog, and the payloads of
tests/fixtures/stripe_payloads, which a test holds these steps against.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Shape = dict[str, Any]

_TRAINS = ("acacia", "basil", "clover", "dahlia", "endive")


@dataclass(frozen=True, slots=True)
class Links:
    """What old objects named directly and new ones leave to `invoice_payments`."""

    invoice: str | None = None
    payment_intent: str | None = None
    charge: str | None = None


def aged(about: Shape, api_version: str, links: Links | None = None) -> Shape:
    """The object in the shape of `api_version`; the two versions of 2024 without a train are like acacia."""
    train = api_version.partition(".")[2] or "acacia"
    shape = dict(about)
    for newer in reversed(_TRAINS[_TRAINS.index(train) + 1 :]):
        step = _STEPS.get(newer, {}).get(str(about.get("object")))
        if step is not None:
            shape = step(shape, links or Links())
    return shape


def _intent_before_endive(intent: Shape, _: Links) -> Shape:
    old = dict(intent)
    old["payment_method_types"] = old.pop("allowed_payment_method_types", None) or ["card"]
    return old


def _invoice_before_endive(invoice: Shape, _: Links) -> Shape:
    return _without(invoice, "status_details")


def _subscription_before_endive(subscription: Shape, _: Links) -> Shape:
    return _without(subscription, "status_details", "billing_schedules")


def _invoice_before_dahlia(invoice: Shape, _: Links) -> Shape:
    lines = [_without(line, "quantity_decimal") for line in invoice["lines"]["data"]]
    return {**invoice, "lines": {**invoice["lines"], "data": lines}}


def _subscription_before_clover(subscription: Shape, _: Links) -> Shape:
    """Discounts named their coupon themselves."""
    discounts = [_with_own_coupon(each) for each in subscription.get("discounts") or []]
    return {**subscription, "discounts": discounts}


def _credit_note_before_clover(note: Shape, _: Links) -> Shape:
    """One refund at most, and only the type told whether the invoice had been paid."""
    old = _without(note, "pre_payment_amount", "post_payment_amount", "refunds")
    refunds = note.get("refunds") or []
    old["refund"] = refunds[0]["refund"] if refunds else None
    return old


def _customer_before_clover(customer: Shape, _: Links) -> Shape:
    return {**customer, "discount": _with_own_coupon(customer.get("discount"))}


def _with_own_coupon(discount: Any) -> Any:
    if not isinstance(discount, Mapping) or "source" not in discount:
        return discount
    return {**_without(discount, "source"), "coupon": discount["source"]["coupon"]}


def _invoice_before_basil(invoice: Shape, links: Links) -> Shape:
    details = (invoice.get("parent") or {}).get("subscription_details") or {}
    taxes = [_old_tax(tax) for tax in invoice.get("total_taxes") or []]
    discounts = invoice.get("discounts") or []
    lines = [_line_before_basil(line) for line in invoice["lines"]["data"]]
    old = _without(invoice, "parent", "total_taxes", "confirmation_secret", "payments", "amount_overpaid")
    return old | {
        "subscription": details.get("subscription"),
        "subscription_details": {"metadata": details.get("metadata") or {}},
        "paid": invoice.get("status") == "paid",
        "paid_out_of_band": False,
        "charge": links.charge,
        "payment_intent": links.payment_intent,
        "quote": None,
        "discount": discounts[0] if discounts else None,
        "tax": sum(tax["amount"] for tax in taxes) if taxes else None,
        "total_tax_amounts": taxes,
        "lines": {**invoice["lines"], "data": lines},
    }


def _line_before_basil(line: Shape) -> Shape:
    parent = line.get("parent") or {}
    details = parent.get("subscription_item_details") or parent.get("invoice_item_details") or {}
    price = (line.get("pricing") or {}).get("price_details") or {}
    shown = {"id": price.get("price"), "object": "price", "product": price.get("product")} if price else None
    item_id = details.get("subscription_item")
    named = {"subscription_item": item_id} if item_id else {}
    return (
        _without(line, "parent", "pricing", "taxes", "subtotal")
        | named
        | {
            "amount_excluding_tax": line["amount"],
            "invoice_item": details.get("invoice_item"),
            "plan": {**shown, "object": "plan"} if shown else None,
            "price": shown,
            "proration": bool(details.get("proration")),
            "proration_details": {"credited_items": None},
            "tax_amounts": [_old_tax(tax) for tax in line.get("taxes") or []],
            "tax_rates": [],
            "type": "subscription" if item_id else "invoiceitem",
        }
    )


def _old_tax(tax: Mapping[str, Any]) -> Shape:
    return {
        "amount": tax["amount"],
        "inclusive": tax.get("tax_behavior") == "inclusive",
        "tax_rate": (tax.get("tax_rate_details") or {}).get("tax_rate"),
        "taxability_reason": tax.get("taxability_reason"),
        "taxable_amount": tax.get("taxable_amount"),
    }


def _subscription_before_basil(subscription: Shape, _: Links) -> Shape:
    items = subscription["items"]["data"]
    old = _without(subscription, "billing_mode")
    for name in ("current_period_start", "current_period_end"):
        old[name] = next((item[name] for item in items), None)
    discounts = subscription.get("discounts") or []
    old["discount"] = discounts[0] if discounts else None
    bare = [_without(item, "current_period_start", "current_period_end") for item in items]
    old["items"] = {**subscription["items"], "data": bare}
    return old


def _payment_before_basil(payment: Shape, links: Links) -> Shape:
    """Charges and payment intents named the invoice that they pay."""
    return {**payment, "invoice": links.invoice}


def _credit_note_before_basil(note: Shape, _: Links) -> Shape:
    taxes = [_old_tax(tax) for tax in note.get("total_taxes") or []]
    return _without(note, "total_taxes") | {"tax_amounts": taxes}


def _without(shape: Mapping[str, Any], *names: str) -> Shape:
    return {name: value for name, value in shape.items() if name not in names}


# The train that moved something, and how each object looked before it.
_STEPS: Mapping[str, Mapping[str, Callable[[Shape, Links], Shape]]] = {
    "endive": {
        "invoice": _invoice_before_endive,
        "payment_intent": _intent_before_endive,
        "setup_intent": _intent_before_endive,
        "subscription": _subscription_before_endive,
    },
    "dahlia": {"invoice": _invoice_before_dahlia},
    "clover": {
        "credit_note": _credit_note_before_clover,
        "customer": _customer_before_clover,
        "subscription": _subscription_before_clover,
    },
    "basil": {
        "charge": _payment_before_basil,
        "credit_note": _credit_note_before_basil,
        "invoice": _invoice_before_basil,
        "payment_intent": _payment_before_basil,
        "subscription": _subscription_before_basil,
    },
}
