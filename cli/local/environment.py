"""What each process finds in its environment."""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from cli.local.credentials import Credentials
from cli.local.database import DatabaseUrls
from cli.local.errors import StackError
from cli.local.locking import is_locked
from cli.local.ports import LOOPBACK

ADMIN_EMAIL = "admin@dunlin.localhost"
_FLOWER_USER = "admin"
_SAVED = "environment.json"
# The local Stripe plays somebody else's system, so it is told nothing of ours.
_STRANGERS = frozenset({"sandbox"})
# Only the migrations may act as the owner: a process that cannot, cannot be tricked into it.
_WITHHELD = frozenset({"DATABASE_OWNER_URL"})
_PRIVATE = frozenset(
    {"SMTP_URL", "DATABASE_URL", "DATABASE_OWNER_URL", "DATABASE_AUDITOR_URL", "REDIS_URL", "SECRET_KEY"}
)
# What a person set for the processes holds for commands in another terminal too.
_SET_BY_PEOPLE = ("SMTP_URL", "MAIL_FROM", "SELLER_NAME", "SELLER_ADDRESS", "SELLER_TAX_ID")


def check_given(environ: Mapping[str, str]) -> None:
    """Refuse a key that moves real money, or that nobody can tell. Raises StackError."""
    key = environ.get("STRIPE_API_KEY", "")
    # What is allowed, not what is forbidden: a live key behind a stray blank or quote is still one.
    if key and not key.startswith(("sk_test_", "rk_test_")):
        what = "a live-mode key" if "_live_" in key else "not a test-mode key"
        raise StackError(
            f"STRIPE_API_KEY is {what}; this command creates and charges customers, so it takes "
            "only a test-mode key (sk_test_ or rk_test_), or none to use the local Stripe"
        )


def build_environment(
    environ: Mapping[str, str],
    database: DatabaseUrls,
    redis_url: str,
    credentials: Credentials,
    *,
    ports: Mapping[str, int],
    state_dir: Path,
) -> dict[str, str]:
    """Every setting that the start decides; what the person set wins where it is theirs to set."""
    web = f"http://{LOOPBACK}:{ports['web']}"
    chosen = {
        "SECRET_KEY": credentials["secret_key"],
        "KEY_PEPPER": credentials["key_pepper"],
        "FLOWER_BASIC_AUTH": f"{_FLOWER_USER}:{credentials['flower_password']}",
        "ADMIN_EMAIL": ADMIN_EMAIL,
        "ADMIN_PASSWORD": credentials["admin_password"],
        "STRIPE_WEBHOOK_SECRET": credentials["stripe_webhook_secret"],
        "PUBLIC_URL": web,
    }
    settled = {
        "DATABASE_URL": database.app,
        "DATABASE_OWNER_URL": database.owner,
        "DATABASE_AUDITOR_URL": database.auditor,
        "REDIS_URL": redis_url,
        **_stripe(environ, credentials, ports),
        **_addresses(ports, state_dir),
    }
    given = {name: environ[name] for name in _SET_BY_PEOPLE if environ.get(name)}
    return {name: environ.get(name) or value for name, value in chosen.items()} | given | settled


def save_environment(state_dir: Path, environment: Mapping[str, str]) -> None:
    """Keep it beside the state, so that commands in another terminal find the running system."""
    path = state_dir / _SAVED
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(json.dumps(environment, indent=1))


def running_environment(state_dir: Path) -> dict[str, str] | None:
    """The environment of the system that runs in this state directory now, or None when none runs."""
    path = state_dir / _SAVED
    if not path.exists() or not is_locked(state_dir):
        return None
    environment: dict[str, str] = json.loads(path.read_text())
    return environment


def _stripe(environ: Mapping[str, str], credentials: Credentials, ports: Mapping[str, int]) -> dict[str, str]:
    if environ.get("STRIPE_API_KEY"):
        # Without a base: Stripe's own address. An inherited one would send a real key to a local port.
        return {"STRIPE_API_KEY": environ["STRIPE_API_KEY"]}
    return {
        "STRIPE_API_KEY": credentials["stripe_api_key"],
        "STRIPE_API_BASE": f"http://{LOOPBACK}:{ports['sandbox']}",
        "STRIPE_CALLS_PER_SECOND": "0",  # The local Stripe has no limit to keep.
    }


def _addresses(ports: Mapping[str, int], state_dir: Path) -> dict[str, str]:
    return {
        "HOST": LOOPBACK,
        "PORT": str(ports["web"]),
        "FLOWER_PORT": str(ports["flower"]),
        "SANDBOX_PORT": str(ports["sandbox"]),
        "STATE_DIR": str(state_dir),
    }


def child_environ(
    inherited: Mapping[str, str],
    environment: Mapping[str, str],
    ports: Mapping[str, int],
    state_dir: Path,
    *,
    name: str,
) -> dict[str, str]:
    """The whole environment of one process."""
    not_inherited = _WITHHELD | {"STRIPE_API_BASE"} | (_PRIVATE if name in _STRANGERS else frozenset())
    base = {key: value for key, value in inherited.items() if key not in not_inherited}
    given = {} if name in _STRANGERS else environment
    ours = {key: value for key, value in given.items() if key not in _WITHHELD}
    programs = str(Path(sys.executable).parent)
    loopback_is_direct = ",".join(filter(None, [inherited.get("NO_PROXY", ""), LOOPBACK, "localhost"]))
    return (
        base
        | _addresses(ports, state_dir)
        | ours
        | {
            "PATH": programs + os.pathsep + inherited.get("PATH", os.defpath),
            "NO_PROXY": loopback_is_direct,
            "no_proxy": loopback_is_direct,
            "PYTHONUNBUFFERED": "1",  # A killed process's last words shall be in its log.
        }
    )
