"""The whole system on this machine, as one context manager."""

import compileall
import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from cli.local import http, locking, ports, webhook_endpoint
from cli.local import identity as identities
from cli.local.credentials import Credentials
from cli.local.database import DatabaseUrls, derived_urls, external_urls
from cli.local.environment import build_environment, check_given, child_environ, save_environment
from cli.local.errors import StackError
from cli.local.interruption import stop_signals_raise
from cli.local.postgres import EmbeddedPostgres, find_binaries
from cli.local.process import Service, last_lines
from cli.local.procfile import expand, read_procfile
from cli.local.supervisor import Supervisor
from cli.local.valkey import EmbeddedValkey, check_external, find_server

Profile = Literal["demo", "test"]
Migrate = Callable[[str, str | None, str | None], None]

PROJECT = Path(__file__).resolve().parents[2]
_PREFERRED_PORTS = {"web": 8000, "flower": 5555, "sandbox": 12111, "postgres": 5433, "valkey": 6380}
# Who stops when: first what makes and does the work (beat needs a second, warm workers three: together),
# then what is asked, then whom we ask, then the stores.
_STOP_RANKS = {"beat": 0, "worker": 0, "web": 1, "flower": 1, "sandbox": 2, "valkey": 3, "postgres": 4}
# A Celery worker whose broker dies with the launcher may wait for it for ever instead of ending; its pool
# processes end with it. Killing it loses nothing: what it had claimed is claimed again.
_DEATH_SIGNALS = {"worker": signal.SIGKILL}
_READY_PATHS = {"web": "/health/ready", "flower": "/healthcheck", "sandbox": "/_sandbox/ready"}
_LOCK_PATIENCE_S = 25.0
_POLL_S = 0.02


def _to_stderr(notice: str) -> None:
    print(notice, file=sys.stderr, flush=True)


