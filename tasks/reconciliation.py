"""Reconciliation: our books against Stripe's, both ways, to the minor unit; every difference is kept.

Stripe is asked customer by customer, because objects on test clocks are in no unfiltered list.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from billing.errors import NotFound
from gateway import translate
from gateway.errors import Refused
from models import periodic, reconciling
from models.database import OrganizationBusy
from models.ops import ReconciliationRun
from models.reconciling import Books
from tasks import drafts
from tasks.context import Context
from tasks.differences import Difference, Mirror, StripeInvoice, compare, stranger
from tasks.queue import tick

log = logging.getLogger("dunlin.reconciliation")

_EVERY = timedelta(hours=24)
_RUN = "reconciliation"
_MISSING = "resource_missing"


def reconcile(context: Context, organization_ids: Sequence[UUID] | None = None) -> ReconciliationRun:
    """Compare the named organizations, or all of them and what Stripe has beyond them.

    Returns the run as it is stored: `compared` counts objects by kind, `differences` are the records
    of `tasks.differences.Difference`.
    Raises: NotFound for an unknown organization; GatewayError when Stripe cannot be asked: such a run
    stays without an end.
    """
    run = ReconciliationRun(started_at=context.wall(), compared={}, differences=[])
    with context.system() as unit:
        reconciling.add_run(unit.session, run)
    with context.auditor.system() as session:
        known = reconciling.customers(session)
    compared: Counter[str] = Counter()
    found: list[Difference] = []
    for organization_id in known.values() if organization_ids is None else organization_ids:
        found += _reconciled(context, organization_id, compared)
    if organization_ids is None:
        found += _strangers(context, known)
    run.compared, run.differences = dict(compared), [each.to_record() for each in found]
    run.finished_at = context.wall()
    with context.system() as unit:
        reconciling.finish_run(
            unit.session,
            run,
            compared=run.compared,
            differences=run.differences,
            finished_at=run.finished_at,
        )
    return run


@tick("reconciliation.run_nightly", queue="ops")
def run_nightly(context: Context) -> None:
    """Reconcile everything once a day, however often the tick comes; a difference is an alert."""
    with context.system() as unit:
        if not periodic.claim_run(unit.session, _RUN, unit.now, _EVERY):
            return
    try:
        run = reconcile(context)
    except Exception:
        with context.system() as unit:
            periodic.release_run(unit.session, _RUN)
        raise
    for difference in run.differences:
        log.error("ALERT %s: %s", difference["kind"], difference["sentence"])


def _reconciled(context: Context, organization_id: UUID, compared: Counter[str]) -> list[Difference]:
    """The differences of one organization that are still there at a second look.

    Both sides move while they are read; the second look keeps our jobs from moving them, and what was
    on its way at the first has arrived.
    """
    first, counts = _look(context, organization_id)
    compared.update(counts)
    if not first:
        return []
    try:
        with context.database.organization_lock(organization_id):
            second, _ = _look(context, organization_id)
    except OrganizationBusy:
        second, _ = _look(context, organization_id)
    return [difference for difference in second if difference in first]


def _look(context: Context, organization_id: UUID) -> tuple[list[Difference], dict[str, int]]:
    with context.auditor.system() as session:
        books = reconciling.books(session, organization_id)
    if books is None:
        raise NotFound("no such organization")
    if books.organization.stripe_customer_id is None:
        return [], {}
    mirror = _mirror(context, books)
    return compare(books, mirror), {
        "customers": 1,
        "payment methods": len(mirror.payment_methods),
        "subscriptions": len(mirror.subscriptions),
        "invoices": len(mirror.invoices),
        "invoice lines": sum(len(each.facts.lines) for each in mirror.invoices),
        "payments": sum(len(each.payments) for each in mirror.invoices),
        "disputes": len(mirror.disputes),
    }


def _mirror(context: Context, books: Books) -> Mirror:
    """Everything that Stripe has of the organization's customer."""
    gateway, customer_id = context.gateway, str(books.organization.stripe_customer_id)
    try:
        customer = translate.customer(gateway.fetch("customer", customer_id))
    except Refused as refusal:
        if refusal.code != _MISSING:
            raise
        return Mirror(None, (), (), (), ())
    if customer.deleted:
        return Mirror(customer, (), (), (), ())
    mine = {"customer": customer_id}
    charges = [translate.charge(each) for each in gateway.list("charge", mine)]
    return Mirror(
        customer,
        [translate.payment_method(each) for each in gateway.list("customer_payment_method", mine)],
        [translate.subscription(each) for each in gateway.list("subscription", {**mine, "status": "all"})],
        [_invoice(context, each) for each in gateway.list("invoice", {**mine, "expand": ["data.payments"]})],
        charges,
        # Disputes name no customer: those of the charges that say so, and of what we know to be disputed.
        [
            translate.dispute(each)
            for intent_id in sorted(
                {str(each.payment_intent_id) for each in charges if each.disputed} | books.disputed_intents
            )
            for each in gateway.list("dispute", {"payment_intent": intent_id})
        ],
    )


def _invoice(context: Context, shape: dict[str, Any]) -> StripeInvoice:
    """The invoice with all its lines and payments, of which a list shows the first ones."""
    facts = drafts.whole(context, shape)
    if (shape.get("payments") or {}).get("has_more", True):
        listed = context.gateway.list("invoice_payment", {"invoice": facts.id})
        return StripeInvoice(facts, [translate.payment(each) for each in listed])
    return StripeInvoice(facts, translate.payments_of(shape))


def _strangers(context: Context, known: dict[str, UUID]) -> list[Difference]:
    """Customers that were made for an organization of ours, and that none of ours has."""
    with context.auditor.system() as session:
        clocks = reconciling.stripe_clocks(session)
    found: list[Difference] = []
    for filters in [{}, *({"test_clock": clock} for clock in clocks)]:
        try:
            listed = [translate.customer(each) for each in context.gateway.list("customer", filters)]
        except Refused as refusal:
            # Stripe deletes test clocks after 30 days, and their customers with them.
            if refusal.code != _MISSING:
                raise
            continue
        found += [
            stranger(each.id)
            for each in listed
            if "organization_id" in each.metadata and each.id not in known
        ]
    return found
