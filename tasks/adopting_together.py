"""Making our drafts of Stripe's cycle drafts of many organizations, in one transaction.

Those that `mirroring.adopt_cycle` would make anew for a period that we know; what is left here it does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from billing.periods import Interval
from gateway import translate
from gateway.translate import InvoiceFacts
from models import bulk, organization_queries, together
from models.invoices import Invoice
from models.ops import WebhookEvent
from tasks import invoice_rows, mirroring, tax
from tasks.context import Context, TenantUnit, Unit

_INSTANT = timedelta.resolution


@dataclass(frozen=True, slots=True)
class Seen:
    """A draft that Stripe made for the end of a period of a subscription, and that is not ours yet."""

    organization_id: UUID
    facts: InvoiceFacts


def adopt_told(context: Context, events: Sequence[WebhookEvent]) -> list[tuple[WebhookEvent, UUID]]:
    """Adopt the drafts that `invoice.created` tells of. Returns the events that need nothing more, each
    with its organization.

    By the event's own word: what a draft was made for never changes, and what became of it since is the
    subject of other events, and seen before anything is done with it.
    """
    told: dict[str, tuple[WebhookEvent, InvoiceFacts]] = {}
    for event in events:
        if event.type == "invoice.created" and event.customer_id is not None:
            facts = translate.invoice(translate.event(event.payload).raw_object)
            if _is_plain(facts):
                told[facts.id] = event, facts
    if not told:
        return []
    with context.database.system() as session:
        customers = {str(event.customer_id) for event, _ in told.values()}
        owners = organization_queries.ids_by_customers(session, customers)
    with context.database.free_organizations(set(owners.values())) as free:
        seen = [
            Seen(owners[str(event.customer_id)], facts)
            for event, facts in told.values()
            if owners.get(str(event.customer_id)) in free
        ]
        adopted = adopt(context, seen) if seen else {}
        by_draft = {each.facts.id: each.organization_id for each in seen}
    return [(told[stripe_id][0], by_draft[stripe_id]) for stripe_id in adopted]


def adopt(context: Context, seen: Sequence[Seen]) -> dict[str, UUID]:
    """Adopt the usual ones of some drafts. Returns our invoices' ids by Stripe's.

    The caller holds the locks of their organizations.
    """
    with context.billing() as unit:
        drafts = _drafts(unit, seen)
        added = bulk.insert_missing(unit.session, Invoice, [row for _, row in drafts])
        new = [(owner, row) for owner, row in drafts if row["id"] in added]
        unit.enqueue_all(
            [
                (owner, owner.job(mirroring.TAKE_OVER, str(row["id"]), subject_id=row["id"]))
                for owner, row in new
            ]
        )
    return {row["stripe_invoice_id"]: row["id"] for _, row in new}


def _is_plain(facts: InvoiceFacts) -> bool:
    is_cycle = facts.billing_reason == "subscription_cycle" and facts.status == "draft"
    return is_cycle and facts.subscription_id is not None and "invoice_id" not in facts.metadata


def _drafts(unit: Unit, seen: Sequence[Seen]) -> list[tuple[TenantUnit, dict[str, Any]]]:
    """The rows of those that close a period which we know."""
    keys = [
        (each.organization_id, str(each.facts.subscription_id), each.facts.period_end_at - _INSTANT)
        for each in seen
    ]
    ended = together.ended(unit.session, keys)
    default = tax.default_rate(unit)
    drafts = []
    for facts, (_, name, before_at) in zip((each.facts for each in seen), keys, strict=True):
        found = ended.get((name, before_at))
        if found is None:
            continue
        interval = Interval(found.interval or found.subscription.interval)
        closed = mirroring.period_closed(found.subscription, interval, facts.period_end_at)
        if closed is not None:
            owner = unit.of(found.organization, found.clock)
            rate = tax.rate_id(found.organization, default)
            row = invoice_rows.draft_values(owner, found.subscription, "cycle", closed, tax_rate_id=rate)
            drafts.append((owner, {**row, "stripe_invoice_id": facts.id}))
    return drafts
