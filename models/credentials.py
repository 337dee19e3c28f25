"""Queries on API keys, users and kept answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, and_, case, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from models.base import new_id
from models.catalog import Product
from models.ops import ApiKey, IdempotentAnswer, User
from models.organizations import Organization


def key_by_hash(session: Session, key_hash: str) -> ApiKey | None:
    return session.execute(select(ApiKey).where(ApiKey.key_hash == key_hash)).scalar_one_or_none()


@dataclass(frozen=True, slots=True)
class ListedKey:
    """A key, and the code or slug of what it is bound to."""

    key: ApiKey
    bound_to: str | None


def hold_party(session: Session, principal: str) -> None:
    """Let one transaction at a time issue keys of a party: two would each overlook the other's."""
    session.execute(
        text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": f"keys:{principal}"}
    )


def live_keys_like(session: Session, key: ApiKey, now: datetime) -> Sequence[ApiKey]:
    """The live keys of the same kind, name and owner, newest first, locked."""
    statement = (
        select(ApiKey)
        .where(
            ApiKey.kind == key.kind,
            ApiKey.name == key.name,
            # Not IS NOT DISTINCT FROM, which no index answers; a comparison with None becomes IS NULL.
            ApiKey.product_id == key.product_id,
            ApiKey.organization_id == key.organization_id,
            _is_live(now),
        )
        .order_by(ApiKey.id.desc())
        .with_for_update()
    )
    return session.execute(statement).scalars().all()


def listed_keys(
    session: Session,
    now: datetime,
    *,
    kind: str | None = None,
    product_id: UUID | None = None,
    organization_id: UUID | None = None,
    dead_too: bool = False,
) -> list[ListedKey]:
    """The live keys, or all that there ever were, newest first."""
    statement = (
        select(ApiKey, func.coalesce(Product.code, Organization.slug))
        .outerjoin(Product, Product.id == ApiKey.product_id)
        .outerjoin(Organization, Organization.id == ApiKey.organization_id)
        .order_by(ApiKey.id.desc())
    )
    for column, value in (
        (ApiKey.kind, kind),
        (ApiKey.product_id, product_id),
        (ApiKey.organization_id, organization_id),
    ):
        if value is not None:
            statement = statement.where(column == value)
    if not dead_too:
        statement = statement.where(_is_live(now))
    return [ListedKey(*row) for row in session.execute(statement)]


def note_use(session: Session, key_id: UUID, now: datetime, grain: timedelta) -> None:
    """Remember that the key was used, unless that was noted less than `grain` ago."""
    session.execute(
        update(ApiKey)
        .where(ApiKey.id == key_id, or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at <= now - grain))
        .values(last_used_at=now)
    )


def _is_live(now: datetime) -> ColumnElement[bool]:
    return and_(ApiKey.revoked_at.is_(None), or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > now))


def user_by_email(session: Session, email: str) -> User | None:
    return session.execute(select(User).where(User.email == email)).scalar_one_or_none()


def count_login(session: Session, email: str, now: datetime, most: int, pause: timedelta) -> User | None:
    """Count a try before its password is looked at, so that tries in parallel cannot outrun the count.

    Returns None for an unknown or a locked user; the try that reaches `most` still counts and locks.
    """
    tries = case((User.locked_until_at.is_not(None), 1), else_=User.failed_logins + 1)
    statement = (
        update(User)
        .where(User.email == email, or_(User.locked_until_at.is_(None), User.locked_until_at <= now))
        .values(failed_logins=tries, locked_until_at=case((tries >= most, now + pause), else_=None))
        .returning(User)
    )
    return session.execute(statement, execution_options={"populate_existing": True}).scalar_one_or_none()


def keyed_request(session: Session, caller: str, key: str, digest: str) -> IdempotentAnswer:
    """The row of a caller's idempotency key, locked; made now when the key is new."""
    session.execute(
        insert(IdempotentAnswer)
        .values(id=new_id(), caller=caller, idempotency_key=key, request_digest=digest)
        .on_conflict_do_nothing(index_elements=["caller", "idempotency_key"])
    )
    return session.execute(
        select(IdempotentAnswer)
        .where(IdempotentAnswer.caller == caller, IdempotentAnswer.idempotency_key == key)
        .with_for_update()
    ).scalar_one()


def unanswered(session: Session, request_id: UUID) -> IdempotentAnswer | None:
    """The row of a request that nobody has answered yet, locked."""
    return session.execute(
        select(IdempotentAnswer)
        .where(IdempotentAnswer.id == request_id, IdempotentAnswer.status.is_(None))
        .with_for_update()
    ).scalar_one_or_none()
