"""Parked invoices and organizations: nothing of them is invoiced or charged until a person has looked."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from models.invoices import Invoice
from models.ops import AuditEntry
from models.organizations import Organization


@dataclass(frozen=True, slots=True)
class ParkedInvoice:
    """A parked invoice and whose it is."""

    invoice: Invoice
    organization: str


def parked_invoices(session: Session) -> list[ParkedInvoice]:
    """All of them, the longest parked first; for a session that reads all organizations."""
    rows = session.execute(
        select(Invoice, Organization.slug)
        .join(Organization, Organization.id == Invoice.organization_id)
        .where(Invoice.parked_at.is_not(None))
        .order_by(Invoice.parked_at, Invoice.id)
    )
    return [ParkedInvoice(*row) for row in rows]


def parked_organizations(session: Session) -> Sequence[Organization]:
    """All of them, the longest parked first."""
    return (
        session.execute(
            select(Organization)
            .where(Organization.parked_at.is_not(None))
            .order_by(Organization.parked_at, Organization.id)
        )
        .scalars()
        .all()
    )


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
