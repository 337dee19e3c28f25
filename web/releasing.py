"""Parked invoices and organizations, let go on by staff after a look."""

from tasks import releasing
from web import bodies, organizations, shapes
from web.calls import ADMIN, Answer, Call, Route
from web.invoices import fields


def invoice(call: Call) -> Answer:
    organization_id, invoice_id = call.organization_of("invoice")
    row = releasing.release_invoice(call.context, organization_id, invoice_id, call.known().principal)
    return Answer(shapes.Invoice(**fields(row)))


def organization(call: Call) -> Answer:
    organization_id = call.organization_id(call.path["id"])
    releasing.release_organization(call.context, organization_id, call.known().principal)
    return organizations.detail(call)


ROUTES = (
    Route(
        method="POST",
        path="/api/billing/invoices/<id>/release/",
        view=invoice,
        access=ADMIN,
        summary="Go on with billing a parked invoice, if both totals agree now; or why not",
        tag="Invoices",
        body=bodies.Closing,
        answer=shapes.Invoice,
        refusals=(404, 409),
    ),
    Route(
        method="POST",
        path="/api/billing/organizations/<id>/release/",
        view=organization,
        access=ADMIN,
        summary="Go on with a parked organization, if its books are right now; or why not",
        tag="Organizations",
        body=bodies.Closing,
        answer=shapes.Organization,
        refusals=(404, 409),
    ),
)
