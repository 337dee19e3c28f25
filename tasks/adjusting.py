"""Late and corrected usage of invoiced periods: on the next invoice, or on one of its own.

An `adjustment` invoice is made when no other will come (the subscription has ended) or when staff want
the difference billed at once. It closes no period: it takes what waits late, and nothing else.
"""

from datetime import datetime
from uuid import UUID

from billing.errors import NotFound
from billing.periods import Period
from models import usage_billing, usage_intake
from models.invoices import Invoice
from models.subscriptions import ProductSubscription
from tasks import audit, invoice_rows
from tasks.context import Context, TenantUnit

_INSTANT = datetime.resolution


def adjust(context: Context, organization_id: UUID, subscription_id: UUID, *, actor: str) -> Invoice | None:
    """Bill what waits late or corrected now, on an invoice of its own; None when nothing waits.

    A repeat before the invoice is rated finds that invoice; after it there is nothing left to bill.
    `actor` is who asked for it, for the audit log.
    Raises: NotFound.
    """
    with context.database.organization_lock(organization_id), context.tenant(organization_id) as unit:
        subscription = unit.session.get(ProductSubscription, (organization_id, subscription_id))
        if subscription is None:
            raise NotFound("no such subscription")
        invoice = bill_waiting(unit, subscription, unit.now)
        if invoice is not None:
            audit.note(unit, actor, "subscription.adjust", subscription_id, invoice=str(invoice.id))
        return invoice


def bill_waiting(unit: TenantUnit, subscription: ProductSubscription, at: datetime) -> Invoice | None:
    """Have an adjustment invoice made of what waits late or corrected; None when nothing does."""
    if not usage_billing.late_groups(unit.session, unit.organization.id, subscription.id):
        return None
    invoice = _draft(unit, subscription, at)
    unit.enqueue("invoicing.bill", str(invoice.id), subject_id=invoice.id)
    return invoice


def follow_up(unit: TenantUnit) -> None:
    """Have what is late of this organization billed that no coming invoice will take."""
    late = usage_intake.ended_with_late_usage(unit.session, [unit.organization.id])
    corrected = usage_intake.ended_with_late_corrections(unit.session, unit.organization.id)
    for subscription_id in {subscription_id for _, subscription_id in late} | set(corrected):
        have_billed(unit, subscription_id)


def have_billed(unit: TenantUnit, subscription_id: UUID) -> None:
    """Bill what is late of an ended subscription; after the window, so that more comes along."""
    due_at = unit.now + unit.settings.collection_window
    key = f"{subscription_id}:{unit.now:%Y%m%d%H%M%S}"
    unit.enqueue("invoicing.bill_late_usage", key, subject_id=subscription_id, due_at=due_at)


def _draft(unit: TenantUnit, subscription: ProductSubscription, at: datetime) -> Invoice:
    """The draft that takes what waits at this instant.

    One that is rated takes nothing more, so the next of the same instant (a test clock stands still)
    begins a microsecond on. The boundaries themselves are left to the invoice of a missed window.
    """
    boundaries = (subscription.current_period_start_at, subscription.current_period_end_at)
    while True:
        if at not in boundaries:
            invoice = invoice_rows.draft(unit, subscription, "adjustment", Period(at, at))
            if invoice.rated_at is None and invoice.period_end_at == at:
                return invoice
        at += _INSTANT
