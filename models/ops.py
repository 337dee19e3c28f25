"""System tables: inboxes, jobs, intentions towards Stripe, keys, users, audit, runs.

Sweepers read ids and due times here; the content of an organization stays in the tenant schema.
"""

from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import JSON, BigInteger, CheckConstraint, ForeignKey, Index, String, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import UUID as PG_UUID
from sqlalchemy.orm import Mapped, mapped_column

from models.base import OPS, Base, CreatedAt, Id, Minor
from models.catalog import Product
from models.organizations import Organization, TestClock

_WORK_STATES = "state IN ('queued', 'running', 'done', 'dead')"


class Job(Base):
    """A piece of work that must happen; a Celery message carries only its id.

    `due_at` is on the clock of its organization (`clock_id`, or the wall); `not_before_at` is
    wall time and holds the back-off after a failure.
    """

    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint(_WORK_STATES, "state"),
        Index("ix_jobs_due", "clock_id", "due_at", postgresql_where=text("state = 'queued'")),
        Index("ix_jobs_kind", "kind", "clock_id", "due_at", postgresql_where=text("state = 'queued'")),
        Index("ix_jobs_running", "lease_until_at", postgresql_where=text("state = 'running'")),
        Index("ix_jobs_subject", "subject_id"),
        Index("ix_jobs_dead", "id", postgresql_where=text("state = 'dead'")),
        {"schema": OPS},
    )
    id: Mapped[Id]
    kind: Mapped[str]
    organization_id: Mapped[UUID | None] = mapped_column(ForeignKey(Organization.id))
    subject_id: Mapped[UUID | None]
    unique_key: Mapped[str] = mapped_column(unique=True)
    clock_id: Mapped[UUID | None] = mapped_column(ForeignKey(TestClock.id))
    due_at: Mapped[datetime]
    not_before_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    state: Mapped[str] = mapped_column(default="queued")
    attempts: Mapped[int] = mapped_column(default=0)
    deferrals: Mapped[int] = mapped_column(default=0)
    lease_until_at: Mapped[datetime | None]
    last_error: Mapped[str | None]
    created_at: Mapped[CreatedAt]
    finished_at: Mapped[datetime | None]


class WebhookEvent(Base):
    """Stripe's word, stored before the 2xx; unique by Stripe's event id."""

    __tablename__ = "webhook_inbox"
    __table_args__ = (
        CheckConstraint(_WORK_STATES, "state"),
        Index(
            "ix_webhook_inbox_open", "received_at", postgresql_where=text("state IN ('queued', 'running')")
        ),
        Index("ix_webhook_inbox_dead", "id", postgresql_where=text("state = 'dead'")),
        {"schema": OPS},
    )
    id: Mapped[Id]
    event_id: Mapped[str] = mapped_column(unique=True)
    type: Mapped[str]
    api_version: Mapped[str | None]
    object_id: Mapped[str | None]
    customer_id: Mapped[str | None] = mapped_column(index=True)
    payload: Mapped[dict[str, Any]]
    # 'delivered' by Stripe, or 'imported' by the sweep over /v1/events
    source: Mapped[str]
    received_at: Mapped[CreatedAt]
    not_before_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    state: Mapped[str] = mapped_column(default="queued")
    attempts: Mapped[int] = mapped_column(default=0)
    lease_until_at: Mapped[datetime | None]
    last_error: Mapped[str | None]
    handled_at: Mapped[datetime | None]


class UsageBatch(Base):
    """One usage POST, stored before the 2xx: its events as checked at the door."""

    __tablename__ = "usage_inbox"
    __table_args__ = (
        CheckConstraint(_WORK_STATES, "state"),
        Index(
            "uq_usage_inbox_product_id_idempotency_key",
            "product_id",
            "idempotency_key",
            unique=True,
            postgresql_where=text("idempotency_key IS NOT NULL"),
        ),
        Index("ix_usage_inbox_open", "received_at", postgresql_where=text("state IN ('queued', 'running')")),
        Index("ix_usage_inbox_dead", "id", postgresql_where=text("state = 'dead'")),
        # Rows come in the sequence of their time: a block range index finds a day for almost nothing.
        Index(
            "ix_usage_inbox_received",
            "received_at",
            postgresql_using="brin",
            postgresql_with={"autosummarize": "on"},
        ),
        Index("ix_usage_inbox_unrolled", "id", postgresql_where=text("rolled_up_at IS NULL")),
        {"schema": OPS},
    )
    id: Mapped[Id]
    # Its key's product, and no foreign key: each POST would look up, and lock, that one row.
    product_id: Mapped[UUID]
    idempotency_key: Mapped[str | None]
    body_digest: Mapped[str]
    organization_ids: Mapped[list[UUID]] = mapped_column(ARRAY(PG_UUID))
    # Kept as it came, and read by Postgres alone.
    events: Mapped[list[Any]] = mapped_column(JSON, deferred=True)
    accepted: Mapped[int]
    received_at: Mapped[CreatedAt]
    not_before_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    state: Mapped[str] = mapped_column(default="queued")
    attempts: Mapped[int] = mapped_column(default=0)
    lease_until_at: Mapped[datetime | None]
    last_error: Mapped[str | None]
    handled_at: Mapped[datetime | None]
    duplicates: Mapped[int] = mapped_column(default=0)
    # Since then its records are in rollups (`models/usage_rollups.py`).
    rolled_up_at: Mapped[datetime | None]


class RollupNumber(Base):
    """One row: the number that was last given to rollups (`models/usage_rollups.py`)."""

    __tablename__ = "rollup_numbers"
    __table_args__ = (CheckConstraint("id", "single"), {"schema": OPS})
    id: Mapped[bool] = mapped_column(primary_key=True, server_default=text("true"))
    number: Mapped[int] = mapped_column(BigInteger)


