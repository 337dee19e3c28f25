"""Payment methods: cards as Stripe describes them; a new card collects what is open at once."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from billing.errors import InvalidTerms, NotFound
from billing.keys import stripe_key
from gateway import requests, translate
from gateway.errors import Refused
from gateway.translate import PaymentMethodFacts, SetupIntentFacts
from models import billing_queries
from models.base import new_id
from models.subscriptions import PaymentMethod
from models.work import ClaimedJob
from tasks import notifications
from tasks.context import Context, TenantUnit
from tasks.organizations import ensure_customer
from tasks.queue import job
from tasks.stripe_calls import call, is_begun

_WARNED_BEFORE = timedelta(days=30)


def setup_intent(context: Context, organization_id: UUID) -> SetupIntentFacts:
    """Ask Stripe for a card form's secret; it goes to the browser and is stored nowhere."""
    customer_id = ensure_customer(context, organization_id)
    request = requests.create_setup_intent(customer_id, {"organization_id": str(organization_id)})
    return translate.setup_intent(
        call(context, request, stripe_key("setup_intent", new_id()), organization_id)
    )


def attach(
    context: Context, organization_id: UUID, stripe_payment_method_id: str, intention: UUID
) -> PaymentMethod:
    """Give the organization a card, make it the default, and retry what is open with it.

    A repeat of the same intention finds the card: a test token would make another one each time.
    Raises: Declined when the bank refuses the card, InvalidTerms for one that Stripe does not know.
    """
    customer_id = ensure_customer(context, organization_id)
    with context.database.organization_lock(organization_id):
        request = requests.attach_payment_method(stripe_payment_method_id, customer_id)
        try:
            attached = call(context, request, stripe_key("attach", intention), organization_id)
        except Refused as refusal:
            # Stripe names its own parameter; the caller's is this one.
            raise InvalidTerms(refusal.message, field="payment_method") from refusal
        facts = translate.payment_method(attached)
        default = requests.set_default_payment_method(customer_id, facts.id)
        # Said anew in a repeat: another card may have become the default in between.
        call(context, default, stripe_key("default_card", new_id()), organization_id)
        with context.tenant(organization_id) as unit:
            method = record_attached(unit, facts)
            make_default(unit, method)
    return method


def detach(context: Context, organization_id: UUID, payment_method_id: UUID) -> PaymentMethod:
    """Take a card away, for ever; a repeat changes nothing. Raises NotFound."""
    with context.tenant(organization_id) as unit:
        method = unit.session.get(PaymentMethod, (organization_id, payment_method_id))
    key = stripe_key("detach", payment_method_id)
    if method is None or (method.detached_at is not None and not is_begun(context, key)):
        raise NotFound("no such payment method")
    request = requests.detach_payment_method(method.stripe_payment_method_id)
    call(context, request, key, organization_id)
    with context.tenant(organization_id) as unit:
        record_detached(unit, method.stripe_payment_method_id)
    return method


def record_attached(unit: TenantUnit, facts: PaymentMethodFacts) -> PaymentMethod:
    """Store or refresh the card that Stripe describes."""
    method = billing_queries.payment_method_by_stripe_id(unit.session, unit.organization.id, facts.id)
    if method is None:
        method = PaymentMethod(
            organization_id=unit.organization.id, stripe_payment_method_id=facts.id, attached_at=unit.now
        )
        unit.session.add(method)
    renewed = method.is_default and (method.exp_year, method.exp_month) != (facts.exp_year, facts.exp_month)
    method.brand, method.last_four = facts.brand, facts.last4
    method.exp_month, method.exp_year = facts.exp_month, facts.exp_year
    method.detached_at = None
    unit.session.flush()
    _plan_warning(unit, method)
    if renewed:  # the bank has sent a new card, and told Stripe
        _collect_open(unit, f"{method.id}:{method.exp_year}-{method.exp_month}")
    return method


def _plan_warning(unit: TenantUnit, method: PaymentMethod, occasion: str = "") -> None:
    """Have a mail sent before the card ends; a renewed card gets a warning of its own."""
    ends_at = expires_at(method)
    if ends_at is not None and ends_at > unit.now:
        key = f"{method.id}:{ends_at:%Y-%m}{occasion}"
        due_at = ends_at - _WARNED_BEFORE
        unit.enqueue("payment_methods.warn_expiring", key, subject_id=method.id, due_at=due_at)


def expires_at(method: PaymentMethod) -> datetime | None:
    """The first instant at which a card is no longer good: the end of its month. None for other methods."""
    if method.exp_year is None or method.exp_month is None:
        return None
    years, month = divmod(method.exp_month, 12)
    return datetime(method.exp_year + years, month + 1, 1, tzinfo=UTC)


@job("payment_methods.warn_expiring", queue="dunning")
def warn_expiring(context: Context, claimed: ClaimedJob) -> None:
    """Mail that the card ends, unless it is gone, renewed, or no longer the one that is charged."""
    with context.tenant(claimed.organization) as unit:
        method = unit.session.get_one(PaymentMethod, (claimed.organization, claimed.subject))
        ends_at = expires_at(method)
        if ends_at is None or not ends_at - _WARNED_BEFORE <= unit.now < ends_at:
            return
        if not method.is_default or method.detached_at is not None:
            return
        key = f"{method.id}:{ends_at:%Y-%m}"
        if not billing_queries.is_told(unit.session, claimed.organization, "card.expiring", key):
            content = {
                "last_four": method.last_four,
                "brand": method.brand,
                "expires_at": ends_at.isoformat(),
            }
            notifications.write(unit, "card.expiring", key, content)


def make_default(unit: TenantUnit, method: PaymentMethod) -> None:
    """Make it the card that invoices are collected with, and collect what is open, once per card."""
    if method.is_default:
        return
    for other in billing_queries.payment_methods(unit.session, unit.organization.id):
        other.is_default = other.id == method.id
    _plan_warning(unit, method, f":default:{unit.now:%Y-%m-%d}")
    _collect_open(unit, str(method.id))


def clear_default(unit: TenantUnit) -> None:
    """No card is charged any more: Stripe's customer has no default."""
    for method in billing_queries.payment_methods(unit.session, unit.organization.id):
        method.is_default = False


def _collect_open(unit: TenantUnit, card: str) -> None:
    for invoice in billing_queries.open_invoices(unit.session, unit.organization.id):
        unit.enqueue("payments.collect", f"{invoice.id}:card:{card}", subject_id=invoice.id)


def record_detached(unit: TenantUnit, stripe_payment_method_id: str) -> None:
    method = billing_queries.payment_method_by_stripe_id(
        unit.session, unit.organization.id, stripe_payment_method_id
    )
    if method is not None and method.detached_at is None:
        method.detached_at = unit.now
        method.is_default = False
