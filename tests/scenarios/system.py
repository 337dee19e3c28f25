"""The whole system with fresh state, started for stories."""

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cli.context import opened
from cli.local.stack import LocalStack
from cli.preparing import prepare
from models.migrate import upgrade
from tests.faults.misbehaving import PERSON
from tests.scenarios.world import World

PROCESSES = ("web", "worker-ingest", "worker-billing", "beat", "sandbox")
# Several systems may start beside each other on a slow machine.
_PATIENCE_S = 180


@contextmanager
def system(folder: Path, processes: Sequence[str] = PROCESSES, **environ: str) -> Iterator[World]:
    """A running system for the length of the block; `environ` are its settings."""
    environ = {"WEB_WORKERS": "1", **environ}  # a second web process has nothing to do here
    stack = LocalStack(
        folder, profile="test", fresh=True, processes=processes, environ=environ, migrate=upgrade
    )
    with stack:
        stack.wait_ready(_PATIENCE_S)
        with opened({**environ, **stack.environment, **PERSON}) as context:
            prepare(context, stack.environment)
            world = World.of(stack, context)
            yield world
            world.admin.close()
            world.product.close()
        # They would take seconds to end their work well, and nobody will see it; the servers take none.
        for name in set(processes) & set(stack.running()):
            stack.kill(name, signal.SIGKILL)
