"""Connections and transactions: one engine per process, one organization per tenant transaction."""

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, DisconnectionError, OperationalError
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry

from billing.errors import BillingError

__all__ = [
    "SETTING",
    "Connection",
    "Database",
    "OrganizationBusy",
    "PoolTerms",
    "Session",
    "UnsafeDatabaseRole",
    "enter",
    "is_rehearsal",
    "rehearse",
]

T = TypeVar("T")

# Whose rows a transaction sees: the policies of migration 0004 read it.
SETTING = "dunlin.organization_id"

# A connection that rested this long is asked whether it lives before it is used. One that came back
# a moment ago is not: the question would be a round trip of each of the busiest requests.
_TRUSTED_S = 1.0

# How long a lock is waited for, if nothing else is said.
_PATIENCE = timedelta(seconds=10)


class UnsafeDatabaseRole(BillingError):
    """The configured database role could read across organizations."""

    code = "unsafe_database_role"


class OrganizationBusy(BillingError):
    """Another worker or request holds this organization's lock."""

    code = "organization_busy"


@dataclass(frozen=True, slots=True)
class PoolTerms:
    """Limits of a process's connections.

    `statement_timeout_s` bounds every statement: a web request must not hang on a lock, a worker
    may rate a long period.
    """

    size: int = 5
    statement_timeout_s: int = 60


