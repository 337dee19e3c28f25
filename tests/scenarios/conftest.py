"""One running system for all stories."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from cli.context import opened
from cli.local.stack import LocalStack
from cli.preparing import prepare
from models.migrate import upgrade
from tests.faults.misbehaving import PERSON, misbehaving
from tests.scenarios.golden import expect
from tests.scenarios.world import World

PROCESSES = ("web", "worker-ingest", "worker-billing", "beat", "sandbox")
# Yen have no decimals, dinars three.
_SETTINGS = {"SUPPORTED_CURRENCIES": "USD,ZAR,JPY,KWD"}


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder: Path = tmp_path_factory.mktemp("stories") / "state"
    stack = LocalStack(
        folder, profile="test", fresh=True, processes=PROCESSES, environ=_SETTINGS, migrate=upgrade
    )
    with stack:
        stack.wait_ready(90)
        with opened({**stack.environment, **PERSON}) as context:
            prepare(context, stack.environment)
            world = World.of(stack, context)
            yield world
            world.admin.close()
            world.product.close()


@pytest.fixture
def world(running: World, request: pytest.FixtureRequest) -> Iterator[World]:
    if not request.config.getoption("--misbehaving"):
        yield running
        return
    with misbehaving(running):
        yield running


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Hold an invoice's text against a golden file; --update-golden writes the file."""
    return partial(expect, update=request.config.getoption("--update-golden"))
