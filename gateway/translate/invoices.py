"""Invoices, their lines and their payments, of any supported version."""

from collections.abc import Sequence

from gateway.translate.facts import InvoiceFacts, InvoiceLineFacts, PaymentFacts
from gateway.translate.shapes import (
    Shape,
    inner,
    instant,
    needed,
    needed_instant,
    reference,
    rows,
    text,
    total_of,
    whole,
    words,
)


def invoice(shape: Shape) -> InvoiceFacts:
    """An invoice. Raises MalformedPayload.

    basil moved the subscription under `parent`, taxes to `total_taxes`, and the browser's secret from the
    payment intent to `confirmation_secret`.
    """
    moments = inner(shape, "status_transitions")
    taxes, included = _taxes(shape)
    return InvoiceFacts(
        id=needed(shape, "id"),
        customer_id=reference(needed(shape, "customer")) or "",
        subscription_id=_subscription_id(shape),
        status=needed(shape, "status"),
        billing_reason=text(shape, "billing_reason"),
        auto_advance=bool(shape.get("auto_advance")),
        currency=str(needed(shape, "currency")).upper(),
        subtotal_minor=whole(shape, "subtotal"),
        discount_minor=total_of(shape, "total_discount_amounts"),
        tax_minor=taxes,
        tax_included_minor=included,
        total_minor=whole(shape, "total"),
        amount_due_minor=whole(shape, "amount_due"),
        amount_paid_minor=whole(shape, "amount_paid"),
        amount_remaining_minor=whole(shape, "amount_remaining"),
        starting_balance_minor=whole(shape, "starting_balance"),
        credited_minor=whole(shape, "pre_payment_credit_notes_amount")
        + whole(shape, "post_payment_credit_notes_amount"),
        number=text(shape, "number"),
        hosted_invoice_url=text(shape, "hosted_invoice_url"),
        period_start_at=needed_instant(shape, "period_start"),
        period_end_at=needed_instant(shape, "period_end"),
        created_at=needed_instant(shape, "created"),
        finalized_at=instant(moments.get("finalized_at")),
        paid_at=instant(moments.get("paid_at")),
        voided_at=instant(moments.get("voided_at")),
        metadata=words(shape),
        subscription_metadata=words(inner(shape, "parent", "subscription_details"))
        or words(inner(shape, "subscription_details")),
        lines=tuple(invoice_line(line) for line in rows(shape, "lines")),
        lines_complete=not inner(shape, "lines").get("has_more"),
        confirmation_secret=text(inner(shape, "confirmation_secret"), "client_secret")
        or text(inner(shape, "payment_intent"), "client_secret"),
        finalization_error=text(inner(shape, "last_finalization_error"), "message"),
    )


def invoice_line(shape: Shape) -> InvoiceLineFacts:
    """One line of an invoice. Raises MalformedPayload.

    basil moved `price` under `pricing`, `subscription_item` and `proration` under `parent`.
    """
    period = inner(shape, "period")
    details = inner(shape, "parent", "subscription_item_details") or inner(
        shape, "parent", "invoice_item_details"
    )
    pricing = inner(shape, "pricing", "price_details")
    price = inner(shape, "price") or inner(shape, "plan")
    taxes = rows(shape, "taxes") or rows(shape, "tax_amounts")
    return InvoiceLineFacts(
        id=needed(shape, "id"),
        amount_minor=whole(shape, "amount"),
        description=text(shape, "description"),
        quantity=shape.get("quantity"),
        period_start_at=needed_instant(period, "start"),
        period_end_at=needed_instant(period, "end"),
        price_id=reference(pricing.get("price")) or reference(shape.get("price")) or reference(price),
        product_id=reference(pricing.get("product")) or reference(price.get("product")),
        subscription_item_id=reference(details.get("subscription_item"))
        or reference(shape.get("subscription_item")),
        proration=bool(details.get("proration") or shape.get("proration")),
        discount_minor=total_of(shape, "discount_amounts"),
        tax_minor=sum(whole(tax, "amount") for tax in taxes),
        metadata=words(shape),
    )


def payment(shape: Shape) -> PaymentFacts:
    """One invoice_payment. Raises MalformedPayload."""
    return PaymentFacts(
        id=needed(shape, "id"),
        invoice_id=reference(needed(shape, "invoice")) or "",
        payment_intent_id=reference(inner(shape, "payment").get("payment_intent")),
        status=needed(shape, "status"),
        amount_paid_minor=whole(shape, "amount_paid"),
        amount_requested_minor=whole(shape, "amount_requested"),
        currency=str(needed(shape, "currency")).upper(),
    )


def payments_of(shape: Shape) -> Sequence[PaymentFacts]:
    """The payments that an expanded invoice carries (`expand=["payments"]`), in Stripe's order.

    Raises MalformedPayload. Before basil an invoice had one payment intent and no such list: use it instead.
    """
    return tuple(payment(row) for row in rows(shape, "payments"))


def _subscription_id(shape: Shape) -> str | None:
    parent = inner(shape, "parent", "subscription_details")
    return reference(parent.get("subscription")) or reference(shape.get("subscription"))


def _taxes(shape: Shape) -> tuple[int, int]:
    """All tax, and the part of it that prices include."""
    if taxes := rows(shape, "total_taxes"):
        included = [tax for tax in taxes if tax.get("tax_behavior") == "inclusive"]
    else:
        taxes = rows(shape, "total_tax_amounts")
        included = [tax for tax in taxes if tax.get("inclusive")]
    return sum(whole(tax, "amount") for tax in taxes), sum(whole(tax, "amount") for tax in included)
