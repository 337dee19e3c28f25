"""What crashes while the stack runs comes back by itself, with its state and without its orphans."""

import os
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from cli.local.stack import LocalStack
from tests.faults.processes import descendants, eventually, still_alive

TINY = Path(__file__).with_name("launcher")


@pytest.fixture(scope="module")
def notices() -> list[str]:
    return []


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, notices: list[str]) -> Iterator[LocalStack]:
    with LocalStack(
        tmp_path_factory.mktemp("heals") / "state",
        profile="test",
        fresh=True,
        processes=None,
        environ=os.environ,
        root=TINY,
        on_notice=notices.append,
    ) as started:
        started.wait_ready(60)
        yield started


def test_a_killed_worker_comes_back_and_its_children_do_not_stay(stack: LocalStack) -> None:
    worker = stack.pid("worker-tiny")
    eventually(lambda: len(descendants(worker)) >= 2, "two prefork children")
    orphans = descendants(worker)
    stack.kill("worker-tiny", signal.SIGKILL)
    eventually(lambda: stack.running().get("worker-tiny", worker) != worker, "another worker")
    eventually(lambda: not still_alive(orphans), "the old worker's children gone")


def test_a_killed_web_server_listens_on_the_same_port_again(stack: LocalStack) -> None:
    before = stack.pid("web")
    stack.kill("web", signal.SIGKILL)
    eventually(lambda: stack.running().get("web", before) != before, "another web process")
    eventually(lambda: _answers(stack.urls["web"]), "an answer on the same address")


def test_the_broker_comes_back_with_what_was_queued(stack: LocalStack) -> None:
    client = redis.Redis.from_url(stack.environment["REDIS_URL"])
    client.rpush("a-queue", "nudge")
    admin = redis.Redis.from_url(str(stack.redis_admin_url))
    # Everysec: what is to survive must be a second old, or be told so.
    eventually(lambda: admin.info("persistence")["aof_pending_bio_fsync"] == 0, "the append-only file synced")
    before = stack.kill("valkey", signal.SIGKILL)
    eventually(lambda: stack.running().get("valkey", before) != before, "another broker")
    eventually(lambda: _length(stack, "a-queue") == 1, "the queue as it was")
    client.close()
    admin.close()


def test_postgres_comes_back_with_every_committed_row(stack: LocalStack) -> None:
    url = stack.environment["DATABASE_OWNER_URL"]
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE kept (word text)")
        connection.execute("INSERT INTO kept VALUES ('committed')")
    before = stack.kill("postgres", signal.SIGKILL)
    eventually(lambda: stack.running().get("postgres", before) != before, "another postmaster")
    eventually(lambda: _rows(url) == [("committed",)], "the row")


def test_a_killed_warden_is_replaced(stack: LocalStack, notices: list[str]) -> None:
    before = stack.warden_pid
    os.kill(before, signal.SIGKILL)
    eventually(lambda: stack.warden_pid != before, "another warden")
    assert "the warden was killed; started another" in notices


def test_each_crash_is_told_with_its_cause_and_its_log(stack: LocalStack, notices: list[str]) -> None:
    before = stack.kill("beat", signal.SIGKILL)
    eventually(lambda: stack.running().get("beat", before) != before, "another beat")
    told = [notice for notice in notices if notice.startswith("beat was killed by SIGKILL")]
    assert len(told) == 1
    assert str(stack.log("beat")) in told[0]


def test_a_restart_asked_for_is_no_crash(stack: LocalStack, notices: list[str]) -> None:
    told_before = list(notices)
    before = stack.pid("worker-tiny")
    assert stack.restart("worker-tiny") != before
    assert notices == told_before


def test_what_is_stopped_stays_down_until_it_is_started(stack: LocalStack, notices: list[str]) -> None:
    told_before = list(notices)
    before = stack.pid("valkey")
    stack.stop("valkey")
    assert "valkey" not in stack.running()
    assert stack.start("valkey") != before
    eventually(lambda: _length(stack, "no-such-queue") == 0, "the broker's answer")
    assert notices == told_before


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _length(stack: LocalStack, key: str) -> int | None:
    with redis.Redis.from_url(stack.environment["REDIS_URL"]) as client:
        try:
            return int(client.llen(key))
        except redis.RedisError:
            return None


def _rows(url: str) -> list[tuple[str]] | None:
    try:
        with psycopg.connect(url) as connection:
            return connection.execute("SELECT word FROM kept").fetchall()
    except psycopg.Error:
        return None
