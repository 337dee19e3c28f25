"""Intentions towards Stripe: prepared before the call, settled after it."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from models.base import new_id
from models.ops import StripeCall


def prepare(session: Session, intention: StripeCall) -> StripeCall:
    """Store the intention, or find the one with its key. Counts the sending that follows."""
    session.execute(
        insert(StripeCall)
        .values(
            id=new_id(),
            organization_id=intention.organization_id,
            operation=intention.operation,
            object_id=intention.object_id,
            params=intention.params,
            idempotency_key=intention.idempotency_key,
            created_at=intention.created_at,
        )
        .on_conflict_do_nothing(index_elements=["idempotency_key"])
    )
    found = session.execute(
        select(StripeCall).where(StripeCall.idempotency_key == intention.idempotency_key).with_for_update()
    ).scalar_one()
    if found.state in ("prepared", "unknown"):
        found.sends += 1
    return found


def find(session: Session, key: str) -> StripeCall | None:
    return session.execute(select(StripeCall).where(StripeCall.idempotency_key == key)).scalar_one_or_none()


def settle(session: Session, call_id: UUID, state: str, resolved_at: datetime | None, **outcome: Any) -> None:
    """Record what became of a sending: its `reply` and `request_id`, or its `error`."""
    session.execute(
        update(StripeCall)
        .where(StripeCall.id == call_id)
        .values(state=state, resolved_at=resolved_at, **outcome)
    )
