"""The audit log: who did what to which object, written with the deed."""

from typing import Any
from uuid import UUID

from models.ops import AuditEntry
from tasks.context import Unit


def note(unit: Unit, actor: str, action: str, object_id: UUID, **detail: Any) -> None:
    """Say that `actor` did `action` (`invoice.void`) to the object that the action's first word names."""
    unit.session.add(
        AuditEntry(
            actor=actor,
            action=action,
            object_type=action.partition(".")[0],
            object_id=str(object_id),
            detail=detail,
        )
    )
