"""One sandbox for each file of stories; in the end all it said is held against Stripe's types."""

from collections.abc import Iterator

import pytest

from tests.integration.sandbox.local import Local, sandbox
from tests.integration.sandbox.people import Town


@pytest.fixture(scope="module")
def local() -> Iterator[Local]:
    with sandbox() as running:
        yield running
        assert running.problems() == []


@pytest.fixture
def town(local: Local) -> Town:
    """A fresh test clock at 2026-01-31 10:00 with a catalog beside it."""
    return Town(local)
