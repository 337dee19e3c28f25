"""One child process: how it is described, started, watched and ended."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cli.local.errors import StackError

_GUARD = Path(__file__).with_name("guard.py")
_LOG_LIMIT_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True)
class Identity:
    """The user and group a process runs as."""

    uid: int
    gid: int


@dataclass(frozen=True, kw_only=True)
class Service:
    """A process that shall run.

    `stop_rank` says when it is asked to stop (lower ranks first, equal ranks together); `grace_s` how
    long it may take before it is killed; `death_signal` is what the kernel sends it when we die;
    `identity` is for root only. `environ` is the whole environment: nothing is inherited.
    """

    name: str
    argv: Sequence[str]
    environ: Mapping[str, str]
    cwd: Path
    log: Path
    stop_signal: signal.Signals = signal.SIGTERM
    death_signal: signal.Signals = signal.SIGTERM
    stop_rank: int = 0
    grace_s: float = 10.0
    identity: Identity | None = None


@dataclass
class Child:
    """A started service: the process leads a session of its own, so its group is all it begot."""

    service: Service
    process: subprocess.Popen[bytes]
    started_s: float
    stopping: bool = field(default=False)

    @property
    def pid(self) -> int:
        return self.process.pid

    def signal(self, number: int) -> None:
        """Send a signal to the process itself; one that has ended is left alone."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    def kill_group(self) -> None:
        """Kill the process and everything it started; also when the process itself is gone."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def has_ended(self) -> bool:
        return self.process.poll() is not None


def guarded(argv: Sequence[str], *, death_signal: signal.Signals, identity: Identity | None) -> list[str]:
    """The command line that runs `argv` tied to this process's life, as `identity`."""
    who = "-" if identity is None else f"{identity.uid}:{identity.gid}"
    guard = [sys.executable, "-I", "-S", str(_GUARD), str(os.getpid()), str(int(death_signal)), who]
    return [*guard, *argv]


def spawn(service: Service) -> Child:
    """Start a service, its output appended to its log.

    Linux sends the death signal when the *thread* that called this ends: call it from one that lasts.
    Raises StackError when the program does not exist.
    """
    program = find_program(service.argv[0], service.environ)
    descriptor = os.open(service.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        process = subprocess.Popen(
            guarded(
                [program, *service.argv[1:]], death_signal=service.death_signal, identity=service.identity
            ),
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=subprocess.STDOUT,
            cwd=service.cwd,
            env=dict(service.environ),
            start_new_session=True,
            # Root's state directory may be passed through, for Postgres's user: so no file may be read.
            umask=0o077,
        )
    finally:
        os.close(descriptor)
    return Child(service, process, time.monotonic())


def find_program(name: str, environ: Mapping[str, str]) -> str:
    """The absolute path of a program on the environment's PATH. Raises StackError when there is none."""
    for folder in [""] if "/" in name else environ.get("PATH", os.defpath).split(os.pathsep):
        candidate = Path(folder or ".", name).absolute()
        if candidate.is_file() and os.access(candidate, os.X_OK):
            return str(candidate)
    raise StackError(f"cannot start `{name}`: no such program on PATH")


def last_lines(log: Path, count: int = 15) -> str:
    """The end of a log, for a person; empty when there is none."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 16_384))
        lines = file.read().decode(errors="replace").splitlines()
    return "\n".join(lines[-count:])


def bound_log(log: Path) -> None:
    """Move an overgrown log aside, keeping one predecessor.

    Copy and truncate, since the process keeps its descriptor (opened for appending, so it goes on at
    the new end); what is written between the two steps is lost, which a log can bear.
    """
    if log.exists() and log.stat().st_size > _LOG_LIMIT_BYTES:
        log.with_suffix(".log.1").write_bytes(log.read_bytes())
        os.truncate(log, 0)
