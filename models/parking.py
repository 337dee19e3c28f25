"""Parking an organization: nothing of it is invoiced or charged until a person has looked."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import update
from sqlalchemy.orm import Session

from models.ops import AuditEntry
from models.organizations import Organization


def park(session: Session, organization_id: UUID, wall: datetime, reason: str, *, actor: str) -> bool:
    """Park it, and say so in the audit log. False when it was parked already: the first reason stays."""
    parked = session.execute(
        update(Organization)
        .where(Organization.id == organization_id, Organization.parked_at.is_(None))
        .values(parked_at=wall, parked_reason=reason)
        .returning(Organization.id)
    ).scalar_one_or_none()
    if parked is None:
        return False
    session.add(
        AuditEntry(
            at=wall,
            actor=actor,
            action="park",
            object_type="organization",
            object_id=str(organization_id),
            detail={"reason": reason},
        )
    )
    return True
