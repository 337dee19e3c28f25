"""Cycle drafts of many organizations on their way to final invoices, stage by stage.

Each is looked at in Stripe; all are rated; each gets its lines and is finalized at Stripe; all are numbered
and sealed. Between the stages everything stands in rows, as between the steps of `invoicing.bill`, which does
from wherever it stopped what is unusual, or goes wrong, here.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from uuid import UUID

from billing.errors import BillingError
from gateway import requests, translate
from gateway.translate import InvoiceFacts
from models import together as queries
from models.invoices import Invoice, InvoiceLine
from models.together import LiveTerms
from models.work import ClaimedJob
from tasks import drafts, finishing_together, following, invoice_rows, invoicing, rating_together
from tasks.context import Context
from tasks.finishing_together import Final
from tasks.queue import Settled, together
from tasks.rating_together import Draft, Rated
from tasks.stripe_calls import call

log = logging.getLogger("dunlin.billing")

# For so long drafts are looked at, and then worked on for twice as long: their organizations wait for it.
_LOOKING_S = 2.0
# Stripe takes a tenth of a second or more for a call, and many at a time.
_CALLS_AT_ONCE = 5


@dataclass(frozen=True, slots=True)
class _Found:
    """A draft to look at in Stripe, and what we have for its subscription."""

    invoice: Invoice
    live: Sequence[LiveTerms]


@together("invoicing.bill")
def bill(context: Context, jobs: Sequence[ClaimedJob]) -> Settled:
    """Bill the usual ones of these invoices. The caller holds the locks of their organizations."""
    found = _found(context, jobs)
    seen = _seen(context, found)
    drafts_seen = [
        Draft(found[each].invoice.organization_id, each, facts)
        for each, facts in seen.items()
        if facts is not None
    ]
    rated = rating_together.rate(context, drafts_seen)
    finals = _finals(context, [(found[draft.invoice_id].invoice, draft) for draft in drafts_seen], rated)
    finished = finishing_together.finish(context, finals)
    return Settled(
        done={job.id for job in jobs if job.subject in finished},
        later={job.id for job in jobs if job.subject in found.keys() - seen.keys()},
    )


def _found(context: Context, jobs: Sequence[ClaimedJob]) -> dict[UUID, _Found]:
    """The cycle drafts that wait to be rated. Those with credit that Stripe does not know yet are left."""
    keys = [(job.organization, job.subject) for job in jobs]
    with context.billing() as unit:
        invoices = [invoice for invoice, *_ in queries.invoices(unit.session, keys) if _is_waiting(invoice)]
        owners = [(invoice.organization_id, invoice.subscription_id) for invoice in invoices]
        live = queries.live_terms(unit.session, owners)
        untold = queries.with_untold_credit(unit.session, {owner for owner, _ in owners})
    return {
        invoice.id: _Found(invoice, live.get(invoice.subscription_id, ()))
        for invoice in invoices
        if invoice.organization_id not in untold
    }


def _is_waiting(invoice: Invoice) -> bool:
    return (
        invoice.kind == "cycle"
        and invoice.status == "draft"
        and invoice.rated_at is None
        and invoice.parked_at is None
    )


def _seen(context: Context, found: Mapping[UUID, _Found]) -> dict[UUID, InvoiceFacts | None]:
    """Stripe's drafts, for as many as there is time; None for one that is not what it should be."""
    until_s = time.monotonic() + _LOOKING_S
    seen: dict[UUID, InvoiceFacts | None] = {}

    def look(invoice_id: UUID) -> None:
        if time.monotonic() < until_s:
            seen[invoice_id] = _looked_at(context, found[invoice_id])

    with ThreadPoolExecutor(_CALLS_AT_ONCE) as pool:
        list(pool.map(look, found))
    return seen


def _looked_at(context: Context, found: _Found) -> InvoiceFacts | None:
    """Stripe's draft; None where a person has changed or paused its subscription, or nobody answers."""
    try:
        facts, subscription = drafts.seen(context, str(found.invoice.stripe_invoice_id))
    except BillingError as error:
        log.warning("draft %s is left for later: %s", found.invoice.id, type(error).__name__)
        return None
    if subscription is None or subscription.collection_paused:
        return None
    return facts if following.is_in_step(found.live, subscription) else None


def _finals(
    context: Context, drafted: Sequence[tuple[Invoice, Draft]], rated: Mapping[UUID, Rated]
) -> list[Final]:
    """The rated ones as Stripe has finalized them, but for those where that failed."""

    def final(each: tuple[Invoice, Draft]) -> Final | None:
        invoice, draft = each
        return _final(context, invoice, draft, rated[invoice.id])

    with ThreadPoolExecutor(_CALLS_AT_ONCE) as pool:
        made = pool.map(final, [each for each in drafted if each[0].id in rated])
        return [each for each in made if each is not None]


def _final(context: Context, invoice: Invoice, draft: Draft, rated: Rated) -> Final | None:
    """Give Stripe's draft its lines and finalize it, when its total is ours."""
    try:
        lines = [InvoiceLine(**row) for row in rated.lines]
        facts = invoicing.push_lines(context, invoice, lines) or draft.facts
        if (facts.total_minor, facts.currency) != (rated.total_minor, invoice.currency):
            return None
        key = invoice_rows.intention(invoice, "finalize")
        reply = call(context, requests.finalize_invoice(facts.id), key, invoice.organization_id)
        return Final(invoice.organization_id, invoice.id, translate.invoice(reply))
    except BillingError as error:
        log.warning("invoice %s is left for later: %s", invoice.id, type(error).__name__)
        return None
