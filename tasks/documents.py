"""Invoices as PDF: the same invoice gives the same bytes."""

import json
import re
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any
from uuid import UUID

import typst

from billing.errors import NotFound
from models import document_queries
from models.document_queries import InvoiceDocument
from tasks.context import Context
from tasks.document_text import document_text
from tasks.settings import Settings

_TEMPLATES = Path(__file__).parent / "document_templates"
_UNSAFE_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]")
# The compiler keeps state of its own; two requests of one process take turns of some 30 ms.
_compiling = Lock()


def invoice_pdf(context: Context, organization_id: UUID, invoice_id: UUID) -> bytes:
    """An invoice's document. A draft says so on every page; raises NotFound for an unknown invoice."""
    with context.tenant(organization_id) as unit:
        document = document_queries.invoice_document(unit.session, organization_id, invoice_id)
    if document is None:
        raise NotFound("no such invoice", field="invoice")
    return render(document, context.settings)


def write_invoice_pdfs(context: Context, folder: Path) -> list[Path]:
    """Write every finalized invoice as `<folder>/<slug>/<number>.pdf`; returns the files."""
    with context.auditor.system() as session:
        finalized = document_queries.finalized_invoices(session)
    written = []
    for organization_id, slug, invoice_id in finalized:
        with context.tenant(organization_id) as unit:
            document = document_queries.invoice_document(unit.session, organization_id, invoice_id)
        assert document is not None, "finalized invoices are never deleted"
        name = _UNSAFE_IN_NAMES.sub("_", str(document.invoice.number))
        path = folder / _UNSAFE_IN_NAMES.sub("_", slug) / f"{name}.pdf"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(render(document, context.settings))
        written.append(path)
    return written


def render(document: InvoiceDocument, settings: Settings) -> bytes:
    """The PDF of a document. Its date is the invoice's, so that no clock is read."""
    printed = document_text(document, settings.seller_name, settings.seller_address)
    at = (document.invoice.finalized_at or document.invoice.created_at).astimezone(UTC)
    at = at.replace(microsecond=0)  # typst refuses a finer date
    printed["at"] = _moment(at)
    with _compiling:
        pdf = _compiler().compile(
            sys_inputs={"invoice": json.dumps(printed, ensure_ascii=False)}, format="pdf", timestamp=at
        )
    assert isinstance(pdf, bytes)
    return pdf


def _moment(at: datetime) -> dict[str, Any]:
    return {name: getattr(at, name) for name in ("year", "month", "day", "hour", "minute", "second")}


@cache
def _compiler() -> typst.Compiler:
    """Made at the first need, after a worker's fork: the compiler has threads. Costs some 100 ms."""
    return typst.Compiler(_TEMPLATES / "invoice.typ", root=_TEMPLATES)
