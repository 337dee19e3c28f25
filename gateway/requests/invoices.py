"""Requests about invoices. Whatever we touch has auto_advance off: two collectors would fight."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

from gateway.requests.request import Request, as_metadata, given, listed

OWNER = {"owner": "dunlin"}
_MAX_LINES = 250  # of one invoice, says Stripe


class Line(TypedDict, total=False):
    """A line with our own rounded amount. Instants are Unix seconds; `product` is kept in the metadata.

    `invoice_item` alone puts an invoice item that waits at Stripe on the invoice, as it is.
    """

    invoice_item: str
    description: str
    amount_minor: int
    period_start: int
    period_end: int
    discountable: bool
    metadata: Mapping[str, object]
    product: str
    tax_rates: Sequence[str]


def take_over_invoice(invoice_id: str, default_tax_rates: Sequence[str] | None = None) -> Request:
    """Stop Stripe from finalizing and collecting a draft, and say that it is ours now.

    `default_tax_rates` replace those that the draft took from its subscription; an empty sequence
    clears them, None leaves them.
    """
    return Request(
        "update_invoice",
        invoice_id,
        given(
            auto_advance=False,
            default_tax_rates=None if default_tax_rates is None else list(default_tax_rates) or "",
            metadata=dict(OWNER),
        ),
    )


def create_invoice(
    customer_id: str,
    currency: str,
    metadata: Mapping[str, object],
    default_tax_rates: Sequence[str] = (),
    subscription_id: str | None = None,
    *,
    discounts: Sequence[str] = (),
) -> Request:
    """An empty draft of our own. With `subscription_id` Stripe shows it under that subscription.

    Pending items stay where they are: whatever is on the invoice, we put there. `discounts` are coupon ids.
    """
    return Request(
        "create_invoice",
        params=given(
            customer=customer_id,
            currency=currency.lower(),
            auto_advance=False,
            collection_method="charge_automatically",
            pending_invoice_items_behavior="exclude",
            subscription=subscription_id,
            default_tax_rates=listed(tuple(default_tax_rates)),
            discounts=[{"coupon": coupon} for coupon in discounts] or None,
            metadata=as_metadata({**metadata, **OWNER}),
        ),
    )


def add_lines(invoice_id: str, lines: Sequence[Line]) -> Request:
    """Put lines on a draft, with amounts that we have rounded ourselves (negative ones are credits).

    Amounts go as `amount`, never as a price: Stripe then neither multiplies nor rounds.
    Raises ValueError for no line, or more than an invoice can hold.
    """
    if not 0 < len(lines) <= _MAX_LINES:
        raise ValueError(f"1 to {_MAX_LINES} lines, got {len(lines)}")
    return Request("add_lines", invoice_id, {"lines": [_line(line) for line in lines]})


def finalize_invoice(invoice_id: str) -> Request:
    """Number a draft and freeze it; nobody is charged by that."""
    return Request("finalize_invoice", invoice_id, {"auto_advance": False, "expand": ["confirmation_secret"]})


def pay_invoice(invoice_id: str, *, off_session: bool = True, payment_method: str | None = None) -> Request:
    """Attempt one payment of an open invoice. A decline is an answer (Declined); Stripe retries nothing."""
    return Request(
        "pay_invoice",
        invoice_id,
        given(off_session=off_session, payment_method=payment_method, expand=["payments"]),
    )


def pay_invoice_out_of_band(invoice_id: str) -> Request:
    """Mark an open invoice as paid by money that did not come through Stripe."""
    return Request("pay_invoice", invoice_id, {"paid_out_of_band": True})


def stop_collection(invoice_id: str) -> Request:
    """Keep Stripe from retrying an invoice that it made and charged inside a request of ours."""
    return Request("update_invoice", invoice_id, {"auto_advance": False})


def void_invoice(invoice_id: str) -> Request:
    """Take an open invoice back for ever."""
    return Request("void_invoice", invoice_id)


def mark_uncollectible(invoice_id: str) -> Request:
    """Give up on an open invoice; it can still be paid. Cancel its subscription first, or it revives."""
    return Request("mark_uncollectible", invoice_id)


def delete_invoice(invoice_id: str) -> Request:
    """Throw away a draft of our own. Drafts of a subscription cannot be deleted."""
    return Request("delete_invoice", invoice_id)


def create_credit_note(
    invoice_id: str,
    *,
    lines: Sequence[Mapping[str, object]] = (),
    amount_minor: int | None = None,
    refund_minor: int | None = None,
    credit_minor: int | None = None,
    out_of_band_minor: int | None = None,
    refund_ids: Sequence[str] = (),
    reason: Literal["duplicate", "fraudulent", "order_change", "product_unsatisfactory"] | None = None,
    memo: str | None = None,
    metadata: Mapping[str, object] | None = None,
) -> Request:
    """Lower what an issued invoice asks for, or give back what was paid.

    `lines` are {"invoice_line_item", "amount"} or {"description", "unit_amount", "quantity"}; without lines
    `amount_minor` is the whole. On a paid invoice `refund_minor` (Stripe refunds), `credit_minor` (to the
    customer's balance), `out_of_band_minor` (given back without Stripe) and the amounts of `refund_ids`
    (refunds already made) add up to the note's total.
    """
    if bool(lines) == (amount_minor is not None):
        raise ValueError("a credit note has either lines or amount_minor")
    return Request(
        "create_credit_note",
        params=given(
            invoice=invoice_id,
            lines=[_credit_line(line) for line in lines] or None,
            amount=amount_minor,
            refund_amount=refund_minor,
            credit_amount=credit_minor,
            out_of_band_amount=out_of_band_minor,
            refunds=[{"type": "refund", "refund": refund_id} for refund_id in refund_ids] or None,
            reason=reason,
            memo=memo,
            metadata=as_metadata(metadata),
        ),
    )


def create_refund(
    payment_intent_id: str,
    amount_minor: int | None = None,
    *,
    reason: Literal["duplicate", "fraudulent", "requested_by_customer"] | None = None,
    metadata: Mapping[str, object] | None = None,
) -> Request:
    """Give money back, all of it when no amount is named. The invoice stays paid: a credit note says why."""
    return Request(
        "create_refund",
        params=given(
            payment_intent=payment_intent_id,
            amount=amount_minor,
            reason=reason,
            metadata=as_metadata(metadata),
        ),
    )


def _line(line: Line) -> dict[str, Any]:
    if "invoice_item" in line:
        return {"invoice_item": line["invoice_item"]}
    metadata = dict(line.get("metadata", {}))
    if "product" in line:
        metadata["product"] = line["product"]
    return given(
        amount=line["amount_minor"],
        description=line["description"],
        period={"start": line["period_start"], "end": line["period_end"]},
        # Unsaid, Stripe would let the subscription's discounts cut our lines.
        discountable=line.get("discountable", False),
        metadata=as_metadata(metadata) if metadata else None,
        tax_rates=listed(tuple(line.get("tax_rates", ()))),
    )


def _credit_line(line: Mapping[str, object]) -> dict[str, Any]:
    kind = "invoice_line_item" if "invoice_line_item" in line else "custom_line_item"
    return {"type": kind, **line}
