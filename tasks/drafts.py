"""Stripe's drafts as they are at Stripe: read whole, and parked when a person has to look."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from gateway import translate
from gateway.translate import InvoiceFacts, SubscriptionFacts
from tasks import invoice_rows
from tasks.context import Context

_SUBSCRIPTION = "parent.subscription_details.subscription"


def seen(context: Context, stripe_invoice_id: str) -> tuple[InvoiceFacts, SubscriptionFacts | None]:
    """An invoice with all its lines, and the subscription that made it, by one question to Stripe."""
    fetched = context.gateway.fetch("invoice", stripe_invoice_id, [_SUBSCRIPTION])
    made_by = ((fetched.get("parent") or {}).get("subscription_details") or {}).get("subscription")
    subscription = translate.subscription(made_by) if isinstance(made_by, Mapping) else None
    return whole(context, fetched), subscription


def of_period(context: Context, stripe_subscription_id: str, boundary_at: datetime) -> InvoiceFacts | None:
    """The invoice that Stripe made by itself for the period that ended at `boundary_at`."""
    listed = context.gateway.list("invoice", {"subscription": stripe_subscription_id})
    for found in map(translate.invoice, listed):
        if found.billing_reason == "subscription_cycle" and found.period_end_at == boundary_at:
            return found
    return None


def whole(context: Context, shape: dict[str, Any]) -> InvoiceFacts:
    """An invoice with all its lines, of which Stripe shows the first ones."""
    facts = translate.invoice(shape)
    if facts.lines_complete:
        return facts
    lines = context.gateway.list("invoice_line", {"invoice": facts.id})
    return replace(facts, lines=tuple(map(translate.invoice_line, lines)), lines_complete=True)


def park(context: Context, organization_id: UUID, invoice_id: UUID, reason: str) -> None:
    """Stop a draft until a person looked, if it is still one. The caller holds the organization's lock."""
    with context.tenant(organization_id) as unit:
        invoice = invoice_rows.find(unit, invoice_id)
        if invoice.status == "draft" and invoice.parked_at is None:
            invoice_rows.park(unit, invoice, reason)
