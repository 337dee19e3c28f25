"""The book of unpaid invoices: open a case, plan its next step, write its timeline, close it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from billing.dunning import AskForCard, Decline, GiveUp, RetryAt, next_step
from models import billing_queries
from models.invoices import DunningCase, DunningStep, Invoice, Payment
from tasks import notifications
from tasks.context import TenantUnit


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What is written into the book; `told` is said to customer and products besides."""

    key: str
    kind: str
    detail: str
    told: Mapping[str, Any] = field(default_factory=dict)
    by_mail: bool = True


def record_failure(unit: TenantUnit, invoice: Invoice, payment: Payment, decline: Decline) -> None:
    """A payment failed: open the case or go on with it, and plan what follows."""
    if invoice.status != "open":
        return  # written off, and then tried once more by a person: nothing is pursued again by that
    case = billing_queries.dunning_case(unit.session, invoice) or _opened(unit, invoice, payment.attempted_at)
    if case.state != "open":
        return
    case.decline_code = payment.decline_code
    # What a person tries in between leaves the policy's plan as it is.
    is_planned = payment.demanded and case.next_attempt_at is not None
    following = None if is_planned else _following(unit, case, payment, decline)
    failed = Step(
        key=f"failed:{payment.attempt}",
        kind="payment_failed",
        detail=_sentence(payment),
        told={"bank_said": payment.decline_message},
        # One failure is one mail: what follows from it tells of it too.
        by_mail=following is None,
    )
    write_step(unit, case, failed)
    if following is not None:
        write_step(unit, case, following)


def _following(unit: TenantUnit, case: DunningCase, payment: Payment, decline: Decline) -> Step:
    """Plan what follows a failure."""
    policy = unit.settings.dunning_policy
    failed_at = payment.attempted_at
    told: dict[str, Any] = {"bank_said": payment.decline_message}
    case.next_attempt_at = None
    match next_step(policy, case.first_failed_at, case.retries_done, decline, failed_at=failed_at):
        case RetryAt(at):
            number = case.retries_done + 1
            case.next_attempt_at = at
            unit.enqueue("dunning.retry", f"{case.id}:{number}", subject_id=case.id, due_at=at)
            return Step(
                key=f"plan:{number}",
                kind="retry_planned",
                detail=f"retry {number} on {at:%Y-%m-%d %H:%M}",
                told={**told, "retry_at": at.isoformat()},
            )
        case AskForCard(reason):
            detail = f"a new card is needed: {reason}"
            told = {**told, "is_unconfirmed": reason == "authentication_required"}
            return Step(key=f"card:{payment.attempt}", kind="card_requested", detail=detail, told=told)
        case GiveUp():
            detail = "no retry is left"
            return Step(key="exhausted", kind="retries_exhausted", detail=detail, told=told)


def close(unit: TenantUnit, case: DunningCase, state: str, why: str) -> None:
    """End the pursuit: `recovered` by money, or `stopped` by a cancellation or a closed invoice."""
    case.state, case.closed_at, case.next_attempt_at = state, unit.now, None
    write_step(unit, case, Step(key=state, kind=state, detail=why))


def write_step(unit: TenantUnit, case: DunningCase, step: Step) -> None:
    """One entry of the timeline, with its mail and its outbound webhook; once per key."""
    if billing_queries.has_step(unit.session, case, step.key):
        return
    unit.session.add(
        DunningStep(
            organization_id=unit.organization.id,
            case_id=case.id,
            key=step.key,
            at=unit.now,
            kind=step.kind,
            detail=step.detail,
        )
    )
    content = {
        "invoice_id": str(case.invoice_id),
        "number": unit.session.get_one(Invoice, (case.organization_id, case.invoice_id)).number,
        "detail": step.detail,
        "grace_until": case.grace_until_at.isoformat(),
        **step.told,
    }
    notifications.write(unit, f"dunning.{step.kind}", f"{case.id}:{step.key}", content, by_mail=step.by_mail)


def _opened(unit: TenantUnit, invoice: Invoice, first_failed_at: datetime) -> DunningCase:
    policy = unit.settings.dunning_policy
    case = DunningCase(
        organization_id=unit.organization.id,
        invoice_id=invoice.id,
        subscription_id=invoice.subscription_id,
        state="open",
        first_failed_at=first_failed_at,
        grace_until_at=first_failed_at + policy.grace,
        retries_done=0,
    )
    unit.session.add(case)
    unit.session.flush()
    unit.enqueue("dunning.end_grace", str(case.id), subject_id=case.id, due_at=case.grace_until_at)
    if policy.cancel_after is not None:
        due_at = first_failed_at + policy.cancel_after
        unit.enqueue("dunning.cancel_unpaid", str(case.id), subject_id=case.id, due_at=due_at)
    return case


def _sentence(payment: Payment) -> str:
    return f"attempt {payment.attempt}: {payment.decline_message} ({payment.decline_code})"
