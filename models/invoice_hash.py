"""The content hash of a finalized invoice: what may never change, as one SHA-256."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from itertools import groupby
from operator import attrgetter
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import InstrumentedAttribute, Session

from billing.errors import NotFound
from models.invoices import Invoice, InvoiceLine

# Frozen: a name added here changes the hash of every invoice that was ever finalized.
_INVOICE_FIELDS = (
    "number",
    "kind",
    "subscription_id",
    "period_start_at",
    "period_end_at",
    "currency",
    "subtotal_minor",
    "discount_minor",
    "tax_minor",
    "credit_minor",
    "total_minor",
    "tax_name",
    "tax_percentage",
    "tax_inclusive",
)
_LINE_FIELDS = (
    "id",
    "key",
    "position",
    "kind",
    "product_id",
    "item_id",
    "meter_id",
    "description",
    "quantity",
    "unit_price",
    "currency",
    "amount_minor",
    "discountable",
    "discount_minor",
    "tax_minor",
    "period_start_at",
    "period_end_at",
    "explanation",
)
_ROWS_PER_FETCH = 2_000


def _columns(table: type[Invoice | InvoiceLine], names: Iterable[str]) -> list[InstrumentedAttribute[Any]]:
    return [getattr(table, name) for name in names]


LINE_COLUMNS = _columns(InvoiceLine, _LINE_FIELDS)


def content_hash(session: Session, organization_id: UUID, invoice_id: UUID) -> str:
    """Hash the invoice as it stands in this session: SHA-256, 64 hex digits.

    Set every figure and `number` on the mapped invoice first (they need not be flushed: once
    `finalized_at` is in the database, a trigger refuses the hash); its lines must be flushed.

    Raises: NotFound; ValueError while the invoice has no number.
    """
    with session.no_autoflush:
        invoice = session.get(Invoice, (organization_id, invoice_id))
        if invoice is None:
            raise NotFound("no such invoice")
        if invoice.number is None:
            raise ValueError("an invoice is hashed with its number: set it first")
        lines = session.execute(
            select(*LINE_COLUMNS)
            .where(InvoiceLine.organization_id == organization_id, InvoiceLine.invoice_id == invoice_id)
            .order_by(InvoiceLine.position, InvoiceLine.id)
        )
        return digest(head(invoice), (row._mapping for row in lines))


def head(invoice: Invoice) -> dict[str, Any]:
    """What is hashed of the invoice itself."""
    return {name: getattr(invoice, name) for name in _INVOICE_FIELDS}


def changed_invoices(session: Session) -> Iterator[tuple[UUID, UUID, str]]:
    """Finalized invoices whose content is not what was hashed: (organization, invoice, number).

    Reads every finalized invoice, in bounded memory.
    """
    heads = [column.label(f"invoice_{column.key}") for column in _columns(Invoice, _INVOICE_FIELDS)]
    rows = session.execute(
        select(
            Invoice.organization_id,
            Invoice.id.label("invoice_id"),
            Invoice.content_hash,
            *heads,
            *LINE_COLUMNS,
        )
        .outerjoin(
            InvoiceLine,
            (InvoiceLine.organization_id == Invoice.organization_id) & (InvoiceLine.invoice_id == Invoice.id),
        )
        .where(Invoice.finalized_at.is_not(None))
        .order_by(Invoice.organization_id, Invoice.id, InvoiceLine.position, InvoiceLine.id)
        .execution_options(yield_per=_ROWS_PER_FETCH)
    )
    for (organization_id, invoice_id), group in groupby(
        rows, key=attrgetter("organization_id", "invoice_id")
    ):
        content = [row._mapping for row in group]
        invoice = {name: content[0][f"invoice_{name}"] for name in _INVOICE_FIELDS}
        lines = [line for line in content if line["id"] is not None]
        if digest(invoice, lines) != content[0]["content_hash"]:
            yield organization_id, invoice_id, str(invoice["number"])


def digest(invoice: Mapping[str, Any], lines: Iterable[Mapping[Any, Any]]) -> str:
    """The hash of an invoice's head and its lines, which come in the sequence of their positions."""
    content = {
        "invoice": {name: _canonical(invoice[name]) for name in _INVOICE_FIELDS},
        "lines": [{name: _canonical(line[name]) for name in _LINE_FIELDS} for line in lines],
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _canonical(value: object) -> object:
    """One text per value, whether it comes from Python or back from Postgres (15 is 15.0000)."""
    if isinstance(value, Decimal):
        text = format(value, "f")
        return text.rstrip("0").rstrip(".") if "." in text else text
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    if isinstance(value, UUID):
        return str(value)
    return value
