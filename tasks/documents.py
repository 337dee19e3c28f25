"""Invoices and credit notes as PDF: the same rows give the same bytes."""

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
from models.document_queries import InvoiceDocument, NoteDocument
from tasks.context import Context
from tasks.document_text import document_text, seller_text
from tasks.note_text import note_text
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
        written.append(_write(folder, slug, document.invoice.number, render(document, context.settings)))
    return written


def write_note_pdfs(context: Context, folder: Path) -> list[Path]:
    """Write every issued credit note as `<folder>/<slug>/<number>.pdf`; returns the files."""
    with context.auditor.system() as session:
        issued = document_queries.issued_notes(session)
    written = []
    for organization_id, slug, note_id in issued:
        with context.tenant(organization_id) as unit:
            document = document_queries.note_document(unit.session, organization_id, note_id)
        assert document is not None, "credit notes are never deleted"
        pdf = render_note(document, context.settings)
        written.append(_write(folder, slug, document.found.note.number, pdf))
    return written


def _write(folder: Path, slug: str, number: str | None, pdf: bytes) -> Path:
    path = folder / _UNSAFE_IN_NAMES.sub("_", slug) / f"{_UNSAFE_IN_NAMES.sub('_', str(number))}.pdf"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pdf)
    return path


def credit_note_pdf(context: Context, organization_id: UUID, note_id: UUID) -> bytes:
    """A credit note's document. Raises NotFound for an unknown one."""
    with context.tenant(organization_id) as unit:
        document = document_queries.note_document(unit.session, organization_id, note_id)
    if document is None:
        raise NotFound("no such credit note")
    return render_note(document, context.settings)


def render(document: InvoiceDocument, settings: Settings) -> bytes:
    """The PDF of an invoice. Its date is the invoice's, so that no clock is read."""
    at = document.invoice.finalized_at or document.invoice.created_at
    return _compiled("invoice", document_text(document, _seller(settings)), at)


def render_note(document: NoteDocument, settings: Settings) -> bytes:
    """The PDF of a credit note, of the note's own date."""
    note = document.found.note
    return _compiled("credit_note", note_text(document, _seller(settings)), note.issued_at or note.created_at)


def _seller(settings: Settings) -> dict[str, Any]:
    return seller_text(settings.seller_name, settings.seller_address, settings.seller_tax_id)


def _compiled(template: str, printed: dict[str, Any], dated: datetime) -> bytes:
    at = dated.astimezone(UTC).replace(microsecond=0)  # typst refuses a finer date
    content = json.dumps({**printed, "at": _moment(at)}, ensure_ascii=False)
    with _compiling:
        pdf = _compiler(template).compile(sys_inputs={"printed": content}, format="pdf", timestamp=at)
    assert isinstance(pdf, bytes)
    return pdf


def _moment(at: datetime) -> dict[str, Any]:
    return {name: getattr(at, name) for name in ("year", "month", "day", "hour", "minute", "second")}


@cache
def _compiler(template: str) -> typst.Compiler:
    """Made at the first need, after a worker's fork: the compiler has threads. Costs some 100 ms."""
    return typst.Compiler(_TEMPLATES / f"{template}.typ", root=_TEMPLATES)
