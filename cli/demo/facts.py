"""What the system says of itself after the quarter; nothing here comes from the demo's own counting."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import Any
from uuid import UUID

from cli.demo.api import Api
from cli.demo.cast import Member
from cli.demo.player import Played
from models.accounts import ProductDayAccounts
from models.invariants import Breach
from models.invoices import DunningCase, DunningStep
from models.ops import Job, ReconciliationRun, UsageBatch, WebhookEvent
from tasks import accounts, documents, invariants, reconciliation
from tasks.context import Context
from tasks.explain import explain_line, explain_text

_EVENTS_SHOWN = 3


@dataclass(frozen=True, slots=True)
class DunningEvent:
    """One step of a dunning case."""

    at: datetime
    kind: str
    detail: str


@dataclass(frozen=True, slots=True)
class Dunning:
    """One pursued invoice."""

    organization: str
    state: str
    retries_done: int
    steps: tuple[DunningEvent, ...]


@dataclass(frozen=True, slots=True)
class Explained:
    """One invoice line, explained and computed again."""

    organization: str
    invoice: str
    position: int
    kind: str
    period_end_at: datetime
    # Of a metered line: the whole period's quantity, as known when the line was made.
    quantity: Fraction
    amount_minor: int
    agrees: bool
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything that the summary shows and judges."""

    usage: Sequence[ProductDayAccounts]
    invoices: dict[str, list[dict[str, Any]]]
    dunning: list[Dunning]
    explained: list[Explained]
    run: ReconciliationRun
    breaches: Sequence[Breach]
    documents: list[Path]
    webhooks: int
    unhandled: int
    dead: list[str]


def gather(context: Context, api: Api, played: Sequence[Played], folder: Path) -> Facts:
    """Ask the API, the proofs and the tables. Writes the invoices as PDF into `folder`."""
    invoices = {one.member.slug: _invoices(api, one.member) for one in played}
    return Facts(
        usage=accounts.product_totals(accounts.usage_accounts(context)),
        invoices=invoices,
        dunning=[case for one in played for case in _dunning(context, one)],
        explained=[line for one in played for line in _explained(context, one, invoices[one.member.slug])],
        run=reconciliation.reconcile(context),
        breaches=invariants.check(context),
        documents=documents.write_invoice_pdfs(context, folder),
        webhooks=_webhooks(context),
        unhandled=unhandled_rows(context),
        dead=_dead(context),
    )


def _invoices(api: Api, member: Member) -> list[dict[str, Any]]:
    """The member's invoices with their lines, the oldest first."""
    listed = api.get(f"/api/billing/invoices/?organization={member.slug}&limit=200")["items"]
    detailed = [api.get(f"/api/billing/invoices/{one['id']}/") for one in listed]
    return sorted(detailed, key=lambda one: (one["period_end_at"], one["created_at"], one["number"] or ""))


def _dunning(context: Context, played: Played) -> list[Dunning]:
    with context.tenant(UUID(played.organization_id)) as unit:
        cases = unit.session.query(DunningCase).all()
        steps = unit.session.query(DunningStep).all()
    return [
        Dunning(
            played.member.slug,
            case.state,
            case.retries_done,
            tuple(
                DunningEvent(step.at, step.kind, step.detail)
                for step in sorted(steps, key=lambda step: (step.at, step.id))
                if step.case_id == case.id
            ),
        )
        for case in cases
    ]


def _explained(context: Context, played: Played, invoices: Sequence[dict[str, Any]]) -> list[Explained]:
    """Every line of every invoice, in the sequence of the invoices."""
    organization_id = UUID(played.organization_id)
    found = (
        explain_line(context, organization_id, UUID(invoice["id"]), UUID(line["id"]), page_size=_EVENTS_SHOWN)
        for invoice in invoices
        for line in invoice["lines"]
    )
    return [_explain(played.member.slug, one) for one in found]


def _explain(slug: str, found: dict[str, Any]) -> Explained:
    line = found["line"]
    return Explained(
        organization=slug,
        invoice=str(found["invoice"]["number"]),
        position=line["position"],
        kind=line["kind"],
        period_end_at=datetime.fromisoformat(line["period"]["end_at"]),
        quantity=Fraction(found["quantity"]["value"]),
        amount_minor=line["amount_minor"],
        agrees=bool(found["recomputed"]["agrees"]),
        text=explain_text(found),
    )


def unhandled_rows(context: Context) -> int:
    """Rows of the two inboxes that no worker has finished yet."""
    with context.auditor.system() as session:
        return sum(
            session.query(inbox).filter(inbox.state.in_(("queued", "running"))).count()
            for inbox in (WebhookEvent, UsageBatch)
        )


def _webhooks(context: Context) -> int:
    """How many events the local Stripe delivered, signed, to our door."""
    with context.auditor.system() as session:
        return session.query(WebhookEvent).filter_by(source="delivered").count()


def _dead(context: Context) -> list[str]:
    """Jobs and inbox rows that gave up, with the reason."""
    with context.auditor.system() as session:
        jobs = session.query(Job).filter_by(state="dead").all()
        events = session.query(WebhookEvent).filter_by(state="dead").all()
        batches = session.query(UsageBatch).filter_by(state="dead").all()
    return [
        *(f"job {job.kind}: {job.last_error}" for job in jobs),
        *(f"webhook {event.type}: {event.last_error}" for event in events),
        *(f"usage batch {batch.id}: {batch.last_error}" for batch in batches),
    ]
