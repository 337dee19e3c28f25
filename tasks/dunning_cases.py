"""The book of unpaid invoices: open a case, plan its next step, write its timeline, close it."""

from datetime import datetime

from billing.dunning import AskForCard, Decline, GiveUp, RetryAt, next_step
from models import billing_queries
from models.invoices import DunningCase, DunningStep, Invoice, Payment
from tasks import notifications
from tasks.context import TenantUnit


def record_failure(unit: TenantUnit, invoice: Invoice, payment: Payment, decline: Decline) -> None:
    """A payment failed: open the case or go on with it, and plan what follows."""
    if invoice.status != "open":
        return  # written off, and then tried once more by a person: nothing is pursued again by that
    case = billing_queries.dunning_case(unit.session, invoice) or _opened(unit, invoice, payment.attempted_at)
    if case.state != "open":
        return
    case.decline_code = payment.decline_code
    write_step(unit, case, f"failed:{payment.attempt}", "payment_failed", _sentence(payment))
    if payment.demanded and case.next_attempt_at is not None:
        return  # what a person tries in between leaves the policy's plan as it is
    policy = unit.settings.dunning_policy
    failed_at = payment.attempted_at
    match next_step(policy, case.first_failed_at, case.retries_done, decline, failed_at=failed_at):
        case RetryAt(at):
            number = case.retries_done + 1
            case.next_attempt_at = at
            unit.enqueue("dunning.retry", f"{case.id}:{number}", subject_id=case.id, due_at=at)
            write_step(
                unit, case, f"plan:{number}", "retry_planned", f"retry {number} on {at:%Y-%m-%d %H:%M}"
            )
        case AskForCard(reason):
            case.next_attempt_at = None
            write_step(
                unit, case, f"card:{payment.attempt}", "card_requested", f"a new card is needed: {reason}"
            )
        case GiveUp(reason):
            case.next_attempt_at = None
            write_step(unit, case, "exhausted", "retries_exhausted", f"no retry left: {reason}")


def close(unit: TenantUnit, case: DunningCase, state: str, why: str) -> None:
    """End the pursuit: `recovered` by money, or `stopped` by a cancellation or a closed invoice."""
    case.state, case.closed_at, case.next_attempt_at = state, unit.now, None
    write_step(unit, case, state, state, why)


def write_step(unit: TenantUnit, case: DunningCase, key: str, kind: str, detail: str) -> None:
    """One entry of the timeline, with its mail and its outbound webhook; once per key."""
    if billing_queries.has_step(unit.session, case, key):
        return
    unit.session.add(
        DunningStep(
            organization_id=unit.organization.id,
            case_id=case.id,
            key=key,
            at=unit.now,
            kind=kind,
            detail=detail,
        )
    )
    content = {
        "invoice_id": str(case.invoice_id),
        "detail": detail,
        "grace_until": case.grace_until_at.isoformat(),
    }
    notifications.write(unit, f"dunning.{kind}", f"{case.id}:{key}", content)


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
