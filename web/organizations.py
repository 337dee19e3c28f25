"""Organizations and their cards."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec

from models import reading
from models.organizations import Organization
from models.subscriptions import PaymentMethod
from tasks import organizations, payment_methods, tax
from web import bodies, shapes
from web.calls import ADMIN, ORGANIZATION, Answer, Call, Route


def create(call: Call) -> Answer:
    body: bodies.NewOrganization = call.body
    terms = organizations.OrganizationTerms(
        slug=body.slug,
        name=body.name,
        email=body.email,
        currency=body.currency or call.context.settings.default_currency,
        external_id=body.external_id,
        address=_address(body.address),
        tax_rate=body.tax_rate,
        tax_exempt=body.tax_exempt,
        test_clock_id=body.test_clock,
        id=call.intention,
    )
    return Answer(_organization(call, organizations.create(call.context, terms)), status=201)


def listed(call: Call) -> Answer:
    with call.context.database.system() as session:
        rows, following = reading.organizations(session, call.page())
    return Answer(shapes.Organizations(_organizations(call, rows), following))


def detail(call: Call) -> Answer:
    organization_id = call.organization_id(call.path["id"])
    with call.context.tenant(organization_id) as unit:
        found = unit.organization
    return Answer(_organization(call, found))


def change(call: Call) -> Answer:
    body: bodies.OrganizationChanges = call.body
    changes: dict[str, Any] = {
        name: value for name, value in msgspec.structs.asdict(body).items() if value is not msgspec.UNSET
    }
    if isinstance(body.address, bodies.Address):
        changes["address"] = _address(body.address)
    organization_id = call.organization_id(call.path["id"])
    return Answer(_organization(call, organizations.update(call.context, organization_id, changes)))


def setup_intent(call: Call) -> Answer:
    facts = payment_methods.setup_intent(call.context, call.organization_id(call.path["id"]))
    return Answer(
        shapes.SetupIntent(id=facts.id, status=facts.status, client_secret=facts.client_secret), status=201
    )


def list_payment_methods(call: Call) -> Answer:
    organization_id = call.organization_id(call.path["id"])
    with call.context.tenant(organization_id) as unit:
        rows = reading.payment_methods(unit.session, organization_id)
    return Answer(shapes.PaymentMethods([_card(row) for row in rows]))


def attach_payment_method(call: Call) -> Answer:
    body: bodies.NewPaymentMethod = call.body
    organization_id = call.organization_id(call.path["id"])
    attached = payment_methods.attach(call.context, organization_id, body.payment_method, call.intention)
    return Answer(_card(attached), status=201)


def detach_payment_method(call: Call) -> Answer:
    organization_id = call.organization_id(call.path["id"])
    method_id = call.path_id("method", "no such payment method")
    payment_methods.detach(call.context, organization_id, method_id)
    return Answer(None, status=204)


def _address(address: bodies.Address | None) -> dict[str, Any] | None:
    if address is None:
        return None
    return {name: value for name, value in msgspec.structs.asdict(address).items() if value is not None}


def _organization(call: Call, row: Organization) -> shapes.Organization:
    return _organizations(call, [row])[0]


def _organizations(call: Call, rows: Sequence[Organization]) -> list[shapes.Organization]:
    taxed = any(row.tax_rate_id for row in rows)
    codes = {rate.id: rate.code for rate in tax.rates(call.context)} if taxed else {}
    return [_shown(row, codes) for row in rows]


def _shown(row: Organization, codes: Mapping[UUID, str]) -> shapes.Organization:
    return shapes.Organization(
        id=row.id,
        slug=row.slug,
        external_id=row.external_id,
        name=row.name,
        email=row.email,
        currency=row.currency,
        address=row.address,
        tax_rate=codes[row.tax_rate_id] if row.tax_rate_id else None,
        tax_exempt=row.tax_exempt,
        test_clock=row.test_clock_id,
        created_at=row.created_at,
    )


def _card(row: PaymentMethod) -> shapes.PaymentMethod:
    return shapes.PaymentMethod(
        id=row.id,
        stripe_id=row.stripe_payment_method_id,
        brand=row.brand,
        last_four=row.last_four,
        exp_month=row.exp_month,
        exp_year=row.exp_year,
        is_default=row.is_default,
    )


_ONE = "/api/billing/organizations/<id>/"
_PAGES = {"limit": "1 to 200, 50 if not given", "cursor": "`next` of the page before"}

ROUTES = (
    Route(
        method="POST",
        path="/api/billing/organizations/",
        view=create,
        access=ADMIN,
        summary="Add an organization",
        tag="Organizations",
        body=bodies.NewOrganization,
        answer=shapes.Organization,
        status=201,
        refusals=(409,),
    ),
    Route(
        method="GET",
        path="/api/billing/organizations/",
        view=listed,
        access=ADMIN,
        summary="All organizations, newest first",
        tag="Organizations",
        answer=shapes.Organizations,
        query=_PAGES,
    ),
    Route(
        method="GET",
        path=_ONE,
        view=detail,
        access=ADMIN,
        summary="One organization, by id, slug or external id",
        tag="Organizations",
        answer=shapes.Organization,
        refusals=(404,),
    ),
    Route(
        method="PATCH",
        path=_ONE,
        view=change,
        access=ADMIN,
        summary="Change name, e-mail, address, tax rate or exemption",
        tag="Organizations",
        body=bodies.OrganizationChanges,
        answer=shapes.Organization,
        refusals=(404,),
    ),
    Route(
        method="POST",
        path=_ONE + "setup_intent/",
        view=setup_intent,
        access=ORGANIZATION,
        summary="Begin to save a card: Stripe's secret for the card form",
        tag="Payment methods",
        answer=shapes.SetupIntent,
        status=201,
        refusals=(404,),
    ),
    Route(
        method="GET",
        path=_ONE + "payment_methods/",
        view=list_payment_methods,
        access=ORGANIZATION,
        summary="The organization's cards, the default one first",
        tag="Payment methods",
        answer=shapes.PaymentMethods,
        refusals=(404,),
    ),
    Route(
        method="POST",
        path=_ONE + "payment_methods/",
        view=attach_payment_method,
        access=ORGANIZATION,
        summary="Attach a card by its Stripe id; it becomes the default and collects what is open",
        tag="Payment methods",
        body=bodies.NewPaymentMethod,
        answer=shapes.PaymentMethod,
        status=201,
        refusals=(402, 404),
    ),
    Route(
        method="DELETE",
        path=_ONE + "payment_methods/<method>/",
        view=detach_payment_method,
        access=ORGANIZATION,
        summary="Take a card away",
        tag="Payment methods",
        status=204,
        refusals=(404,),
    ),
)
