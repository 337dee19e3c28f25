"""Dunning's due dates: retry, end of grace, cancellation; and what stops it.

Every date is a job's `due_at` on the organization's own clock. Access is computed from the open
cases and never stored.
"""

from uuid import UUID

from billing.keys import stripe_key
from gateway import requests, translate
from models import billing_queries
from models.invoices import DunningCase, Invoice
from models.subscriptions import ProductSubscription
from models.work import ClaimedJob
from tasks import dunning_cases, mirroring, notifications, payments, subscriptions
from tasks.context import Context, TenantUnit
from tasks.queue import job
from tasks.stripe_calls import call


@job("dunning.retry", queue="dunning")
def retry(context: Context, claimed: ClaimedJob) -> None:
    """A planned retry: the number at the end of the job's key, once."""
    with context.tenant(_organization(claimed)) as unit:
        case = _case(unit, claimed)
    payments.collect(context, claimed, case.invoice_id, retry=claimed.number)


@job("dunning.end_grace", queue="dunning")
def end_grace(context: Context, claimed: ClaimedJob) -> None:
    """The grace period is over and the invoice still unpaid: access is suspended from here on."""
    with context.tenant(_organization(claimed)) as unit:
        case = _case(unit, claimed)
        if case.state != "open":
            return
        detail = "the grace period is over: access is suspended"
        step = dunning_cases.Step(key="suspended", kind="suspended", detail=detail)
        dunning_cases.write_step(unit, case, step)
        notifications.write(unit, "access.changed", f"{case.id}:suspended", {"access": "suspended"})


@job("dunning.cancel_unpaid", queue="dunning")
def cancel_unpaid(context: Context, claimed: ClaimedJob) -> None:
    """Unpaid for as long as the policy waits: cancel, then give the invoice up.

    In that sequence: Stripe would make the subscription active again once its latest invoice is
    marked uncollectible.
    """
    organization_id = _organization(claimed)
    with context.tenant(organization_id) as unit:
        case = _case(unit, claimed)
        invoice = unit.session.get_one(Invoice, (organization_id, case.invoice_id))
        subscription = unit.session.get_one(ProductSubscription, (organization_id, case.subscription_id))
    if case.state != "open":
        return
    if subscription.ended_at is None:
        request = requests.cancel_subscription(str(subscription.stripe_subscription_id), "unpaid")
        reply = call(context, request, stripe_key("cancel", subscription.id), organization_id)
        subscriptions.observe(context, organization_id, translate.subscription(reply))
    request = requests.mark_uncollectible(str(invoice.stripe_invoice_id))
    reply = call(context, request, stripe_key("uncollectible", invoice.id), organization_id)
    mirroring.observe(context, organization_id, translate.invoice(reply))


@job("dunning.stop", queue="dunning")
def stop(context: Context, claimed: ClaimedJob) -> None:
    """The subscription has ended: no retry follows; what is open stays payable."""
    organization_id = _organization(claimed)
    with context.tenant(organization_id) as unit:
        for case in billing_queries.open_cases(unit.session, organization_id, claimed.subject):
            # The invoice of the last usage is made after the end and is pursued like any other.
            if unit.session.get_one(Invoice, (organization_id, case.invoice_id)).kind in ("first", "cycle"):
                dunning_cases.close(unit, case, "stopped", "the subscription has ended")


def _organization(claimed: ClaimedJob) -> UUID:
    return claimed.organization


def _case(unit: TenantUnit, claimed: ClaimedJob) -> DunningCase:
    return unit.session.get_one(DunningCase, (unit.organization.id, claimed.subject))
