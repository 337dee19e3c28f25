"""One running system for the faults."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.context import opened
from cli.local.stack import LocalStack
from cli.preparing import prepare
from models.migrate import upgrade
from tests.faults.misbehaving import PERSON
from tests.scenarios.world import World

PROCESSES = ("web", "worker-ingest", "worker-billing", "beat", "sandbox")


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder: Path = tmp_path_factory.mktemp("faults") / "state"
    # A short lease: what a killed worker held is free again soon.
    short = {"LEASE_SECONDS": "4"}
    stack = LocalStack(
        folder, profile="test", fresh=True, processes=PROCESSES, environ=short, migrate=upgrade
    )
    with stack:
        stack.wait_ready(90)
        with opened({**short, **stack.environment, **PERSON}) as context:
            prepare(context, stack.environment)
            made = World.of(stack, context)
            yield made
            made.admin.close()
            made.product.close()
