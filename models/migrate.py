"""Create the roles and bring the schema to its newest version."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine, text

APP_ROLE, AUDITOR_ROLE = "dunlin_app", "dunlin_auditor"
# One migration at a time, however many deploys start together; the number is arbitrary.
_MIGRATION_LOCK = 7_402_211
_MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"


def upgrade(
    owner_url: str, app_password: str | None, auditor_password: str | None, *, to: str = "head"
) -> None:
    """Create or update both roles and run every migration that is missing, up to the one named.

    Args: the URL of a role that may create roles and owns the schema; passwords in clear, None
    leaves a role's password as it is.
    """
    with _locked(owner_url) as connection:
        for role, password in ((APP_ROLE, app_password), (AUDITOR_ROLE, auditor_password)):
            _ensure_role(connection, role, password)
        connection.commit()
        config = Config()
        config.set_main_option("script_location", str(_MIGRATIONS))
        config.attributes["connection"] = connection
        command.upgrade(config, to)
        connection.commit()


@contextmanager
def _locked(owner_url: str) -> Iterator[Connection]:
    engine = create_engine(owner_url.replace("postgresql://", "postgresql+psycopg://", 1))
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": _MIGRATION_LOCK})
        connection.commit()
        try:
            yield connection
        finally:
            connection.rollback()
            connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": _MIGRATION_LOCK})
            connection.commit()
    engine.dispose()


def _ensure_role(connection: Connection, role: str, password: str | None) -> None:
    exists = connection.execute(text("SELECT 1 FROM pg_roles WHERE rolname = :role"), {"role": role}).scalar()
    if not exists:
        connection.execute(text(f"CREATE ROLE {role} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS"))
    if password is not None:
        # A utility statement takes no bound parameters: let Postgres itself quote the literal.
        quoted = connection.execute(
            text("SELECT quote_literal(:password)"), {"password": password}
        ).scalar_one()
        connection.exec_driver_sql(f"ALTER ROLE {role} PASSWORD {quoted}".replace("%", "%%"))
