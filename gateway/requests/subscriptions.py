"""Requests about subscriptions. All of ours use flexible billing, which cannot be undone."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

from gateway.requests.request import Request, as_metadata, given, listed

PaymentBehavior = Literal["default_incomplete", "allow_incomplete", "error_if_incomplete"]
ProrationBehavior = Literal["create_prorations", "always_invoice", "none"]

# What the caller needs of the first invoice: the secret for the browser, and how it was paid.
SUBSCRIPTION_EXPANSIONS = (
    "latest_invoice.confirmation_secret",
    "latest_invoice.payments",
    "pending_setup_intent",
)


class Item(TypedDict, total=False):
    """One price on a subscription. For a change, `id` names the item; without it a second one is added."""

    id: str
    price: str
    quantity: int
    deleted: bool
    metadata: Mapping[str, object]
    tax_rates: Sequence[str]


def create_subscription(
    customer_id: str,
    items: Sequence[Item],
    *,
    metadata: Mapping[str, object],
    discounts: Sequence[str] = (),
    default_tax_rates: Sequence[str] = (),
    trial_end: int | None = None,
    payment_behavior: PaymentBehavior = "default_incomplete",
    off_session: bool = False,
    billing_cycle_anchor: int | None = None,
    proration_behavior: ProrationBehavior | None = None,
) -> Request:
    """Subscribe a customer to some prices.

    `discounts` are coupon ids; `trial_end` and `billing_cycle_anchor` Unix seconds in the future.
    `payment_behavior`: "default_incomplete" attempts no payment (the browser confirms), "allow_incomplete"
    charges the saved card now and leaves the subscription incomplete on a decline.
    `metadata` must name our own row: the webhook may come before the reply.
    A trial that ends without a card makes an invoice: dunning is ours, not an end of Stripe's choosing.
    """
    return Request(
        "create_subscription",
        params=given(
            customer=customer_id,
            items=[_item(item) for item in items],
            discounts=_coupons(discounts),
            default_tax_rates=listed(tuple(default_tax_rates)),
            trial_end=trial_end,
            trial_settings={"end_behavior": {"missing_payment_method": "create_invoice"}},
            payment_behavior=payment_behavior,
            off_session=off_session or None,
            collection_method="charge_automatically",
            billing_mode={"type": "flexible"},
            billing_cycle_anchor=billing_cycle_anchor,
            proration_behavior=proration_behavior,
            metadata=as_metadata(metadata),
            expand=list(SUBSCRIPTION_EXPANSIONS),
        ),
    )


def update_subscription(
    subscription_id: str,
    *,
    items: Sequence[Item] | None = None,
    cancel_at_period_end: bool | None = None,
    proration_behavior: ProrationBehavior | None = None,
    proration_date: int | None = None,
    payment_behavior: PaymentBehavior | Literal["pending_if_incomplete"] | None = None,
    kept_discounts: Sequence[str] | None = None,
    new_coupons: Sequence[str] = (),
    default_tax_rates: Sequence[str] | None = None,
    trial_end: int | Literal["now"] | None = None,
    restart: bool = False,
    metadata: Mapping[str, object] | None = None,
) -> Request:
    """Change a subscription; None leaves a field, an empty sequence of discounts or tax rates clears it.

    `kept_discounts` are ids of discounts that it has: its coupons, named anew, would begin anew; before them
    come `new_coupons`. `restart` moves the anchor to now: whole new periods begin, and are invoiced and
    charged at once.

    Raises ValueError when an item changes its price without naming a quantity: Stripe would reset it to 1.
    """
    for item in items or ():
        if "id" in item and "price" in item and "quantity" not in item:
            raise ValueError(f"item {item['id']} changes its price and must name its quantity")
    return Request(
        "update_subscription",
        subscription_id,
        given(
            items=[_item(item) for item in items] if items else None,
            cancel_at_period_end=cancel_at_period_end,
            proration_behavior=proration_behavior,
            proration_date=proration_date,
            payment_behavior=payment_behavior,
            discounts=None
            if kept_discounts is None
            else [*(_coupons(new_coupons) or ()), *({"discount": each} for each in kept_discounts)] or "",
            default_tax_rates=None if default_tax_rates is None else list(default_tax_rates) or "",
            trial_end=trial_end,
            billing_cycle_anchor={"type": "now"} if restart else None,
            off_session=restart or None,
            metadata=as_metadata(metadata),
        ),
    )


def cancel_subscription(subscription_id: str, comment: str) -> Request:
    """End a subscription now and for ever. Bills nothing: the last usage goes on an invoice of our own."""
    return Request(
        "cancel_subscription",
        subscription_id,
        {"invoice_now": False, "prorate": False, "cancellation_details": {"comment": comment[:500]}},
    )


def pause_subscription(subscription_id: str) -> Request:
    """Suspend a subscription: it makes no invoices, and unused time is not credited."""
    return Request(
        "pause_subscription",
        subscription_id,
        {"type": "subscription", "bill_for": {"unused_time_from": {"type": "none"}}},
    )


def resume_subscription(subscription_id: str) -> Request:
    """End a suspension once the first invoice of a period that starts now is paid."""
    return Request(
        "resume_subscription",
        subscription_id,
        {"billing_cycle_anchor": {"type": "now"}, "payment_behavior": "resume_on_payment_success"},
    )


def preview_change(subscription_id: str, items: Sequence[Item], proration_date: int | None = None) -> Request:
    """The next invoice as it would be after a change; nothing is written."""
    return Request(
        "preview_invoice",
        params={
            "subscription": subscription_id,
            "subscription_details": given(
                items=[_item(item) for item in items], proration_date=proration_date
            ),
        },
    )


def _item(item: Item) -> dict[str, Any]:
    plain: dict[str, Any] = dict(item)
    if "metadata" in item:
        plain["metadata"] = as_metadata(item["metadata"])
    if "tax_rates" in item:
        plain["tax_rates"] = list(item["tax_rates"])
    return plain


def _coupons(coupon_ids: Sequence[str]) -> list[dict[str, str]] | None:
    return [{"coupon": coupon_id} for coupon_id in coupon_ids] or None
