"""Tax: which rate an organization is billed with, and what Stripe is told of it.

An organization has a rate of its own, or the one that TAX_RATE sets for everybody, or none; an exempt
one pays none. A draft keeps the rate that was in force when it was made, and Stripe's draft is given
the same one when it is taken over: a change takes effect with the next invoice.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from uuid import UUID

from billing.errors import Conflict, InvalidTerms, NotFound
from billing.exact import exact_number
from billing.invoicing import TaxTerms
from billing.keys import stripe_key
from gateway import requests
from gateway.translate import InvoiceFacts
from models import sale_terms
from models.base import new_id
from models.database import hold_names
from models.invoices import Invoice
from models.organizations import Organization, TaxRate
from models.work import ClaimedJob
from tasks import catalog_objects, stripe_catalog
from tasks.context import Context, TenantUnit, Unit
from tasks.queue import job
from tasks.stripe_calls import call

EXEMPTIONS = ("none", "exempt", "reverse")
_CODE = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?")
_COUNTRY = re.compile(r"[A-Z]{2}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RateTerms:
    """A tax rate to add: `percentage` 15 means 15 %, at most 4 decimals; inclusive is within the prices.

    `id` is that of the rate to make: a repeat finds it.
    """

    code: str
    name: str
    percentage: Decimal
    inclusive: bool = False
    country: str | None = None
    id: UUID = field(default_factory=new_id)

    def check(self) -> None:
        """Raises InvalidTerms naming the field at fault."""
        if not _CODE.fullmatch(self.code):
            raise InvalidTerms("must be 1 to 63 of a-z, 0-9, inner hyphens and dots", field="code")
        if not self.name.strip() or len(self.name) > 50:
            raise InvalidTerms("must have 1 to 50 characters", field="name")
        if not 0 <= self.percentage <= 100 or self.percentage != round(self.percentage, 4):
            raise InvalidTerms("must be 0 to 100 with at most 4 decimals", field="percentage")
        if self.country is not None and not _COUNTRY.fullmatch(self.country):
            raise InvalidTerms("must be a country's two letters", field="country")


def add(context: Context, terms: RateTerms) -> TaxRate:
    """Add a rate, here and at Stripe. It never changes: another percentage is another rate.

    Raises: InvalidTerms, Conflict for a code that is taken, GatewayError (`dunlin stripe sync` goes on).
    """
    terms.check()
    with context.system() as unit:
        hold_names(unit.session, "tax_rates")
        if unit.session.get(TaxRate, terms.id) is None:
            _store(unit, terms)
    stripe_catalog.bring(context, catalog_objects.tax_rates)
    return find(context, terms.code)


def _store(unit: Unit, terms: RateTerms) -> None:
    if sale_terms.tax_rate(unit.session, terms.code) is not None:
        raise Conflict("is taken", field="code")
    unit.session.add(
        TaxRate(
            id=terms.id,
            code=terms.code,
            name=terms.name,
            percentage=terms.percentage,
            inclusive=terms.inclusive,
            country=terms.country,
            active=True,
        )
    )


def rates(context: Context) -> Sequence[TaxRate]:
    """All rates, by code."""
    with context.system() as unit:
        return sale_terms.tax_rates(unit.session)


def find(context: Context, code: str) -> TaxRate:
    """A rate by its code. Raises NotFound."""
    with context.system() as unit:
        rate = sale_terms.tax_rate(unit.session, code)
    if rate is None:
        raise NotFound("no such tax rate")
    return rate


def retire(context: Context, code: str, *, active: bool) -> TaxRate:
    """Stop (or resume) assigning a rate; organizations that have it keep it. Raises NotFound."""
    find(context, code)
    with context.system() as unit:
        rate = sale_terms.tax_rate(unit.session, code)
        assert rate is not None
        rate.active = active
    return rate


def ensure_default(context: Context) -> None:
    """Make the rate of TAX_RATE, here and at Stripe, should it be new."""
    if not context.settings.tax_rate:
        return
    with context.system() as unit:
        code = _default_code(unit)
        found = sale_terms.tax_rate(unit.session, code)
        if found is None:
            rate = TaxRate(code=code, name="Tax", percentage=unit.settings.tax_rate, inclusive=False)
            sale_terms.ensure_tax_rate(unit.session, rate)
    if found is None or found.stripe_tax_rate_id is None:
        stripe_catalog.bring(context, catalog_objects.tax_rates)


def rate_for(unit: TenantUnit) -> TaxRate | None:
    """The rate that this organization's next invoice is made with."""
    rate = rate_id(unit.organization, default_rate(unit))
    return None if rate is None else unit.session.get_one(TaxRate, rate)


