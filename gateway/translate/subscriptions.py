"""Subscriptions, customers and payment methods of any supported version."""

from gateway.translate.facts import (
    CustomerFacts,
    PaymentMethodFacts,
    SubscriptionFacts,
    SubscriptionItemFacts,
)
from gateway.translate.shapes import (
    Shape,
    inner,
    instant,
    needed,
    needed_instant,
    reference,
    rows,
    text,
    whole,
    words,
)


def subscription(shape: Shape) -> SubscriptionFacts:
    """A subscription. Raises MalformedPayload.

    Until acacia the running period stood on the subscription, since basil on each item; the one discount of
    old versions is the first of the later list.
    """
    return SubscriptionFacts(
        id=needed(shape, "id"),
        customer_id=reference(needed(shape, "customer")) or "",
        status=needed(shape, "status"),
        items=tuple(subscription_item(item, shape) for item in rows(shape, "items")),
        trial_start_at=instant(shape.get("trial_start")),
        trial_end_at=instant(shape.get("trial_end")),
        cancel_at=instant(shape.get("cancel_at")),
        cancel_at_period_end=bool(shape.get("cancel_at_period_end")),
        cancelled_at=instant(shape.get("canceled_at")),
        ended_at=instant(shape.get("ended_at")),
        anchor_at=needed_instant(shape, "billing_cycle_anchor"),
        latest_invoice_id=reference(shape.get("latest_invoice")),
        default_payment_method_id=reference(shape.get("default_payment_method")),
        discount_ids=_discounts(shape),
        metadata=words(shape),
        test_clock_id=reference(shape.get("test_clock")),
        pending_setup_intent_id=reference(shape.get("pending_setup_intent")),
        items_complete=not inner(shape, "items").get("has_more"),
        collection_paused=bool(inner(shape, "pause_collection")),
    )


def customer(shape: Shape) -> CustomerFacts:
    """A customer, or what is left of a deleted one. Raises MalformedPayload."""
    currency = text(shape, "currency")
    return CustomerFacts(
        id=needed(shape, "id"),
        email=text(shape, "email"),
        balance_minor=whole(shape, "balance"),
        currency=currency.upper() if currency else None,
        default_payment_method_id=reference(inner(shape, "invoice_settings").get("default_payment_method")),
        metadata=words(shape),
        deleted=bool(shape.get("deleted")),
    )


def payment_method(shape: Shape) -> PaymentMethodFacts:
    """A payment method. Raises MalformedPayload."""
    card = inner(shape, "card")
    return PaymentMethodFacts(
        id=needed(shape, "id"),
        customer_id=reference(shape.get("customer")),
        type=needed(shape, "type"),
        brand=text(card, "brand"),
        last4=text(card, "last4"),
        exp_month=card.get("exp_month"),
        exp_year=card.get("exp_year"),
    )


def subscription_item(item: Shape, owner: Shape) -> SubscriptionItemFacts:
    """One item; its subscription `owner` carried the period before basil. Raises MalformedPayload."""
    dated = item if item.get("current_period_end") is not None else owner
    price = inner(item, "price") or inner(item, "plan")
    return SubscriptionItemFacts(
        id=needed(item, "id"),
        price_id=reference(item.get("price")) or needed(price, "id"),
        product_id=reference(price.get("product")),
        quantity=1 if item.get("quantity") is None else whole(item, "quantity"),
        period_start_at=needed_instant(dated, "current_period_start"),
        period_end_at=needed_instant(dated, "current_period_end"),
        created_at=instant(item.get("created")),
    )


def _discounts(shape: Shape) -> tuple[str, ...]:
    listed = [reference(discount) for discount in shape.get("discounts") or ()]
    return tuple(found for found in listed or [reference(shape.get("discount"))] if found)


def discounts(shape: Shape) -> tuple[tuple[str, str], ...]:
    """(discount, coupon) of each discount, in their sequence, of a subscription with `expand=["discounts"]`.

    clover moved the coupon under `source`.
    """
    listed = rows(shape, "discounts") or [inner(shape, "discount")]
    named = [
        (text(each, "id"), reference(inner(each, "source").get("coupon")) or reference(each.get("coupon")))
        for each in listed
    ]
    return tuple((found, coupon) for found, coupon in named if found and coupon)
