"""What staff do to an issued invoice that is not paid: void it, write it off, have it paid now."""

from collections.abc import Callable
from uuid import UUID

from billing.metering import FieldError
from models.invoices import Invoice
from tasks import closing
from tasks.context import Context
from web import bodies, invoice_shapes, shapes
from web.calls import ADMIN, Answer, Call, Route
from web.invoices import fields
from web.problems import InvalidFields

_Close = Callable[[Context, UUID, UUID, str], Invoice]


def void(call: Call) -> Answer:
    return _closed(call, closing.void)


def write_off(call: Call) -> Answer:
    return _closed(call, closing.write_off)


def _closed(call: Call, close: _Close) -> Answer:
    organization_id, invoice_id = call.organization_of("invoice")
    row = close(call.context, organization_id, invoice_id, call.known().principal)
    return Answer(shapes.Invoice(**fields(row)))


def pay(call: Call) -> Answer:
    body: bodies.PayNow = call.body
    if body.out_of_band and body.payment_method is not None:
        raise InvalidFields([FieldError("payment_method", "is not charged for money out of band")])
    organization_id, invoice_id = call.organization_of("invoice")
    terms = closing.PaymentTerms(
        payment_method_id=body.payment_method, out_of_band=body.out_of_band, id=call.intention
    )
    result = closing.pay(call.context, organization_id, invoice_id, terms, call.known().principal)
    with call.context.tenant(organization_id) as unit:
        row = unit.session.get_one(Invoice, (organization_id, invoice_id))
    return Answer(
        invoice_shapes.PaymentResult(
            result=result.result,
            status=row.status,
            due_minor=row.due_minor,
            currency=row.currency,
            decline_code=result.decline_code,
            message=result.message,
            hosted_invoice_url=result.hosted_invoice_url,
        )
    )


_ONE = "/api/billing/invoices/<id>/"

ROUTES = (
    Route(
        method="POST",
        path=_ONE + "void/",
        view=void,
        access=ADMIN,
        summary="Take an unpaid invoice back for ever: it is not owed",
        tag="Invoices",
        body=bodies.Closing,
        answer=shapes.Invoice,
        refusals=(404, 409),
    ),
    Route(
        method="POST",
        path=_ONE + "write_off/",
        view=write_off,
        access=ADMIN,
        summary="Give up collecting an open invoice: it is still owed and can be paid",
        tag="Invoices",
        body=bodies.Closing,
        answer=shapes.Invoice,
        refusals=(404, 409),
    ),
    Route(
        method="POST",
        path=_ONE + "pay/",
        view=pay,
        access=ADMIN,
        summary="Have an unpaid invoice paid now, by card or out of band; says what happened",
        tag="Invoices",
        body=bodies.PayNow,
        answer=invoice_shapes.PaymentResult,
        refusals=(404, 409),
    ),
)