def default_rate(unit: Unit) -> TaxRate | None:
    """The rate of everybody who has none of their own."""
    return sale_terms.tax_rate(unit.session, _default_code(unit)) if unit.settings.tax_rate else None


def rate_id(organization: Organization, default: TaxRate | None) -> UUID | None:
    """The rate that an organization's next invoice is made with, as an id."""
    if organization.tax_exempt != "none":
        return None
    return organization.tax_rate_id or (default.id if default else None)


def take_from(unit: TenantUnit, invoice: Invoice, facts: InvoiceFacts) -> None:
    """Tax an invoice that Stripe finalized before we read it by the rate that it was finalized with.

    The organization's may have changed in between. A rate that is none of ours is left out: the totals
    then differ.
    """
    if not facts.tax_rate_ids:
        invoice.tax_rate_id = None
    elif len(facts.tax_rate_ids) == 1:
        rate = sale_terms.tax_rate_by_stripe_id(unit.session, facts.tax_rate_ids[0])
        invoice.tax_rate_id = rate.id if rate else invoice.tax_rate_id


def terms_of(unit: TenantUnit, invoice: Invoice) -> TaxTerms | None:
    """The tax on everything on this invoice."""
    if invoice.tax_rate_id is None:
        return None
    return terms(unit.session.get_one(TaxRate, invoice.tax_rate_id))


def terms(rate: TaxRate) -> TaxTerms:
    """What a rate takes."""
    return TaxTerms(exact_number(rate.percentage), rate.inclusive, rate.name)


def stripe_ids(unit: TenantUnit, rate_id: UUID | None) -> list[str]:
    """A rate as Stripe's parameters name it; none for none."""
    if rate_id is None:
        return []
    rate = unit.session.get_one(TaxRate, rate_id)
    if rate.stripe_tax_rate_id is None:
        raise Conflict(f"tax rate {rate.code} is not at Stripe yet: run `dunlin stripe sync`")
    return [rate.stripe_tax_rate_id]


def assign(unit: TenantUnit, changes: dict[str, Any]) -> None:
    """Give the organization another `tax_rate` (a code, or None) or `tax_exempt`; a job tells Stripe.

    Raises: InvalidTerms.
    """
    organization = unit.organization
    before = (organization.tax_rate_id, organization.tax_exempt)
    if "tax_rate" in changes:
        organization.tax_rate_id = _assignable(unit, changes["tax_rate"])
    if "tax_exempt" in changes:
        if changes["tax_exempt"] not in EXEMPTIONS:
            raise InvalidTerms(f"must be one of {', '.join(EXEMPTIONS)}", field="tax_exempt")
        organization.tax_exempt = changes["tax_exempt"]
    if before != (organization.tax_rate_id, organization.tax_exempt):
        key = f"{organization.id}:{unit.now.isoformat()}"
        unit.enqueue("tax.tell_stripe", key, subject_id=organization.id)


@job("tax.tell_stripe", queue="stripe")
def tell_stripe(context: Context, claimed: ClaimedJob) -> None:
    """Stripe's subscriptions have the organization's rate from here on; its customer is told apart."""
    ensure_default(context)
    with context.tenant(claimed.organization) as unit:
        organization, rate = unit.organization, rate_for(unit)
        rates = stripe_ids(unit, rate.id if rate else None)
        living = [
            str(each.stripe_subscription_id)
            for each in sale_terms.living_subscriptions(unit.session, organization.id)
        ]
    for stripe_id in living:
        # The content is part of the key: a change that overtook this job's first run is another intention.
        key = stripe_key("tax", stripe_id, claimed.id, *rates)
        call(context, requests.update_subscription(stripe_id, default_tax_rates=rates), key, organization.id)


def _default_code(unit: Unit) -> str:
    return f"default-{format(unit.settings.tax_rate.normalize(), 'f')}"


def _assignable(unit: TenantUnit, code: str | None) -> UUID | None:
    if code is None:
        return None
    rate = sale_terms.tax_rate(unit.session, code)
    if rate is None or not rate.active:
        raise InvalidTerms("no such tax rate", field="tax_rate")
    return rate.id
