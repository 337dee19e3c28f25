"""How a start goes wrong, and what a good one shows to whom."""

import os
import socket
import stat
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import psycopg
import pytest
import redis

from cli.local.clean import clean
from cli.local.environment import running_environment
from cli.local.errors import ServiceDied, StackError
from cli.local.stack import LocalStack, Profile
from tests.faults.processes import Seen, descendants, eventually

_WEB = """
import http.server, os, pathlib

pathlib.Path(os.environ["STATE_DIR"], "written-by-web").touch()

class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

class Shared(http.server.HTTPServer):
    allow_reuse_port = True  # as granian: the launcher keeps the port with a socket of its own

Shared(("127.0.0.1", int(os.environ["PORT"])), Ready).serve_forever()
"""


@pytest.fixture
def already() -> set[Seen]:
    """What runs below us before the test: the servers of other tests, say."""
    return descendants(os.getpid())


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project folder whose Procfile a test may rewrite."""
    return make_project(tmp_path / "project with spaces")


def make_project(root: Path) -> Path:
    root.mkdir()
    (root / "web.py").write_text(_WEB)
    (root / "Procfile").write_text("web: python web.py\n")
    return root


def stack_of(
    project: Path,
    *,
    profile: Profile = "test",
    environ: Mapping[str, str] | None = None,
    notices: list[str] | None = None,
    name: str = "state",
) -> LocalStack:
    return LocalStack(
        project / "var" / name,
        profile=profile,
        fresh=False,
        processes=None,
        environ=dict(os.environ) | dict(environ or {}),
        root=project,
        on_notice=(notices if notices is not None else []).append,
    )


def start_and_wait(stack: LocalStack, timeout_s: float) -> None:
    with stack:
        # A stack of servers only has nothing to ask: let a child's death be noticed before.
        eventually(lambda: set(stack.running()) == {"postgres", "valkey", *stack.urls}, "its processes")
        stack.wait_ready(timeout_s)


def test_a_process_that_dies_at_the_start_fails_it_with_its_last_words(
    project: Path, already: set[Seen]
) -> None:
    (project / "Procfile").write_text("beat: python -c \"import sys; sys.exit('no schedule here')\"\n")
    with pytest.raises(ServiceDied, match="beat ended with exit code 1") as failure:
        start_and_wait(stack_of(project), 20)
    assert str(failure.value).endswith("no schedule here")
    assert descendants(os.getpid(), but=already) == set()


def test_a_process_that_is_never_ready_fails_it_with_its_last_answer(
    project: Path, already: set[Seen]
) -> None:
    (project / "web.py").write_text(_WEB.replace("send_response(200)", "send_response(503)"))
    with pytest.raises(StackError, match=r"web was not ready after .*HTTP 503"):
        start_and_wait(stack_of(project), 1.5)
    assert descendants(os.getpid(), but=already) == set()


def test_a_failed_migration_stops_what_had_started(project: Path, already: set[Seen]) -> None:
    def refuse(owner_url: str, app_password: str | None, auditor_password: str | None) -> None:
        with psycopg.connect(owner_url) as connection:
            connection.execute("SELECT 1 / 0")

    stack = stack_of(project)
    stack.migrate = refuse
    with pytest.raises(psycopg.errors.DivisionByZero), stack:
        pass
    assert descendants(os.getpid(), but=already) == set()


def test_a_program_that_does_not_exist_is_named(project: Path, already: set[Seen]) -> None:
    (project / "Procfile").write_text("web: no-such-program\n")
    with pytest.raises(StackError, match="`no-such-program`"), stack_of(project):
        pass
    assert descendants(os.getpid(), but=already) == set()


def test_taken_ports_are_replaced_and_told(project: Path) -> None:
    notices: list[str] = []
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            stranger.bind(("127.0.0.1", 8000))
            stranger.listen()
        except OSError:
            pass  # somebody has it already: just as good
        with stack_of(project, profile="demo", notices=notices) as stack:
            stack.wait_ready(20)
            port = stack.environment["PORT"]
    assert port != "8000"
    assert f"port 8000 is taken: web is on {port}" in notices


@pytest.mark.parametrize("key", ["sk_live_" + "a" * 24, "rk_live_" + "a" * 24])
def test_a_live_key_is_refused_before_anything_starts(project: Path, key: str) -> None:
    with (
        pytest.raises(StackError, match="live-mode") as refusal,
        stack_of(project, environ={"STRIPE_API_KEY": key}),
    ):
        pass
    assert key not in str(refusal.value)
    assert not (project / "var").exists()


def test_given_servers_are_used_and_none_of_our_own_is_started(project: Path) -> None:
    with stack_of(project, name="theirs") as theirs:
        given = {
            "DATABASE_URL": theirs.environment["DATABASE_OWNER_URL"],
            "REDIS_URL": theirs.environment["REDIS_URL"],
        }
        asked: list[str] = []
        with stack_of(project, name="ours", environ=given) as ours:
            ours.wait_ready(20)
            asked.extend(ours.running())
            assert ours.environment["DATABASE_OWNER_URL"] == given["DATABASE_URL"]
            assert ours.environment["DATABASE_URL"].startswith("postgresql://dunlin_app:")
            assert ours.environment["REDIS_URL"] == given["REDIS_URL"]
    assert asked == ["web"]


def test_a_given_role_that_cannot_create_roles_needs_the_other_urls_beside_it(project: Path) -> None:
    with stack_of(project, name="theirs") as theirs:
        with psycopg.connect(str(theirs.postgres_admin_url), autocommit=True) as connection:
            connection.execute("CREATE ROLE plain LOGIN PASSWORD 'plain'")
        host = theirs.environment["DATABASE_URL"].rpartition("@")[2]
        given = {"DATABASE_URL": f"postgresql+psycopg://plain:plain@{host.replace('/dunlin', '/postgres')}"}
        with (
            pytest.raises(StackError, match="DATABASE_OWNER_URL"),
            stack_of(project, name="ours", environ=given),
        ):
            pass


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """One stack for the tests that only look at it."""
    with stack_of(make_project(tmp_path_factory.mktemp("running") / "project with spaces")) as stack:
        stack.wait_ready(20)
        yield stack


def test_secrets_stand_on_no_command_line_and_in_no_log(running: LocalStack) -> None:
    shown = "\n".join(seen.command for seen in descendants(os.getpid()))
    logged = "\n".join(log.read_text() for log in (running.state_dir / "logs").iterdir())
    secrets = (running.state_dir / "secrets.json").read_text().split('"')[3::4]
    assert len(secrets) >= 10
    for secret in secrets:
        assert secret not in shown
        assert secret not in logged


def test_only_their_owner_may_look_into_state_and_logs(running: LocalStack) -> None:
    state = running.state_dir
    files = [path for path in state.rglob("*") if path.is_file()]
    names = {path.name for path in files}
    assert {"secrets.json", "environment.json", "web.log", "written-by-web"} <= names
    assert [path for path in files if path.stat().st_mode & 0o077] == []
    assert stat.S_IMODE((state / "logs").stat().st_mode) == 0o700
    # As root the folder may be passed through, for Postgres's user; nobody may list it.
    assert stat.S_IMODE(state.stat().st_mode) in (0o700, 0o711)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become somebody else")
def test_postgres_never_runs_as_root(running: LocalStack) -> None:
    postmaster = running.pid("postgres")
    users = {seen.user for seen in descendants(os.getpid()) if postmaster in (seen.pid, seen.parent)}
    assert users
    assert "root" not in users


def test_the_owner_is_no_superuser_and_its_url_reaches_no_process(running: LocalStack) -> None:
    with psycopg.connect(running.environment["DATABASE_OWNER_URL"]) as connection:
        row = connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone()
    assert row == (False,)
    environ = _environ_of(running.pid("web"))
    assert "DATABASE_URL=" in environ
    assert "DATABASE_OWNER_URL=" not in environ


def test_the_application_may_not_administer_the_broker(running: LocalStack) -> None:
    with redis.Redis.from_url(running.environment["REDIS_URL"]) as client:
        assert client.ping()
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.flushall()
        assert client.info("memory")["maxmemory_policy"] == "noeviction"


def test_another_terminal_finds_the_running_system_and_only_a_running_one(project: Path) -> None:
    with stack_of(project) as stack:
        assert running_environment(stack.state_dir) == stack.environment
    assert running_environment(stack.state_dir) is None


def test_fresh_forgets_everything(project: Path) -> None:
    with stack_of(project) as stack, psycopg.connect(stack.environment["DATABASE_OWNER_URL"]) as connection:
        connection.execute("CREATE TABLE forgotten ()")
    again = stack_of(project)
    again.fresh = True
    with again, psycopg.connect(again.environment["DATABASE_OWNER_URL"]) as connection:
        assert connection.execute("SELECT to_regclass('forgotten')").fetchone() == (None,)
    assert again.environment["SECRET_KEY"] != stack.environment["SECRET_KEY"]


def test_a_start_repairs_what_a_crash_of_the_machine_left(project: Path) -> None:
    with stack_of(project, profile="demo") as stack:
        data_dir = Path(_data_directory(stack))
    # The lock file of a server that is gone, its pid given to a stranger since: to us.
    (data_dir / "postmaster.pid").write_text(f"{os.getpid()}\n{data_dir}\n0\n5432\n\n127.0.0.1\n0 0\nready\n")
    with stack_of(project, profile="demo") as again:
        again.wait_ready(20)
        assert again.pid("postgres") != os.getpid()
    clean(project / "var")


def _data_directory(stack: LocalStack) -> str:
    with psycopg.connect(str(stack.postgres_admin_url)) as connection:
        row = connection.execute("SHOW data_directory").fetchone()
    assert row is not None
    return str(row[0])


def _environ_of(pid: int) -> str:
    if sys.platform != "linux":
        pytest.skip("only Linux shows a process's environment to its owner")
    return Path("/proc", str(pid), "environ").read_bytes().decode().replace("\0", "\n")
