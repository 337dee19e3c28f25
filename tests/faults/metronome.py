"""Beat, hurried: what it sends every five seconds and more is rung for twice a second.

What is lost, a webhook or a dead worker's message, waits for a sweep; nothing here does what a sweep would
not, a story only waits less.
"""

import threading
from types import TracebackType

from tests.scenarios.world import World

_TICKS = ("clocks.sweep", "jobs.sweep", "usage.drain", "webhooks.drain")
_EVERY_S = 0.5


class Metronome:
    """Rings the sweeps until it is left."""

    def __init__(self, world: World) -> None:
        self._bell = world.context.bell
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ring, daemon=True)

    def __enter__(self) -> "Metronome":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _ring(self) -> None:
        while not self._over.wait(_EVERY_S):
            for task in _TICKS:
                self._bell.ring(task)
