"""Writing invoices: the draft row, its lines and totals, its number and its seal."""

import logging
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

from billing.invoicing import InvoiceDraft, TaxTerms, next_number
from billing.keys import line_id, stripe_key
from billing.periods import Period
from models import billing_queries, invoice_hash
from models.base import new_id
from models.invoices import Invoice, InvoiceLine
from models.subscriptions import ProductSubscription
from tasks import notifications, tax
from tasks.context import TenantUnit
from tasks.rating import RatedLine

log = logging.getLogger("dunlin.invoices")

# What is told of an invoice that has become final.
FINALIZED = "invoice.finalized"


def draft(
    unit: TenantUnit,
    subscription: ProductSubscription,
    kind: str,
    period: Period,
    window: timedelta = timedelta(0),
) -> Invoice:
    """The one invoice of this subscription, period and kind: found, or made as an empty draft."""
    found = billing_queries.invoice_for_period(unit.session, subscription, kind, period.start)
    if found is not None:
        return found
    rate = tax.rate_id(unit.organization, tax.default_rate(unit))
    values = draft_values(unit, subscription, kind, period, window=window, tax_rate_id=rate)
    invoice = Invoice(**values)
    unit.session.add(invoice)
    return invoice


def draft_values(
    unit: TenantUnit,
    subscription: ProductSubscription,
    kind: str,
    period: Period,
    *,
    window: timedelta = timedelta(0),
    tax_rate_id: UUID | None,
) -> dict[str, Any]:
    """The row of an empty draft."""
    return {
        "organization_id": unit.organization.id,
        "id": new_id(),
        "subscription_id": subscription.id,
        "kind": kind,
        "period_start_at": period.start,
        "period_end_at": period.end,
        "currency": subscription.currency,
        "status": "draft",
        "tax_rate_id": tax_rate_id,
        "window_closes_at": period.end + window,
        "created_at": unit.now,
        **{f"{name}_minor": 0 for name in ("subtotal", "discount", "tax", "credit", "total", "paid")},
    }


def fill(unit: TenantUnit, invoice: Invoice, rated: Sequence[RatedLine], built: InvoiceDraft) -> None:
    """Write the lines, the totals and the tax of a draft; `built` has its lines in `rated`'s sequence."""
    for values in lines(invoice, rated, built):
        unit.session.add(InvoiceLine(**values))
    for name, value in totals(built, tax.terms_of(unit, invoice), unit.now).items():
        setattr(invoice, name, value)
    unit.session.flush()


def lines(invoice: Invoice, rated: Sequence[RatedLine], built: InvoiceDraft) -> Iterator[dict[str, Any]]:
    """The rows of the lines."""
    for position, (line, source) in enumerate(zip(built.lines, rated, strict=True), start=1):
        yield {
            "organization_id": invoice.organization_id,
            "id": line_id(invoice.organization_id, invoice.id, line.key),
            "invoice_id": invoice.id,
            "subscription_id": invoice.subscription_id,
            "key": line.key,
            "position": position,
            "kind": line.kind.value,
            "product_id": source.product_id,
            "item_id": source.item_id,
            "meter_id": source.meter_id,
            "description": line.description,
            "quantity": decimal(line.quantity),
            "unit_price": None if line.unit_price is None else decimal(line.unit_price),
            "currency": invoice.currency,
            "amount_minor": line.amount.minor,
            "discountable": line.discountable,
            "discount_minor": line.discount.minor if line.discount else 0,
            "tax_minor": line.tax.minor if line.tax else 0,
            "period_start_at": line.period.start,
            "period_end_at": line.period.end,
            "explanation": line.explanation,
        }


def totals(built: InvoiceDraft, terms: TaxTerms | None, now: datetime) -> dict[str, Any]:
    """What rating changes of the draft itself: its figures, and what its tax was called."""
    return {
        "tax_name": terms.name if terms else None,
        "tax_inclusive": terms.inclusive if terms else False,
        "tax_percentage": decimal(terms.percentage) if terms else None,
        "subtotal_minor": built.subtotal.minor,
        "discount_minor": built.discount.minor,
        "tax_minor": built.tax.minor,
        "credit_minor": built.credit.minor,
        "total_minor": built.total.minor,
        "rated_at": now,
    }


def number(unit: TenantUnit, invoice: Invoice) -> None:
    """Finalize: the next number of the organization, the seal, and from here on no change."""
    sequence = billing_queries.next_invoice_number(unit.session, unit.organization.id)
    invoice.number = named(unit, sequence)
    seal = invoice_hash.content_hash(unit.session, unit.organization.id, invoice.id)
    for name, value in sealed(unit, seal).items():
        setattr(invoice, name, value)
    unit.session.flush()
    notifications.write(unit, FINALIZED, str(invoice.id), invoice_content(invoice))


def named(unit: TenantUnit, sequence: int) -> str:
    """The number of a place in the organization's sequence."""
    return next_number(unit.organization.slug.upper(), sequence)


def sealed(unit: TenantUnit, seal: str) -> dict[str, Any]:
    """What makes a numbered draft final."""
    return {"content_hash": seal, "finalized_at": unit.now, "status": "open"}


def park(unit: TenantUnit, invoice: Invoice, reason: str) -> None:
    """Stop an invoice until a person looked: it is neither finalized nor charged."""
    log.error("invoice %s is parked: %s", invoice.id, reason)
    invoice.parked_at, invoice.parked_reason = unit.now, reason
    told = ":".join(map(str, (invoice.id, *_released(invoice))))
    notifications.write(unit, "invoice.parked", told, {"invoice_id": str(invoice.id), "reason": reason})


def intention(invoice: Invoice, operation: str) -> str:
    """The idempotency key of what is done to a draft at Stripe; another one after each release.

    Stripe's refusal stays under the old key, and so does a draft that was deleted since.
    """
    return stripe_key(operation, invoice.id, *_released(invoice))


def _released(invoice: Invoice) -> tuple[str, ...]:
    return (f"release{invoice.releases}",) if invoice.releases else ()


def invoice_content(invoice: Invoice) -> dict[str, object]:
    """What mails and outbound webhooks say of an invoice."""
    return {
        "invoice_id": str(invoice.id),
        "number": invoice.number,
        "currency": invoice.currency,
        "total_minor": invoice.total_minor,
        "hosted_invoice_url": invoice.hosted_invoice_url,
    }


def find(unit: TenantUnit, invoice_id: UUID) -> Invoice:
    return unit.session.get_one(Invoice, (unit.organization.id, invoice_id), populate_existing=True)


def exact(number: Decimal) -> Fraction:
    return Fraction(number)


def decimal(number: Fraction) -> Decimal:
    """A fraction as the 12 decimals that a column holds."""
    return round(Decimal(number.numerator) / Decimal(number.denominator), 12)
