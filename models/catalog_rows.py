"""Writing the catalog: rows found, made and changed by their identity. Call it under `lock_catalog`."""

from typing import Any, TypeVar

from sqlalchemy import ColumnElement, delete, func, select, text
from sqlalchemy.orm import Session

from models.base import Base

# Two writers at once would both find a row missing; the number is arbitrary.
_CATALOG_LOCK = 7_402_212

Row = TypeVar("Row", bound=Base)


def lock_catalog(session: Session) -> None:
    """Wait for, then hold until the transaction ends, the right to change the catalog."""
    session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _CATALOG_LOCK})


def find(session: Session, row_type: type[Row], **identity: Any) -> Row | None:
    """The row with this identity; None in it means NULL."""
    return session.execute(select(row_type).where(*_matches(row_type, identity))).scalar_one_or_none()


def one(session: Session, row_type: type[Row], **identity: Any) -> Row:
    """The row that must be there."""
    return session.execute(select(row_type).where(*_matches(row_type, identity))).scalar_one()


def count(session: Session, row_type: type[Row], **identity: Any) -> int:
    matches = _matches(row_type, identity)
    return session.execute(select(func.count()).select_from(row_type).where(*matches)).scalar_one()


def remove(session: Session, row_type: type[Row], **identity: Any) -> None:
    session.execute(delete(row_type).where(*_matches(row_type, identity)))


def ensure(session: Session, row_type: type[Row], identity: dict[str, Any], **values: Any) -> Row:
    """The row with this identity, made from `values` when it is missing; one that is there keeps its own."""
    found = find(session, row_type, **identity)
    if found is not None:
        return found
    row = row_type(**identity, **values)
    session.add(row)
    session.flush()
    return row


def put(session: Session, row_type: type[Row], identity: dict[str, Any], **values: Any) -> Row:
    """The row with this identity and these values, made or changed."""
    row = ensure(session, row_type, identity, **values)
    for name, value in values.items():
        setattr(row, name, value)
    return row


def _matches(row_type: type[Row], identity: dict[str, Any]) -> list[ColumnElement[bool]]:
    return [getattr(row_type, name) == value for name, value in identity.items()]
