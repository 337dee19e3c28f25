"""Finalizing here, in one transaction, what Stripe has finalized for many organizations.

The usual ones: Stripe's total is ours, all of it is due, and the balance has no part in it. What is left
here does `finishing.finish`, one at a time.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from billing.money import Money
from gateway.translate import InvoiceFacts
from models import bulk, invoice_hash, together
from models.invoices import Invoice, Notification
from models.ops import Job
from tasks import balance, finishing, invoice_rows, notifications
from tasks.context import Context, TenantUnit, Unit


@dataclass(frozen=True, slots=True)
class Final:
    """A draft of ours, with Stripe's as it was finalized."""

    organization_id: UUID
    invoice_id: UUID
    facts: InvoiceFacts


@dataclass(frozen=True, slots=True)
class _Numbered:
    """An invoice as it is to be; `columns` are what changes of its row."""

    owner: TenantUnit
    invoice: Invoice
    columns: dict[str, Any]


def finish(context: Context, finals: Sequence[Final]) -> set[UUID]:
    """Number and seal the usual ones, and have them collected. Returns their ids; others stay as they are.

    The caller holds the locks of their organizations.
    """
    facts = {final.invoice_id: final.facts for final in finals}
    keys = [(final.organization_id, final.invoice_id) for final in finals]
    with context.billing() as unit:
        credit = together.balances(unit.session, {organization_id for organization_id, _ in keys})
        usual = []
        for invoice, organization, clock in together.invoices(unit.session, keys):
            there = Money(credit.get((organization.id, invoice.currency), 0), invoice.currency)
            if _is_plain(invoice, facts[invoice.id], there):
                usual.append((unit.of(organization, clock), invoice))
        if usual:
            _write(unit, _numbered(unit, usual, facts))
    return {invoice.id for _, invoice in usual}


def _is_plain(invoice: Invoice, facts: InvoiceFacts, there: Money) -> bool:
    """Whether a rated draft stands open at Stripe with our total, and credit or debt change nothing."""
    is_waiting = invoice.status == "draft" and invoice.rated_at is not None and invoice.parked_at is None
    if not is_waiting or facts.status != "open" or finishing.disagreement(invoice, facts) is not None:
        return False
    settled = balance.settled(invoice, facts, there)
    return isinstance(settled, balance.Settlement) and not (settled.used.minor or settled.carried.minor)


def _numbered(
    unit: Unit, usual: Sequence[tuple[TenantUnit, Invoice]], facts: Mapping[UUID, InvoiceFacts]
) -> list[_Numbered]:
    """Each with the next number of its organization, and its seal."""
    lines = together.lines(unit.session, [(invoice.organization_id, invoice.id) for _, invoice in usual])
    wanted = Counter(invoice.organization_id for _, invoice in usual)
    last = together.next_numbers(unit.session, wanted)
    numbered = []
    for owner, invoice in usual:
        number = invoice_rows.named(owner, last[owner.organization.id] - wanted[owner.organization.id] + 1)
        wanted[owner.organization.id] -= 1
        figures = {
            "number": number,
            "credit_minor": 0,
            "total_minor": invoice.total_minor + invoice.credit_minor,
        }
        content = {**invoice_hash.head(invoice), **figures}
        seal = invoice_hash.digest(content, lines.get(invoice.id, ()))
        there = {
            "hosted_invoice_url": facts[invoice.id].hosted_invoice_url,
            "pushed_at": invoice.pushed_at or owner.now,
        }
        numbered.append(_Numbered(owner, invoice, {**there, **figures, **invoice_rows.sealed(owner, seal)}))
    return numbered


def _write(unit: Unit, numbered: Sequence[_Numbered]) -> None:
    told: list[dict[str, Any]] = []
    jobs: list[tuple[TenantUnit, Job]] = []
    for each in numbered:
        invoice, owner = each.invoice, each.owner
        content = {**invoice_rows.invoice_content(invoice), **_shown(each.columns)}
        for row in notifications.rows(owner, invoice_rows.FINALIZED, str(invoice.id), content):
            told.append(row)
            if row["state"] == "queued":
                jobs.append((owner, owner.job_apart("mails.send", str(row["id"]), subject_id=row["id"])))
        jobs.append((owner, owner.job(*finishing.first_attempt(invoice), subject_id=invoice.id)))
    rows = [
        {"organization_id": each.invoice.organization_id, "id": each.invoice.id, **each.columns}
        for each in numbered
    ]
    bulk.update(unit.session, Invoice, rows)
    bulk.insert(unit.session, Notification, told)
    unit.enqueue_all(jobs)


def _shown(columns: Mapping[str, Any]) -> dict[str, Any]:
    return {name: columns[name] for name in ("number", "total_minor", "hosted_invoice_url")}
