"""Whatever ends the launcher, nothing that it started stays, and the next start finds its state."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from cli.local.clean import clean
from cli.local.locking import is_locked
from tests.faults.processes import Seen, descendants, eventually, still_alive

PROJECT = Path(__file__).resolve().parents[2]
LAUNCH = PROJECT / "tests" / "faults" / "launcher" / "launch.py"


@pytest.fixture
def state_dir(tmp_path: Path) -> Iterator[Path]:
    """A state directory; what it keeps elsewhere for root's Postgres, a killed launcher cannot remove."""
    yield tmp_path / "state"
    eventually(lambda: not is_locked(tmp_path / "state"), "the warden's end")
    clean(tmp_path)


@dataclass
class Launched:
    """A running launcher, what it said when it was ready, and every process below it then."""

    process: subprocess.Popen[str]
    words: dict[str, Any]
    children: set[Seen]

    @property
    def owner_url(self) -> str:
        return str(self.words["environment"]["DATABASE_OWNER_URL"])


@contextmanager
def launched(state_dir: Path, root: Path = LAUNCH.parent) -> Iterator[Launched]:
    """Start a launcher and wait until its whole process tree stands; killed at the end if it still runs."""
    command = [sys.executable, str(LAUNCH), str(state_dir), str(root)]
    environ = dict(os.environ, PYTHONPATH=str(PROJECT))
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=environ, start_new_session=True
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, "the launcher said nothing"
        if root == LAUNCH.parent:
            eventually(lambda: _tree_stands(descendants(process.pid)), "prefork and granian's workers")
        yield Launched(process, json.loads(line), descendants(process.pid))
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _tree_stands(children: set[Seen]) -> bool:
    workers = [seen for seen in children if "celery" in seen.command and "worker" in seen.command]
    servers = [seen for seen in children if "granian" in seen.command or "spawn_main" in seen.command]
    backends = [seen for seen in children if seen.command.startswith("postgres:")]
    return len(workers) >= 3 and len(servers) >= 3 and len(backends) >= 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_no_process_outlives_the_launcher(state_dir: Path, number: signal.Signals) -> None:
    with launched(state_dir) as launcher:
        launcher.process.send_signal(number)
        eventually(lambda: not still_alive(launcher.children), f"everything gone after {number.name}")
        code = launcher.process.wait(timeout=10)
    expected = {signal.SIGTERM: 143, signal.SIGHUP: 129, signal.SIGKILL: -9, signal.SIGINT: -signal.SIGINT}
    assert code == expected[number]


def test_a_launcher_in_the_background_of_a_script_hears_an_interrupt_too(state_dir: Path) -> None:
    heard = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell leaves it for what it puts behind
    try:
        with launched(state_dir) as launcher:
            launcher.process.send_signal(signal.SIGINT)
            eventually(lambda: not still_alive(launcher.children), "everything gone after an interrupt")
    finally:
        signal.signal(signal.SIGINT, heard)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_not_even_when_the_warden_dies_with_it(state_dir: Path) -> None:
    with launched(state_dir) as launcher:
        os.kill(launcher.words["warden"], signal.SIGSTOP)  # it must not see the pipe close
        launcher.process.kill()
        os.kill(launcher.words["warden"], signal.SIGKILL)
        eventually(lambda: not still_alive(launcher.children), "everything gone after both were killed")


@pytest.mark.slow
def test_who_ignores_every_request_is_killed_with_all_that_it_begot(state_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "stubborn.py").write_text(
        "import os, signal\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "os.fork(), os.fork()\n"
        "open('deaf', 'a').write('x')\n"
        "while True: signal.pause()\n"
    )
    (tmp_path / "Procfile").write_text("stubborn: python stubborn.py\n")
    with launched(state_dir, tmp_path) as launcher:
        deaf = tmp_path / "deaf"
        eventually(lambda: deaf.exists() and len(deaf.read_text()) == 4, "four deaf processes")
        everything = descendants(launcher.process.pid)
        launcher.process.kill()
        eventually(lambda: not still_alive(everything), "everything gone after the grace", within_s=30)


def test_a_terminal_that_closes_ends_it_too(state_dir: Path) -> None:
    with launched(state_dir) as launcher:
        os.killpg(launcher.process.pid, signal.SIGHUP)
        eventually(lambda: not still_alive(launcher.children), "everything gone after the hang-up")


def test_a_start_right_after_a_kill_finds_every_committed_row(state_dir: Path) -> None:
    with launched(state_dir) as first:
        with psycopg.connect(first.owner_url) as connection:
            connection.execute("CREATE TABLE kept (word text)")
            connection.execute("INSERT INTO kept VALUES ('committed')")
        first.process.kill()
        first.process.wait()
        # No pause: the second start must itself wait for the first one's warden.
        with launched(state_dir) as second:
            assert not still_alive(first.children)
            with psycopg.connect(second.owner_url) as connection:
                assert connection.execute("SELECT word FROM kept").fetchall() == [("committed",)]


def test_a_second_launcher_in_the_same_place_is_refused(state_dir: Path) -> None:
    with launched(state_dir) as launcher:
        command = [sys.executable, str(LAUNCH), str(state_dir)]
        environ = dict(os.environ, PYTHONPATH=str(PROJECT))
        second = subprocess.run(command, capture_output=True, text=True, env=environ, check=False, timeout=30)
        assert second.returncode != 0
        assert f"in use by pid {launcher.process.pid}" in second.stderr
        assert still_alive(launcher.children) == launcher.children