class Database:
    """The app role's door to Postgres. Args: a `postgresql://` URL; pool limits."""

    def __init__(self, url: str, pool: PoolTerms | None = None, *, name: str = "dunlin") -> None:
        terms = pool or PoolTerms()
        # Never hold a transaction over a Stripe call: an idle one is cut after 15 s.
        options = (
            f"-c statement_timeout={terms.statement_timeout_s}s -c lock_timeout={_PATIENCE.seconds}s "
            "-c idle_in_transaction_session_timeout=15s -c timezone=UTC"
        )
        common: dict[str, Any] = {
            "pool_timeout": 3,
            "pool_recycle": 1800,
            "connect_args": {"options": options, "application_name": name, "connect_timeout": 5},
        }
        driver_url = url.replace("postgresql://", "postgresql+psycopg://", 1)
        self.engine: Engine = create_engine(driver_url, pool_size=terms.size, max_overflow=2, **common)
        # Connections that never hold a transaction: taken and given back without a word to Postgres.
        self.single: Engine = create_engine(
            driver_url,
            pool_size=terms.size,
            max_overflow=2,
            isolation_level="AUTOCOMMIT",
            pool_reset_on_return=None,
            **common,
        )
        for engine in (self.engine, self.single):
            _ask_after_a_rest(engine)

    @contextmanager
    def system(self) -> Iterator[Session]:
        """One transaction outside any organization: tenant tables show no row in it."""
        with Session(self.engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def snapshot(self) -> Iterator[Session]:
        """One transaction that reads, sees one instant throughout, and in which Postgres refuses to write."""
        engine = self.engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        with Session(engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def tenant(self, organization_id: UUID) -> Iterator[Session]:
        """One transaction inside one organization; the setting ends with the transaction."""
        with self.system() as session:
            enter(session, organization_id)
            yield session

    @contextmanager
    def intake(self) -> Iterator[Session]:
        """One transaction that opens usage of any organization: it adds usage records, and little else."""
        with self.system() as session:
            session.execute(text("SET LOCAL ROLE dunlin_intake"))
            yield session

    @contextmanager
    def billing(self) -> Iterator[Session]:
        """One transaction that adopts, rates or seals cycle invoices of many organizations.

        Its statements join lists of keys with tables of any size: they go by index, whatever statistics
        there are. A list is taken for a hundred rows, and a new table for an empty one.
        """
        with self.system() as session:
            session.execute(_AS_BILLING)
            yield session

    def at_once(self, work: Callable[[Connection], T]) -> T:
        """Do `work` with every statement a transaction of its own: no BEGIN and no COMMIT to wait for.

        When the connection turns out to be dead the work is done once more on a new one, so it must
        come out the same when an earlier try went through and only its answer was lost.
        """
        try:
            with self.single.connect() as connection:
                return work(connection)
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
        with self.single.connect() as connection:
            return work(connection)

    def organization_lock(
        self, organization_id: UUID, wait: timedelta = _PATIENCE
    ) -> AbstractContextManager[None]:
        """Hold one organization's work for this caller; raises OrganizationBusy after so long a wait."""
        return self.named_lock(str(organization_id), wait)

    @contextmanager
    def named_lock(self, name: str, wait: timedelta = _PATIENCE) -> Iterator[None]:
        """Hold a name across processes.

        A lock of the connection, not of a transaction: it spans calls to Stripe, and Postgres frees
        it at once when the process dies. Raises OrganizationBusy when another holds it for so long.
        """
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            try:
                if not connection.execute(_TRY_LOCK, {"name": name}).scalar_one():
                    _wait_for(connection, name, wait)
            except OperationalError as error:
                raise OrganizationBusy(
                    "another change of this organization is under way; try again"
                ) from error
            try:
                yield
            finally:
                connection.execute(
                    text("SELECT pg_advisory_unlock(hashtextextended(:name, 0))"), {"name": name}
                )

    @contextmanager
    def free_organizations(self, organization_ids: Collection[UUID]) -> Iterator[set[UUID]]:
        """Hold the locks of those organizations whose lock is free, and of no other; yields which.

        Nobody is waited for, so two that ask for many cannot wait for each other.
        """
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            try:
                held = connection.execute(_TRY_LOCKS, {"ids": list(organization_ids)}).scalars()
                yield set(held)
            finally:
                connection.execute(text("SELECT pg_advisory_unlock_all()"))

    def refuse_unsafe_role(self) -> None:
        """Raise UnsafeDatabaseRole when this role bypasses or owns what row-level security guards."""
        with self.system() as session:
            role, unsafe = session.execute(_ROLE_CHECK).one()
        if unsafe:
            raise UnsafeDatabaseRole(
                f"the database role {role!r} is a superuser, may bypass row-level security, or owns tables; "
                "use the role dunlin_app"
            )

    def dispose_after_fork(self) -> None:
        """Forget the parent's sockets: two processes on one connection corrupt its protocol."""
        for engine in (self.engine, self.single):
            engine.dispose(close=False)

    def close(self) -> None:
        for engine in (self.engine, self.single):
            engine.dispose()


def _wait_for(connection: Connection, name: str, wait: timedelta) -> None:
    """Raises OperationalError when the lock is not free in time."""
    limit = text("SELECT set_config('lock_timeout', :limit, false)")
    connection.execute(limit, {"limit": f"{wait // timedelta(milliseconds=1)}ms"})
    try:
        connection.execute(text("SELECT pg_advisory_lock(hashtextextended(:name, 0))"), {"name": name})
    finally:
        connection.execute(limit, {"limit": f"{_PATIENCE // timedelta(milliseconds=1)}ms"})


def _ask_after_a_rest(engine: Engine) -> None:
    @event.listens_for(engine, "checkin")
    def rests(_connection: DBAPIConnection | None, entry: ConnectionPoolEntry) -> None:
        entry.info["rests_since"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def wakes(connection: DBAPIConnection, entry: ConnectionPoolEntry, _proxy: object) -> None:
        since = entry.info.get("rests_since")
        if since is None or time.monotonic() - since < _TRUSTED_S:
            return
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as dead:
            # The pool takes another connection, and no longer trusts those as old as this one.
            raise DisconnectionError from dead


def rehearse(session: Session) -> None:
    """Mark a transaction that will be taken back: what would write much may look instead."""
    session.info["rehearsal"] = True


def is_rehearsal(session: Session) -> bool:
    return bool(session.info.get("rehearsal"))


def hold_names(session: Session, of: str) -> None:
    """Let nobody else name a thing of this kind until this transaction ends.

    So two requests for one name are answered one after the other: the second finds it taken.
    """
    session.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:of, 0))"), {"of": f"names:{of}"})


def enter(session: Session, organization_id: UUID) -> None:
    """Make this transaction see the rows of one organization, and no other's."""
    session.execute(
        text("SELECT set_config(:setting, :organization_id, true)"),
        {"setting": SETTING, "organization_id": str(organization_id)},
    )


_TRY_LOCK = text("SELECT pg_try_advisory_lock(hashtextextended(:name, 0))")
_TRY_LOCKS = text(
    """
    SELECT id FROM unnest(CAST(:ids AS uuid[])) AS id
    WHERE pg_try_advisory_lock(hashtextextended(CAST(id AS text), 0))
    """
)

_AS_BILLING = text(
    """
    SELECT set_config('role', 'dunlin_billing', true), set_config('enable_seqscan', 'off', true),
           set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true),
           set_config('enable_bitmapscan', 'off', true)
    """
)

_ROLE_CHECK = text(
    """
    SELECT current_user,
           r.rolsuper OR r.rolbypassrls OR EXISTS (
               SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
               WHERE n.nspname IN ('catalog', 'ops', 'tenant')
                 AND pg_has_role(current_user, c.relowner, 'MEMBER')
           )
    FROM pg_roles r WHERE r.rolname = current_user
    """
)
