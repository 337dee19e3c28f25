"""Queries on API keys, users and kept answers."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import case, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from models.base import new_id
from models.ops import ApiKey, IdempotentAnswer, User


def key_by_hash(session: Session, key_hash: str) -> ApiKey | None:
    return session.execute(select(ApiKey).where(ApiKey.key_hash == key_hash)).scalar_one_or_none()


def live_keys_like(session: Session, key: ApiKey, now: datetime) -> Sequence[ApiKey]:
    """The live keys of the same kind, name and owner, newest first, locked."""
    statement = (
        select(ApiKey)
        .where(
            ApiKey.kind == key.kind,
            ApiKey.name == key.name,
            ApiKey.product_id.is_not_distinct_from(key.product_id),
            ApiKey.organization_id.is_not_distinct_from(key.organization_id),
            ApiKey.revoked_at.is_(None),
            or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > now),
        )
        .order_by(ApiKey.id.desc())
        .with_for_update()
    )
    return session.execute(statement).scalars().all()


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


def claim_answer(session: Session, caller: str, key: str, digest: str) -> IdempotentAnswer | None:
    """Reserve a caller's idempotency key. Returns None when it is ours now, else the row that was there."""
    claimed = session.execute(
        insert(IdempotentAnswer)
        .values(id=new_id(), caller=caller, idempotency_key=key, request_digest=digest)
        .on_conflict_do_nothing(index_elements=["caller", "idempotency_key"])
        .returning(IdempotentAnswer.id)
    ).scalar_one_or_none()
    if claimed is not None:
        return None
    return session.execute(
        select(IdempotentAnswer)
        .where(IdempotentAnswer.caller == caller, IdempotentAnswer.idempotency_key == key)
        .with_for_update()
    ).scalar_one_or_none()


def own_claim(session: Session, caller: str, key: str, digest: str) -> IdempotentAnswer | None:
    """The row that this request claimed and nobody has answered yet, locked."""
    return session.execute(
        select(IdempotentAnswer)
        .where(
            IdempotentAnswer.caller == caller,
            IdempotentAnswer.idempotency_key == key,
            IdempotentAnswer.request_digest == digest,
            IdempotentAnswer.status.is_(None),
        )
        .with_for_update()
    ).scalar_one_or_none()
