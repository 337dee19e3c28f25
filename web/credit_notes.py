"""Credit notes: issue one of an invoice, list them, show one, its document."""

from fractions import Fraction
from typing import Any
from uuid import uuid4

from billing.credit_notes import Wanted
from billing.errors import NotFound
from billing.metering import FieldError
from models import credit_note_queries
from models.credit_note_queries import NoteDetail
from models.credit_notes import CreditNote
from models.invoices import Invoice
from tasks import credit_notes
from tasks.documents import credit_note_pdf
from web import bodies, invoice_shapes, shapes
from web.calls import ADMIN, ORGANIZATION, Answer, Call, Route
from web.problems import InvalidFields


def issue(call: Call) -> Answer:
    organization_id, invoice_id = call.organization_of("invoice")
    # A repeat that comes after the kept answer is gone finds the note by its key.
    sent = call.headers.get("Idempotency-Key")
    key = f"{call.known().principal}:{sent}" if sent else str(uuid4())
    made = credit_notes.issue(
        call.context, organization_id, invoice_id, _terms(call.body), key, actor=call.known().principal
    )
    return Answer(_detail(made), status=201)


def _terms(body: bodies.NewCreditNote) -> credit_notes.NoteTerms:
    lines = {}
    for place, each in enumerate(body.lines or ()):
        if each.line in lines:
            raise InvalidFields([FieldError(f"lines[{place}].line", "is named twice")])
        if each.amount_minor is not None and each.quantity is not None:
            raise InvalidFields([FieldError(f"lines[{place}]", "name either an amount or a quantity")])
        quantity = None if each.quantity is None else Fraction(each.quantity)
        lines[each.line] = Wanted(each.amount_minor, quantity)
    return credit_notes.NoteTerms(
        reason=body.reason, settlement=body.settlement, amount_minor=body.amount_minor, lines=lines
    )


def listed(call: Call) -> Answer:
    organization_id, invoice_id = call.organization_of("invoice")
    with call.context.tenant(organization_id) as unit:
        invoice = unit.session.get(Invoice, (organization_id, invoice_id))
        if invoice is None:
            raise NotFound("no such invoice")
        notes = credit_note_queries.of_invoice(unit.session, invoice)
    return Answer(
        invoice_shapes.CreditNotes([invoice_shapes.CreditNote(**note_fields(note)) for note in notes])
    )


def show(call: Call) -> Answer:
    organization_id, note_id = call.organization_of("credit_note")
    return Answer(_detail(credit_notes.detail(call.context, organization_id, note_id)))


def pdf(call: Call) -> Answer:
    organization_id, note_id = call.organization_of("credit_note")
    document = credit_note_pdf(call.context, organization_id, note_id)
    headers = {"Content-Disposition": f'inline; filename="credit-note-{note_id}.pdf"'}
    return Answer(document, headers=headers, content_type="application/pdf")


def _detail(found: NoteDetail) -> invoice_shapes.CreditNoteDetail:
    lines = [
        invoice_shapes.CreditNoteLine(
            line=row.invoice_line_id,
            product=product.code,
            description=source.description,
            quantity=shapes.plain(row.quantity),
            amount_minor=row.amount_minor,
            discount_minor=row.discount_minor,
            tax_minor=row.tax_minor,
            total_minor=row.total_minor,
        )
        for row, source, product in found.lines
    ]
    return invoice_shapes.CreditNoteDetail(
        **note_fields(found.note), invoice_number=found.invoice_number, lines=lines
    )


def note_fields(row: CreditNote) -> dict[str, Any]:
    return {
        "id": row.id,
        "organization": row.organization_id,
        "invoice": row.invoice_id,
        "number": row.number,
        "state": row.state,
        "currency": row.currency,
        "subtotal_minor": row.subtotal_minor,
        "discount_minor": row.discount_minor,
        "tax_minor": row.tax_minor,
        "amount_minor": row.amount_minor,
        "reduces_due_minor": row.reduces_due_minor,
        "refund_minor": row.refund_minor,
        "credit_minor": row.credit_minor,
        "out_of_band_minor": row.out_of_band_minor,
        "reason": row.reason,
        "stripe_number": row.stripe_number,
        "created_at": row.created_at,
        "issued_at": row.issued_at,
        "voided_at": row.voided_at,
    }


_OF_INVOICE = "/api/billing/invoices/<id>/credit_notes/"
_ONE = "/api/billing/credit_notes/<id>/"

ROUTES = (
    Route(
        method="POST",
        path=_OF_INVOICE,
        view=issue,
        access=ADMIN,
        summary="Credit an issued invoice: in full, by line or by amount; never more than is left",
        tag="Invoices",
        body=bodies.NewCreditNote,
        answer=invoice_shapes.CreditNoteDetail,
        status=201,
        refusals=(404, 409),
    ),
    Route(
        method="GET",
        path=_OF_INVOICE,
        view=listed,
        access=ORGANIZATION,
        summary="The invoice's credit notes, oldest first",
        tag="Invoices",
        answer=invoice_shapes.CreditNotes,
        refusals=(404,),
    ),
    Route(
        method="GET",
        path=_ONE,
        view=show,
        access=ORGANIZATION,
        summary="One credit note with its lines",
        tag="Invoices",
        answer=invoice_shapes.CreditNoteDetail,
        refusals=(404,),
    ),
    Route(
        method="GET",
        path=_ONE + "pdf/",
        view=pdf,
        access=ORGANIZATION,
        summary="The credit note as a document",
        tag="Invoices",
        content_type="application/pdf",
        refusals=(404,),
    ),
)
