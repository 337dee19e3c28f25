"""Previews: the coming invoice, as things stand or after a change, made by the code of the real one."""

from uuid import UUID

from billing.errors import NotFound
from models import billing_queries, reading
from models.reading import InvoiceDetail
from tasks import drafting, subscription_changes, subscriptions
from tasks.context import Context
from tasks.subscription_changes import ChangeTerms


def preview(
    context: Context, organization_id: UUID, subscription_id: UUID, terms: ChangeTerms | None = None
) -> InvoiceDetail:
    """The coming invoice: usage so far, late usage, changes, discounts, tax, credit. Nothing is written.

    Without a change it is the draft that waits for its collection window, if there is one.
    Raises: NotFound; InvalidTerms and Conflict as a change does; Conflict where no invoice will come.
    """
    with context.rehearsal(organization_id) as unit:
        subscription = subscriptions.find(unit, subscription_id)
        if terms is None:
            waiting = billing_queries.waiting_draft(unit.session, subscription)
            made = drafting.rehearsed(unit, subscription, waiting)
        elif subscription_changes.rehearse(unit, subscription, terms):
            made = drafting.rehearsed_restart(unit, subscription)
        else:
            made = drafting.rehearsed(unit, subscription)
        found = reading.invoice(unit.session, organization_id, made.id)
        assert found is not None
        return found


def owner_of(context: Context, subscription_id: UUID) -> UUID:
    """Whose subscription it is, for staff who know only its id. Raises: NotFound."""
    with context.auditor.system() as session:
        owner = reading.owner_of(session, "subscription", subscription_id)
    if owner is None:
        raise NotFound("no such subscription")
    return owner
