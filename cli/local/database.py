"""A database server that somebody else runs: whose URL is it, and which URLs follow from it."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

import psycopg

from cli.local.credentials import Credentials
from cli.local.errors import StackError

# The roles that the migrations create.
APP_ROLE, AUDITOR_ROLE = "dunlin_app", "dunlin_auditor"


@dataclass(frozen=True)
class DatabaseUrls:
    """The three ways in; the passwords are None where the roles are not ours to change."""

    owner: str
    app: str
    auditor: str
    app_password: str | None
    auditor_password: str | None


def external_urls(environ: Mapping[str, str], credentials: Credentials) -> DatabaseUrls:
    """The URLs for a given DATABASE_URL.

    When its role can create roles, it is the owner and the two others are derived; else all three
    URLs must be given. Raises StackError when the server is away or a URL is missing.
    """
    given = _plain(environ["DATABASE_URL"])
    if _creates_roles(given):
        return derived_urls(given, credentials)
    owner, auditor = environ.get("DATABASE_OWNER_URL"), environ.get("DATABASE_AUDITOR_URL")
    if not owner or not auditor:
        raise StackError(
            "DATABASE_URL's role cannot create roles: give one that can, or set DATABASE_OWNER_URL (runs "
            "the migrations) and DATABASE_AUDITOR_URL (reads for the invariants) as well"
        )
    return DatabaseUrls(_plain(owner), given, _plain(auditor), None, None)


def derived_urls(owner: str, credentials: Credentials) -> DatabaseUrls:
    """The URLs of the roles that the migrations will create beside this owner."""
    app_password, auditor_password = credentials["postgres_app"], credentials["postgres_auditor"]
    app = _with_login(owner, APP_ROLE, app_password)
    auditor = _with_login(owner, AUDITOR_ROLE, auditor_password)
    return DatabaseUrls(owner, app, auditor, app_password, auditor_password)


def _plain(url: str) -> str:
    # SQLAlchemy's spelling names the driver; libpq's does not.
    return url.replace("postgresql+psycopg://", "postgresql://", 1).replace("postgres://", "postgresql://", 1)


def _with_login(url: str, role: str, password: str) -> str:
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{role}:{password}@{place}"))


def _creates_roles(url: str) -> bool:
    try:
        with psycopg.connect(url, connect_timeout=5) as connection:
            row = connection.execute(
                "SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user"
            ).fetchone()
    except psycopg.OperationalError as failure:
        # psycopg names host and role in it, never the password.
        raise StackError(f"cannot connect to DATABASE_URL: {failure}") from failure
    except psycopg.ProgrammingError:
        # The parser quotes what it could not read, password and all: so not its words, nor as the cause.
        raise StackError(
            "DATABASE_URL is not an address of PostgreSQL: postgresql://user:password@host:port/database"
        ) from None
    return bool(row and row[0])
