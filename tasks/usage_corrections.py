"""Corrections of usage: an event said the wrong quantity, or should never have been reported.

The record stays as it came. A correction that comes before the period is invoiced just counts; one
that comes later waits, as a late event does, and the next invoice carries the exact difference.
"""

from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

from billing.errors import Conflict, InvalidTerms, NotFound
from models import usage_corrections, usage_intake
from models.base import new_id
from models.usage import UsageCorrection, UsageRecord
from tasks import adjusting
from tasks.context import Context, TenantUnit
from tasks.queue import TryLater

MAX_REASON = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrectionTerms:
    """What an event should have said; `quantity` None means that it never happened.

    `who` names the party, for the books; `idempotency_key` the intention, where the caller has one.
    """

    event_id: str
    quantity: Decimal | None
    reason: str
    who: str
    idempotency_key: str | None = None

    @property
    def content(self) -> tuple[str, str, Decimal | None]:
        """What a repeat has in common with the first."""
        return self.event_id, "void" if self.quantity is None else "quantity", self.quantity


@dataclass(frozen=True, slots=True)
class Corrected:
    """A correction with its record; `created` is false for one that stood already."""

    correction: UsageCorrection
    record: UsageRecord
    created: bool

    @property
    def effect(self) -> str:
        """Where it counts: with its period's invoice, as an adjustment, on a line already, or not yet."""
        if self.correction.invoice_line_id is not None:
            return "invoiced"
        return {"waiting": "with_its_period", "rated": "adjustment", "quarantined": "quarantined"}[
            self.record.state
        ]


def correct(context: Context, product_id: UUID, organization_id: UUID, terms: CorrectionTerms) -> Corrected:
    """Correct one event of a product. The same correction twice is one, by its key or by its content.

    Raises: NotFound for an event that was never accepted; TryLater for one whose batch is not opened
    yet; InvalidTerms for a bad reason; Conflict for a key that came with another correction.
    """
    reason = terms.reason.strip()
    if not 0 < len(reason) <= MAX_REASON:
        raise InvalidTerms(f"must have 1 to {MAX_REASON} characters", field="reason")
    with context.tenant(organization_id) as unit:
        # A period that closes meanwhile waits, or has taken the record already.
        usage_intake.hold_subscriptions(unit.session, [organization_id])
        record = usage_corrections.lock_record(unit.session, organization_id, product_id, terms.event_id)
        if record is None:
            if usage_corrections.is_unopened(unit.session, organization_id, product_id, terms.event_id):
                raise TryLater("the event is accepted, and its batch is not opened yet")
            raise NotFound("no such usage event", field="event_id")
        found = _standing(unit, record, terms)
        if found is not None:
            return Corrected(found, record, created=False)
        made = _add(unit, record, terms, reason)
        adjusting.follow_up(unit)
    return Corrected(made, record, created=True)


def _standing(unit: TenantUnit, record: UsageRecord, terms: CorrectionTerms) -> UsageCorrection | None:
    """The correction that this one repeats."""
    if terms.idempotency_key is not None:
        found = usage_corrections.by_key(
            unit.session, record.organization_id, record.product_id, terms.idempotency_key
        )
        if found is not None:
            if (found.event_id, found.kind, found.quantity) != terms.content:
                raise Conflict("this key came with another correction", field="Idempotency-Key")
            return found
    newest = usage_corrections.newest(unit.session, record)
    same = newest is not None and (newest.event_id, newest.kind, newest.quantity) == terms.content
    return newest if same else None


def _add(unit: TenantUnit, record: UsageRecord, terms: CorrectionTerms, reason: str) -> UsageCorrection:
    before = usage_corrections.newest(unit.session, record)
    made = UsageCorrection(
        organization_id=record.organization_id,
        id=new_id(),
        product_id=record.product_id,
        event_id=record.event_id,
        number=1 if before is None else before.number + 1,
        kind="void" if terms.quantity is None else "quantity",
        quantity=terms.quantity,
        reason=reason,
        who=terms.who,
        idempotency_key=terms.idempotency_key,
        meter_id=record.meter_id,
        occurred_at=record.occurred_at,
    )
    unit.session.add(made)
    unit.session.flush()
    return made
