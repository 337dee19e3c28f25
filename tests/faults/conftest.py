"""One running system for the faults."""

from collections.abc import Iterator

import pytest

from tests.scenarios.system import system
from tests.scenarios.world import World


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    # A short lease: what a killed worker held is free again soon.
    with system(tmp_path_factory.mktemp("faults") / "state", LEASE_SECONDS="4") as made:
        yield made
