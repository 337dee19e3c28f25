"""Organizations: create, find, and their customer at Stripe."""

import hashlib
import re
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from billing.errors import Conflict, InvalidTerms, NotFound
from billing.keys import stripe_key
from gateway import requests
from models import organization_queries as queries
from models.base import new_id
from models.database import hold_names
from models.organizations import Organization, TestClock
from models.work import ClaimedJob
from tasks import tax
from tasks.context import Context, Unit
from tasks.queue import job
from tasks.stripe_calls import call, first_said

_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s]{1,190}")
_COUNTRY = re.compile(r"[A-Z]{2}")
_ADDRESS = frozenset({"line1", "line2", "city", "state", "postal_code", "country"})


@dataclass(frozen=True, slots=True, kw_only=True)
class OrganizationTerms:
    """What an organization is made of; `tax_rate` is the code of a catalog tax rate.

    `id` is that of the organization to make: a repeat finds it.
    """

    slug: str
    name: str
    email: str
    currency: str
    external_id: str | None = None
    address: dict[str, Any] | None = None
    tax_rate: str | None = None
    tax_exempt: str = "none"
    test_clock_id: UUID | None = None
    id: UUID = field(default_factory=new_id)

    def check(self, supported: tuple[str, ...]) -> None:
        """Raises InvalidTerms naming the field at fault."""
        if not _SLUG.fullmatch(self.slug):
            raise InvalidTerms("must be 1 to 63 of a-z, 0-9 and inner hyphens", field="slug")
        check_name(self.name)
        check_email(self.email)
        check_address(self.address)
        if self.currency not in supported:
            raise InvalidTerms(f"must be one of {', '.join(supported)}", field="currency")
        if self.tax_exempt not in tax.EXEMPTIONS:
            raise InvalidTerms(f"must be one of {', '.join(tax.EXEMPTIONS)}", field="tax_exempt")


def check_name(name: object) -> None:
    """Raises InvalidTerms."""
    if not isinstance(name, str) or not name.strip() or len(name) > 200:
        raise InvalidTerms("must have 1 to 200 characters", field="name")


def check_email(email: object) -> None:
    """Raises InvalidTerms."""
    if not isinstance(email, str) or not _EMAIL.fullmatch(email):
        raise InvalidTerms("must be an e-mail address", field="email")


def check_address(address: object) -> None:
    """An address as Stripe keeps it, or None. Raises InvalidTerms."""
    if address is None:
        return
    if not isinstance(address, dict) or not set(address) <= _ADDRESS:
        raise InvalidTerms(f"may have {', '.join(sorted(_ADDRESS))}", field="address")
    if any(not isinstance(value, str) or len(value) > 200 for value in address.values()):
        raise InvalidTerms("each part must be text of at most 200 characters", field="address")
    if not _COUNTRY.fullmatch(address.get("country", "ZA")):
        raise InvalidTerms("must be two capital letters", field="address.country")


_CHECKS = {"name": check_name, "email": check_email, "address": check_address}


def create(context: Context, terms: OrganizationTerms) -> Organization:
    """Store an organization. Its Stripe customer is made by a job, or when it is first needed.

    Raises: InvalidTerms, Conflict for a slug or external id that is taken.
    """
    terms.check(context.settings.supported_currencies)
    with context.system() as unit:
        hold_names(unit.session, "organizations")
        made = unit.session.get(Organization, terms.id)
        if made is not None:
            return made
        _refuse_taken(unit, terms)
        organization = Organization(
            id=terms.id,
            slug=terms.slug,
            external_id=terms.external_id,
            name=terms.name,
            email=terms.email,
            currency=terms.currency,
            address=terms.address,
            tax_exempt=terms.tax_exempt,
            tax_rate_id=_tax_rate_id(unit, terms.tax_rate),
            test_clock_id=_clock_id(unit, terms.test_clock_id),
        )
        unit.session.add(organization)
    return organization


def resolve(context: Context, reference: str) -> UUID:
    """The id of the organization with this id, slug or external id. Raises NotFound."""
    found = context.database.at_once(lambda connection: queries.id_by_reference(connection, reference))
    if found is None:
        raise NotFound("no such organization", field="organization")
    return found


def update(context: Context, organization_id: UUID, changes: dict[str, Any]) -> Organization:
    """Change name, email, address, tax rate or exemption; Stripe's customer follows by a job.

    Raises: InvalidTerms naming the field, NotFound.
    """
    unknown = set(changes) - {*_CHECKS, "tax_rate", "tax_exempt"}
    if unknown:
        raise InvalidTerms("cannot be changed", field=min(unknown))
    for name, check in _CHECKS.items():
        if name in changes:
            check(changes[name])
    with context.tenant(organization_id) as unit:
        organization = unit.organization
        tax.assign(unit, changes)
        for name in _CHECKS:
            if name in changes:
                setattr(organization, name, changes[name])
        unit.enqueue("organizations.tell_stripe", f"{organization_id}:{new_id()}")
    return organization


@job("organizations.tell_stripe", queue="stripe")
def tell_stripe(context: Context, claimed: ClaimedJob) -> None:
    """Give Stripe's customer the organization's present name, e-mail, address and tax status.

    Jobs of one organization run one at a time and each reads the row anew, so the last one sent is the
    newest. An organization without a customer is told of when its customer is made.
    """
    with context.tenant(claimed.organization) as unit:
        organization = unit.organization
    if organization.stripe_customer_id is None:
        return
    fields = customer_fields(organization)
    request = requests.update_customer(organization.stripe_customer_id, **fields)
    # Should the row change before a repeat of this job, that is another intention.
    said = hashlib.sha256(repr(sorted(fields.items())).encode()).hexdigest()[:16]
    call(context, request, stripe_key("customer_fields", claimed.id, said), claimed.organization)


def customer_fields(organization: Organization) -> dict[str, Any]:
    """What Stripe's customer says of an organization; "" clears what it had."""
    return {
        "name": organization.name,
        "email": organization.email,
        "address": dict.fromkeys(_ADDRESS, "") | organization.address if organization.address else "",
        "tax_exempt": organization.tax_exempt,
    }


def ensure_customer(context: Context, organization_id: UUID) -> str:
    """The organization's customer at Stripe, made at the first need and never twice.

    The key is the organization's alone, so two workers that race send the same intention: the words of
    the first. Should the row have changed since, a job tells Stripe of it.
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
    key = stripe_key("customer", organization_id)
    said = first_said(context, request, key)
    customer_id = str(call(context, said, key, organization_id)["id"])
    with context.tenant(organization_id) as unit:
        unit.organization.stripe_customer_id = customer_id
        changed = customer_fields(unit.organization) != customer_fields(organization)
        if said != request or changed:
            unit.enqueue("organizations.tell_stripe", f"{organization_id}:{new_id()}")
    return customer_id


def _refuse_taken(unit: Unit, terms: OrganizationTerms) -> None:
    for name, value in (("slug", terms.slug), ("external_id", terms.external_id)):
        if value is not None and queries.by_reference(unit.session, value) is not None:
            raise Conflict("is taken", field=name)


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
