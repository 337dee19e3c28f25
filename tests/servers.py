"""Real Postgres and Valkey for the tests that need them: started at the first need, gone at the end."""

import atexit
import tempfile
from functools import cache
from pathlib import Path

from cli.local.stack import LocalStack


@cache
def _servers() -> LocalStack:
    """One pair of servers for the whole run; each test module makes databases of its own."""
    folder = tempfile.TemporaryDirectory(prefix="dunlin-tests-")
    stack = LocalStack(Path(folder.name) / "state", profile="test", fresh=True, processes=(), environ={})
    stack.__enter__()
    # The last registered runs first: the servers stop before their folder goes.
    atexit.register(folder.cleanup)
    atexit.register(stack.__exit__, None, None, None)
    return stack


def postgres_url() -> str:
    """The superuser's URL of the test server."""
    url = _servers().postgres_admin_url
    assert url is not None
    return url


def redis_url() -> str:
    """The URL of the test broker."""
    return _servers().environment["REDIS_URL"]
