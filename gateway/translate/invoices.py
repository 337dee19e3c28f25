"""Invoices, their lines and their payments, of any supported version."""

from collections.abc import Sequence

from gateway.translate.facts import InvoiceFacts, InvoiceLineFacts, PaymentFacts, ProrationFacts
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
        tax_rate_ids=_tax_rates(shape),
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
        invoice_item_id=reference(details.get("invoice_item")) or reference(shape.get("invoice_item")),
    )


def prorations_of(lines: Sequence[InvoiceLineFacts], currency: str) -> list[ProrationFacts]:
    """The prorations among an invoice's lines."""
    return [
        ProrationFacts(
            id=line.invoice_item_id or line.id,
            subscription_item_id=line.subscription_item_id,
            price_id=line.price_id,
            product_id=line.product_id,
            quantity=1 if line.quantity is None else line.quantity,
            amount_minor=line.amount_minor,
            currency=currency,
            description=line.description,
            period_start_at=line.period_start_at,
            period_end_at=line.period_end_at,
        )
        for line in lines
        if line.proration
    ]


def waiting_proration(shape: Shape) -> tuple[str | None, ProrationFacts | None]:
    """A pending invoice item: the subscription that it waits for, and what it is, if it is a proration.

    Raises MalformedPayload. basil moved the subscription and its item under `parent`, and the price under
    `pricing`.
    """
    owner = inner(shape, "parent", "subscription_details")
    subscription_id = reference(owner.get("subscription")) or reference(shape.get("subscription"))
    if not shape.get("proration"):
        return subscription_id, None
    pricing, price = inner(shape, "pricing", "price_details"), inner(shape, "price") or inner(shape, "plan")
    period = inner(shape, "period")
    return subscription_id, ProrationFacts(
        id=needed(shape, "id"),
        subscription_item_id=reference(owner.get("subscription_item"))
        or reference(shape.get("subscription_item")),
        price_id=reference(pricing.get("price")) or reference(shape.get("price")) or reference(price),
        product_id=reference(pricing.get("product")) or reference(price.get("product")),
        quantity=1 if shape.get("quantity") is None else whole(shape, "quantity"),
        amount_minor=whole(shape, "amount"),
        currency=str(needed(shape, "currency")).upper(),
        description=text(shape, "description"),
        period_start_at=needed_instant(period, "start"),
        period_end_at=needed_instant(period, "end"),
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


def _tax_rates(shape: Shape) -> tuple[str, ...]:
    """The rates of the whole invoice; without any, those of its lines."""
    if text(shape, "customer_tax_exempt") in ("exempt", "reverse"):
        return ()
    named = [reference(rate) for rate in shape.get("default_tax_rates") or ()]
    if not named:
        taxes = rows(shape, "total_taxes") or rows(shape, "total_tax_amounts")
        named = [
            reference(inner(tax, "tax_rate_details").get("tax_rate")) or reference(tax.get("tax_rate"))
            for tax in taxes
        ]
    return tuple(dict.fromkeys(rate for rate in named if rate))
