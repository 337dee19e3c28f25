"""One running system for all stories."""

from collections.abc import Callable, Iterator
from functools import partial

import pytest

from tests.faults.misbehaving import misbehaving
from tests.scenarios.golden import expect
from tests.scenarios.system import system
from tests.scenarios.world import World


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("stories") / "state"
    # Yen have no decimals, dinars three.
    with system(folder, SUPPORTED_CURRENCIES="USD,ZAR,JPY,KWD") as world:
        yield world


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
