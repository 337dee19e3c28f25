"""Invoices: list, lines, document, and why a line is what it is."""

from typing import Any
from uuid import UUID

from billing.errors import NotFound
from billing.metering import FieldError
from models import credit_note_queries, reading
from models.invoices import Invoice, InvoiceLine, Payment
from tasks.documents import invoice_pdf
from tasks.explain import explain_invoice, explain_line
from web import invoice_shapes, shapes
from web.calls import ORGANIZATION, Answer, Call, Route
from web.credit_notes import note_fields
from web.problems import InvalidFields

STATUSES = ("draft", "open", "paid", "void", "uncollectible")


def listed(call: Call) -> Answer:
    organization_id = call.organization_id(call.query.get("organization"))
    status = call.query.get("status")
    if status is not None and status not in STATUSES:
        raise InvalidFields([FieldError("status", f"must be one of {', '.join(STATUSES)}")])
    with call.context.tenant(organization_id) as unit:
        rows, following = reading.invoices(
            unit.session, organization_id, call.page(), subscription_id=_subscription(call), status=status
        )
    return Answer(shapes.Invoices([shapes.Invoice(**fields(row)) for row in rows], following))


def detail(call: Call) -> Answer:
    organization_id, invoice_id = call.organization_of("invoice")
    with call.context.tenant(organization_id) as unit:
        found = reading.invoice(unit.session, organization_id, invoice_id)
        if found is None:
            raise NotFound("no such invoice")
        notes = credit_note_queries.of_invoice(unit.session, found.invoice)
    lines = [line(*parts) for parts in found.lines]
    payments = [_payment(payment) for payment in found.payments]
    return Answer(
        invoice_shapes.InvoiceDetail(
            **fields(found.invoice),
            lines=lines,
            payments=payments,
            credit_notes=[invoice_shapes.CreditNote(**note_fields(note)) for note in notes],
        )
    )


def pdf(call: Call) -> Answer:
    organization_id, invoice_id = call.organization_of("invoice")
    document = invoice_pdf(call.context, organization_id, invoice_id)
    headers = {"Content-Disposition": f'inline; filename="invoice-{invoice_id}.pdf"'}
    return Answer(document, headers=headers, content_type="application/pdf")


def explain(call: Call) -> Answer:
    organization_id, invoice_id = call.organization_of("invoice")
    line_id = call.path_id("line", "no such invoice line")
    page, limit = call.query.get("page"), call.limit(_EVENTS)
    return Answer(explain_line(call.context, organization_id, invoice_id, line_id, page, page_size=limit))


def explain_whole(call: Call) -> Answer:
    return Answer(explain_invoice(call.context, *call.organization_of("invoice")))


def _subscription(call: Call) -> UUID | None:
    reference = call.query.get("subscription")
    try:
        return UUID(reference) if reference is not None else None
    except ValueError:
        raise InvalidFields([FieldError("subscription", "is not an id")]) from None


def fields(row: Invoice) -> dict[str, Any]:
    return {
        "id": row.id,
        "organization": row.organization_id,
        "subscription": row.subscription_id,
        "number": row.number,
        "kind": row.kind,
        "status": row.status,
        "currency": row.currency,
        "subtotal_minor": row.subtotal_minor,
        "discount_minor": row.discount_minor,
        "tax_minor": row.tax_minor,
        "credit_minor": row.credit_minor,
        "total_minor": row.total_minor,
        "paid_minor": row.paid_minor,
        "reduced_minor": row.reduced_minor,
        "due_minor": 0 if row.status == "void" else row.due_minor,
        "tax_name": row.tax_name,
        "tax_percentage": None if row.tax_percentage is None else shapes.plain(row.tax_percentage),
        "tax_inclusive": row.tax_inclusive,
        "period_start_at": row.period_start_at,
        "period_end_at": row.period_end_at,
        "created_at": row.created_at,
        "finalized_at": row.finalized_at,
        "paid_at": row.paid_at,
        "hosted_invoice_url": row.hosted_invoice_url,
    }


def line(row: InvoiceLine, product: str, metric: str | None) -> shapes.InvoiceLine:
    return shapes.InvoiceLine(
        id=row.id,
        kind=row.kind,
        product=product,
        metric=metric,
        description=row.description,
        quantity=shapes.plain(row.quantity),
        unit_price=None if row.unit_price is None else shapes.plain(row.unit_price),
        currency=row.currency,
        amount_minor=row.amount_minor,
        discount_minor=row.discount_minor,
        tax_minor=row.tax_minor,
        period_start_at=row.period_start_at,
        period_end_at=row.period_end_at,
    )


def _payment(row: Payment) -> shapes.Payment:
    return shapes.Payment(
        id=row.id,
        attempt=row.attempt,
        status=row.status,
        amount_minor=row.amount_minor,
        currency=row.currency,
        decline_code=row.decline_code,
        attempted_at=row.attempted_at,
        settled_at=row.settled_at,
    )


_ALL = "/api/billing/invoices/"
_EVENTS = 100

ROUTES = (
    Route(
        method="GET",
        path=_ALL,
        view=listed,
        access=ORGANIZATION,
        summary="The organization's invoices, newest first",
        tag="Invoices",
        answer=shapes.Invoices,
        query={
            "organization": "id, slug or external id; needed with an admin's key",
            "subscription": "only this subscription's",
            "status": f"only these: {', '.join(STATUSES)}",
            "limit": "1 to 200, 50 if not given",
            "cursor": "`next` of the page before",
        },
        refusals=(404,),
    ),
    Route(
        method="GET",
        path=_ALL + "<id>/",
        view=detail,
        access=ORGANIZATION,
        summary="One invoice with its lines, payment attempts and credit notes",
        tag="Invoices",
        answer=invoice_shapes.InvoiceDetail,
        refusals=(404,),
    ),
    Route(
        method="GET",
        path=_ALL + "<id>/pdf/",
        view=pdf,
        access=ORGANIZATION,
        summary="The invoice as a document",
        tag="Invoices",
        content_type="application/pdf",
        refusals=(404, 409),
    ),
    Route(
        method="GET",
        path=_ALL + "<id>/explain/",
        view=explain_whole,
        access=ORGANIZATION,
        summary="Why an invoice is what it is: each line with its first events, and the sums, computed anew",
        tag="Invoices",
        answer=dict[str, Any],
        refusals=(404,),
    ),
    Route(
        method="GET",
        path=_ALL + "<id>/lines/<line>/explain/",
        view=explain,
        access=ORGANIZATION,
        summary="Why a line is what it is: price, tiers, proration, discount, tax; its events page by page",
        tag="Invoices",
        answer=dict[str, Any],
        query={
            "page": "`next` of the page of events before",
            "limit": f"how many events, 1 to 200, {_EVENTS} if not given",
        },
        refusals=(404,),
    ),
)
