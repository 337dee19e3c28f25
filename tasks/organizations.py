"""Organizations: create, find, and their customer at Stripe."""

import re
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from billing.errors import Conflict, InvalidTerms, NotFound
from billing.keys import stripe_key
from gateway import requests
from models import organization_queries as queries
from models.organizations import Organization, TestClock
from tasks.context import Context, Unit
from tasks.stripe_calls import call

_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s]{1,190}")


@dataclass(frozen=True, slots=True, kw_only=True)
class OrganizationTerms:
    """What an organization is made of; `tax_rate` is the code of a catalog tax rate."""

    slug: str
    name: str
    email: str
    currency: str
    external_id: str | None = None
    address: dict[str, Any] | None = None
    tax_rate: str | None = None
    test_clock_id: UUID | None = None

    def check(self, supported: tuple[str, ...]) -> None:
        """Raises InvalidTerms naming the field at fault."""
        if not _SLUG.fullmatch(self.slug):
            raise InvalidTerms("must be 1 to 63 of a-z, 0-9 and inner hyphens", field="slug")
        if not self.name.strip() or len(self.name) > 200:
            raise InvalidTerms("must have 1 to 200 characters", field="name")
        if not _EMAIL.fullmatch(self.email):
            raise InvalidTerms("must be an e-mail address", field="email")
        if self.currency not in supported:
            raise InvalidTerms(f"must be one of {', '.join(supported)}", field="currency")


def create(context: Context, terms: OrganizationTerms) -> Organization:
    """Store an organization. Its Stripe customer is made by a job, or when it is first needed.

    Raises: InvalidTerms, Conflict for a slug or external id that is taken.
    """
    terms.check(context.settings.supported_currencies)
    with context.system() as unit:
        _refuse_taken(unit, terms)
        organization = Organization(
            slug=terms.slug,
            external_id=terms.external_id,
            name=terms.name,
            email=terms.email,
            currency=terms.currency,
            address=terms.address,
            tax_exempt="none",
            tax_rate_id=_tax_rate_id(unit, terms.tax_rate),
            test_clock_id=_clock_id(unit, terms.test_clock_id),
        )
        unit.session.add(organization)
    return organization


def resolve(context: Context, reference: str) -> UUID:
    """The id of the organization with this id, slug or external id. Raises NotFound."""
    with context.database.system() as session:
        found = queries.by_reference(session, reference)
    if found is None:
        raise NotFound("no such organization", field="organization")
    return found.id


def update(context: Context, organization_id: UUID, changes: dict[str, Any]) -> Organization:
    """Change name, email, address or tax rate. Raises InvalidTerms, NotFound."""
    unknown = set(changes) - {"name", "email", "address", "tax_rate"}
    if unknown:
        raise InvalidTerms("cannot be changed", field=min(unknown))
    with context.tenant(organization_id) as unit:
        organization = unit.organization
        if "tax_rate" in changes:
            organization.tax_rate_id = _tax_rate_id(unit, changes["tax_rate"])
        for name in ("name", "email", "address"):
            if name in changes:
                setattr(organization, name, changes[name])
    return organization


def ensure_customer(context: Context, organization_id: UUID) -> str:
    """The organization's customer at Stripe, made at the first need and never twice.

    The key is the organization's alone, so two workers that race send the same intention.
    """
    with context.tenant(organization_id) as unit:
        organization = unit.organization
        clock = (
            unit.session.get(TestClock, organization.test_clock_id) if organization.test_clock_id else None
        )
    if organization.stripe_customer_id is not None:
        return organization.stripe_customer_id
    request = requests.create_customer(
        str(organization_id),
        organization.name,
        organization.email,
        test_clock=clock.stripe_clock_id if clock else None,
        tax_exempt=organization.tax_exempt,
        address=organization.address,
    )
    customer_id = str(call(context, request, stripe_key("customer", organization_id), organization_id)["id"])
    with context.tenant(organization_id) as unit:
        unit.organization.stripe_customer_id = customer_id
    return customer_id


def _refuse_taken(unit: Unit, terms: OrganizationTerms) -> None:
    for field, value in (("slug", terms.slug), ("external_id", terms.external_id)):
        if value is not None and queries.by_reference(unit.session, value) is not None:
            raise Conflict("is taken", field=field)


def _tax_rate_id(unit: Unit, code: str | None) -> UUID | None:
    if code is None:
        return None
    rate = queries.tax_rate_by_code(unit.session, code)
    if rate is None:
        raise InvalidTerms("no such tax rate", field="tax_rate")
    return rate.id


def _clock_id(unit: Unit, clock_id: UUID | None) -> UUID | None:
    if clock_id is not None and unit.session.get(TestClock, clock_id) is None:
        raise InvalidTerms("no such test clock", field="test_clock")
    return clock_id