class UsageDay(Base):
    """Where the events of one product are that were accepted on one day (UTC), as counted at `counted_at`.

    `unbalanced` is how many of its batches do not add up; `took_ms` how long the day's count took.
    """

    __tablename__ = "usage_days"
    __table_args__ = ({"schema": OPS},)
    product_id: Mapped[UUID] = mapped_column(ForeignKey(Product.id), primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    accepted: Mapped[Minor]
    rated: Mapped[Minor]
    waiting: Mapped[Minor]
    quarantined: Mapped[Minor]
    duplicate: Mapped[Minor]
    unbalanced: Mapped[int]
    counted_at: Mapped[datetime]
    took_ms: Mapped[int]


class StripeCall(Base):
    """An intention towards Stripe: committed before the call, its outcome in a second transaction.

    A network retry sends the same key and params; past 23 hours the key may be forgotten by
    Stripe, so an unresolved call is then looked up, never sent again. `without_effect`: Stripe keeps
    answering a stored 5xx under this key and shows no trace of the call; the next key may be used.
    """

    __tablename__ = "stripe_calls"
    __table_args__ = (
        CheckConstraint(
            "state IN ('prepared', 'unknown', 'succeeded', 'declined', 'refused', 'without_effect')", "state"
        ),
        Index(
            "ix_stripe_calls_unresolved",
            "created_at",
            postgresql_where=text("state IN ('prepared', 'unknown')"),
        ),
        {"schema": OPS},
    )
    id: Mapped[Id]
    organization_id: Mapped[UUID | None] = mapped_column(ForeignKey(Organization.id))
    operation: Mapped[str]
    object_id: Mapped[str | None]
    params: Mapped[dict[str, Any]]
    idempotency_key: Mapped[str] = mapped_column(unique=True)
    state: Mapped[str] = mapped_column(default="prepared")
    sends: Mapped[int] = mapped_column(default=0)
    reply: Mapped[dict[str, Any] | None]
    request_id: Mapped[str | None]
    error: Mapped[dict[str, Any] | None]
    created_at: Mapped[CreatedAt]
    resolved_at: Mapped[datetime | None]


class ApiKey(Base):
    """A bearer key: only its keyed hash is stored; shown once when made."""

    __tablename__ = "api_keys"
    __table_args__ = (
        CheckConstraint("kind IN ('product', 'organization', 'admin')", "kind"),
        CheckConstraint("(kind = 'product') = (product_id IS NOT NULL)", "product"),
        CheckConstraint("(kind = 'organization') = (organization_id IS NOT NULL)", "organization"),
        CheckConstraint("scopes <@ ARRAY['read', 'write']::varchar[] AND scopes <> '{}'", "scopes"),
        Index("ix_api_keys_party", "organization_id", "product_id", "name"),
        {"schema": OPS},
    )
    id: Mapped[Id]
    kind: Mapped[str]
    name: Mapped[str]
    product_id: Mapped[UUID | None] = mapped_column(ForeignKey(Product.id))
    organization_id: Mapped[UUID | None] = mapped_column(ForeignKey(Organization.id))
    scopes: Mapped[list[str]] = mapped_column(ARRAY(String))
    key_hash: Mapped[str] = mapped_column(unique=True)
    last_four: Mapped[str]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    # To the minute: a write for each request would cost more than the request.
    last_used_at: Mapped[datetime | None]
    created_at: Mapped[CreatedAt]


class User(Base):
    """A person of the operating company who may sign in to the admin."""

    __tablename__ = "users"
    __table_args__ = ({"schema": OPS},)
    id: Mapped[Id]
    email: Mapped[str] = mapped_column(unique=True)
    password_hash: Mapped[str]
    failed_logins: Mapped[int] = mapped_column(default=0)
    locked_until_at: Mapped[datetime | None]
    last_login_at: Mapped[datetime | None]
    created_at: Mapped[CreatedAt]


class AuditEntry(Base):
    """Who did what to which object; append-only (no UPDATE or DELETE is granted)."""

    __tablename__ = "audit_log"
    __table_args__ = (Index("ix_audit_log_object", "object_type", "object_id"), {"schema": OPS})
    id: Mapped[Id]
    at: Mapped[CreatedAt]
    actor: Mapped[str]
    action: Mapped[str]
    object_type: Mapped[str]
    object_id: Mapped[str]
    detail: Mapped[dict[str, Any]] = mapped_column(default=dict)


class ReconciliationRun(Base):
    """One comparison of our rows with Stripe's objects, both ways; differences are kept."""

    __tablename__ = "reconciliation_runs"
    __table_args__ = ({"schema": OPS},)
    id: Mapped[Id]
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    compared: Mapped[dict[str, Any]] = mapped_column(default=dict)
    differences: Mapped[list[Any]] = mapped_column(default=list)


class IdempotentAnswer(Base):
    """A request with an `Idempotency-Key`, and its first answer, which a repeat gets again.

    `id` names what the caller wants: a repeat of a request that came to no answer goes on with that.
    While `claimed_until_at` lies ahead somebody is working on it.
    """

    __tablename__ = "idempotent_answers"
    __table_args__ = (UniqueConstraint("caller", "idempotency_key"), {"schema": OPS})
    id: Mapped[Id]
    caller: Mapped[str]
    idempotency_key: Mapped[str]
    request_digest: Mapped[str]
    status: Mapped[int | None]
    body: Mapped[dict[str, Any] | None]
    claimed_until_at: Mapped[datetime | None]
    created_at: Mapped[CreatedAt]


class Heartbeat(Base):
    """The last time a beat tick came through Redis and a worker into this row."""

    __tablename__ = "heartbeats"
    __table_args__ = ({"schema": OPS},)
    name: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime]