@dataclass
class LocalStack:
    """Servers and processes of one state directory: started on entry, all gone after exit.

    `profile`: "demo" asks for the well-known ports and keeps the disk honest; "test" takes free ports
    and lets the disk be lazy. `fresh` begins with empty state (a database given by DATABASE_URL is
    never emptied). `processes` names the Procfile's processes to start (None: all). `environ` is what
    the person set: DATABASE_URL, REDIS_URL and STRIPE_API_KEY there replace the embedded parts.
    `migrate(owner_url, app_password, auditor_password)` makes the schema. Raises StackError from
    entry when something cannot start; everything that did start is stopped then.
    """

    state_dir: Path
    _: KW_ONLY
    profile: Profile
    fresh: bool
    processes: Sequence[str] | None
    environ: Mapping[str, str]
    migrate: Migrate | None = None
    root: Path = PROJECT
    on_notice: Callable[[str], None] = _to_stderr
    environment: dict[str, str] = field(init=False, default_factory=dict, repr=False)
    urls: dict[str, str] = field(init=False, default_factory=dict)
    redis_admin_url: str | None = field(init=False, default=None, repr=False)
    postgres_admin_url: str | None = field(init=False, default=None, repr=False)

    def __post_init__(self) -> None:
        self.state_dir = self.state_dir.absolute()
        self._ports: dict[str, int] = {}
        self._closing = contextlib.ExitStack()

    # Life.

    def __enter__(self) -> Self:
        check_given(self.environ)
        try:
            self._start()
        except BaseException:
            self._closing.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()

    def _start(self) -> None:
        self._closing.enter_context(stop_signals_raise())
        self._claim_state_dir()
        self._commands = self._read_commands()
        self._credentials = Credentials(self.state_dir / "secrets.json")
        self._choose_ports()
        self._compile_packages()
        # The local Stripe needs nobody and Valkey only a moment: they start while Postgres does.
        self._start_process("sandbox")
        redis_url = self._start_valkey()
        database = self._start_postgres()
        if self.migrate is not None:
            self.migrate(database.owner, database.app_password, database.auditor_password)
        self.environment = build_environment(
            self.environ, database, redis_url, self._credentials, ports=self._ports, state_dir=self.state_dir
        )
        if "sandbox" in self._commands:
            self._connect_sandbox()
        save_environment(self.state_dir, self.environment)
        for name in self._commands:
            if name != "sandbox":
                self._start_process(name)

    def _claim_state_dir(self) -> None:
        try:
            self.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as problem:
            raise StackError(f"cannot use {self.state_dir} for the state: {problem.strerror}") from problem
        descriptor = locking.acquire(
            self.state_dir,
            patience_s=_LOCK_PATIENCE_S,
            on_wait=lambda: self.on_notice("waiting for the previous run's processes to end"),
        )
        self._closing.callback(os.close, descriptor)
        if self.fresh:
            self._wipe()
        (self.state_dir / "logs").mkdir(mode=0o700, exist_ok=True)
        if self.profile == "test":
            # Whoever deletes a test's folder does not know of this one.
            self._closing.callback(shutil.rmtree, self._postgres_stand_in, ignore_errors=True)
        self._supervisor = Supervisor(lock_descriptor=descriptor, on_problem=self.on_notice)
        self._closing.callback(self._supervisor.close)

    def _wipe(self) -> None:
        for entry in self.state_dir.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif entry.name != "lock":
                entry.unlink()
        shutil.rmtree(self._postgres_stand_in, ignore_errors=True)

    @property
    def _postgres_stand_in(self) -> Path:
        return identities.stand_in(self.state_dir / "postgres")

    def _read_commands(self) -> dict[str, str]:
        commands = read_procfile(self.root / "Procfile")
        development = self.root / "Procfile.dev"
        if development.exists():
            commands = read_procfile(development) | commands
        if self.processes is not None:
            unknown = set(self.processes) - set(commands)
            if unknown:
                raise StackError(f"the Procfile has no {', '.join(sorted(unknown))}")
            commands = {name: command for name, command in commands.items() if name in self.processes}
        if self.environ.get("STRIPE_API_KEY"):
            commands.pop("sandbox", None)
        return commands

    def _choose_ports(self) -> None:
        for name, wanted in _PREFERRED_PORTS.items():
            preferred = wanted if self.profile == "demo" else None
            port = ports.choose(preferred, taken=self._ports.values())
            self._ports[name] = port
            in_use = name in ("postgres", "valkey") or name in self._commands
            if name == "web" and in_use:
                self._closing.callback(ports.held(port).close)
            if in_use and preferred not in (None, port):
                self.on_notice(f"port {preferred} is taken: {name} is on {port}")
        for name in _READY_PATHS:
            if name in self._commands:
                self.urls[name] = f"http://{ports.LOOPBACK}:{self._ports[name]}"

    def _compile_packages(self) -> None:
        """Compile our packages once, or each of seven processes would at every start.

        Python does it by itself, but not where PYTHONDONTWRITEBYTECODE is set (it does read what is
        there then), and not before all seven have begun. Unchanged files cost a look at their dates.
        """
        packages = [initial.parent for initial in self.root.glob("*/__init__.py")]
        for package in packages:
            compileall.compile_dir(package, quiet=2)

    # The servers.

    def _start_valkey(self) -> str:
        if self.environ.get("REDIS_URL"):
            check_external(self.environ["REDIS_URL"])
            return self.environ["REDIS_URL"]
        valkey = EmbeddedValkey(
            home=self.state_dir / "valkey",
            server=find_server(self.environ),
            port=self._ports["valkey"],
            admin_password=self._credentials["valkey_admin"],
            app_password=self._credentials["valkey_app"],
        )
        valkey.prepare()
        self._supervisor.start(valkey.service(self.log("valkey"), _STOP_RANKS["valkey"]))
        self._await("valkey", valkey.is_ready, timeout_s=20)
        self.redis_admin_url = valkey.admin_url
        return valkey.url

    def _start_postgres(self) -> DatabaseUrls:
        if self.environ.get("DATABASE_URL"):
            return external_urls(self.environ, self._credentials)
        identity = identities.unprivileged()
        wanted = self.state_dir / "postgres"
        home = identities.reachable_home(wanted, identity, self._credentials["state_id"])
        postgres = EmbeddedPostgres(
            home=home,
            binaries=find_binaries(self.environ, identity),
            port=self._ports["postgres"],
            superuser_password=self._credentials["postgres_superuser"],
            durable=self.profile != "test",
            identity=identity,
        )
        postgres.prepare()
        pid = self._supervisor.start(postgres.service(self.log("postgres"), _STOP_RANKS["postgres"]))
        self._await("postgres", lambda: postgres.is_ready(pid), timeout_s=60)
        self.postgres_admin_url = postgres.admin_url
        return derived_urls(postgres.ensure_database(self._credentials["postgres_owner"]), self._credentials)

    def _connect_sandbox(self) -> None:
        base = self.urls["sandbox"]
        self._await("sandbox", lambda: http.probe(base + _READY_PATHS["sandbox"]) is None, timeout_s=30)
        web_base = f"http://{ports.LOOPBACK}:{self._ports['web']}"
        secret = webhook_endpoint.register(base, web_base, self._credentials)
        self.environment["STRIPE_WEBHOOK_SECRET"] = secret

    def _start_process(self, name: str) -> None:
        if name not in self._commands:
            return
        kind = name.partition("-")[0]
        environ = child_environ(self.environ, self.environment, self._ports, self.state_dir, name=name)
        self._supervisor.start(
            Service(
                name=name,
                argv=expand(self._commands[name], environ),
                environ=environ,
                cwd=self.root,
                log=self.log(name),
                stop_rank=_STOP_RANKS.get(kind, 1),
                death_signal=_DEATH_SIGNALS.get(kind, signal.SIGTERM),
            )
        )

    # What the owner asks for.

    def wait_ready(self, timeout_s: float) -> None:
        """Wait until everything that can say so says that it is ready; from then on crashes are healed.

        Raises StackError with the reason and the last log lines when one dies or the time is over.
        """
        give_up_s = time.monotonic() + timeout_s
        for name, path in _READY_PATHS.items():
            if name in self.urls:
                probe = _Probe(self.urls[name] + path)
                self._await(name, probe, timeout_s=max(0.1, give_up_s - time.monotonic()), why=probe)
        self._supervisor.raise_failure()
        self._supervisor.settle()

    def log(self, name: str) -> Path:
        """The file with everything that a process printed."""
        return self.state_dir / "logs" / f"{name}.log"

    @property
    def warden_pid(self) -> int:
        """The pid of the process that cleans up after a killed launcher."""
        return self._supervisor.warden_pid

    def pid(self, name: str) -> int:
        """The pid of a running process. Raises KeyError while it is down."""
        return self._supervisor.pid(name)

    def running(self) -> dict[str, int]:
        """Name -> pid of every process that runs now, servers included."""
        return self._supervisor.running()

    def kill(self, name: str, number: int) -> int:
        """Send a signal to a process (not to its children); a death is healed. Returns the pid hit."""
        return self._supervisor.kill(name, number)

    def restart(self, name: str) -> int:
        """Stop a process as at the end of the stack, start it again, return its new pid."""
        return self._supervisor.restart(name)

    def stop(self, name: str) -> None:
        """Stop a process as at the end of the stack; it stays down until `start`."""
        self._supervisor.stop(name)

    def start(self, name: str) -> int:
        """Start a process that was stopped and return its pid."""
        return self._supervisor.resume(name)

    def _await(
        self, name: str, is_ready: Callable[[], bool], *, timeout_s: float, why: "_Probe | None" = None
    ) -> None:
        give_up_s = time.monotonic() + timeout_s
        while not is_ready():
            self._supervisor.raise_failure()
            if time.monotonic() > give_up_s:
                reason = f" ({why.answer})" if why is not None else ""
                raise StackError(
                    f"{name} was not ready after {timeout_s:.0f} s{reason}; the end of {self.log(name)}:\n"
                    f"{last_lines(self.log(name))}"
                )
            time.sleep(_POLL_S)


class _Probe:
    """Asks an address whether it is ready and remembers the last answer, for the person who waits."""

    def __init__(self, url: str) -> None:
        self.answer: str | None = None
        self._url = url

    def __call__(self) -> bool:
        self.answer = http.probe(self._url)
        return self.answer is None
