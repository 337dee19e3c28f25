"""A coming invoice as text for a terminal, and as JSON."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any
from uuid import UUID

from billing.errors import NotFound
from billing.money import Money, format_money
from models.invoices import Invoice, InvoiceLine
from models.reading import InvoiceDetail
from tasks.context import Context
from tasks.previews import owner_of, preview
from tasks.subscription_changes import ChangeTerms

_FIGURES = ("subtotal", "discount", "tax", "credit", "total")


def coming(context: Context, subscription: str, terms: ChangeTerms) -> InvoiceDetail:
    """The coming invoice of a subscription, after a change if one is named. Raises: as `preview`."""
    try:
        subscription_id = UUID(subscription)
    except ValueError:
        raise NotFound(f"{subscription} is no id of a subscription") from None
    change = None if terms == ChangeTerms(proration=terms.proration) else terms
    return preview(context, owner_of(context, subscription_id), subscription_id, change)


def record_of(found: InvoiceDetail) -> dict[str, Any]:
    """JSON-safe; amounts in minor units, numbers as decimal strings."""
    invoice = found.invoice
    return {
        "subscription": str(invoice.subscription_id),
        "kind": invoice.kind,
        "currency": invoice.currency,
        "period_start_at": _instant(invoice.period_start_at),
        "period_end_at": _instant(invoice.period_end_at),
        **{f"{name}_minor": getattr(invoice, f"{name}_minor") for name in _FIGURES},
        "lines": [_line_record(line, product, meter) for line, product, meter in found.lines],
    }


def _line_record(line: InvoiceLine, product: str, meter: str | None) -> dict[str, Any]:
    return {
        "kind": line.kind,
        "product": product,
        "metric": meter,
        "description": line.description,
        "quantity": f"{line.quantity.normalize():f}",
        "amount_minor": line.amount_minor,
        "discount_minor": line.discount_minor,
        "tax_minor": line.tax_minor,
        "period_start_at": _instant(line.period_start_at),
        "period_end_at": _instant(line.period_end_at),
    }


def text_of(found: InvoiceDetail) -> Iterator[str]:
    """One row per line, then the sums."""
    invoice = found.invoice
    yield (
        f"the coming {invoice.kind} invoice of {invoice.subscription_id}, "
        f"for {_day(invoice.period_start_at)} to {_day(invoice.period_end_at)} (UTC)"
    )
    width = max((len(line.description) for line, _, _ in found.lines), default=0)
    for line, _, _ in found.lines:
        yield (
            f"  {line.description:<{width}}  {_day(line.period_start_at)} to {_day(line.period_end_at)}  "
            f"{f'{line.quantity.normalize():f}':>12}  {_money(line.amount_minor, invoice):>14}"
        )
    for name in _FIGURES:
        minor = getattr(invoice, f"{name}_minor")
        sign = -1 if name in ("discount", "credit") else 1
        if minor or name in ("subtotal", "total"):
            yield f"  {name:<10}{_money(sign * minor, invoice):>14}"


def _money(minor: int, invoice: Invoice) -> str:
    return format_money(Money(minor, invoice.currency))


def _day(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M}".removesuffix(" 00:00")


def _instant(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
