"""Many callers, one write: who comes while a write is under way shares the next one."""

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary, ref

from models.database import Connection, Database

T = TypeVar("T")
R = TypeVar("R")


class _Turn(Generic[T, R]):
    """One caller's item, and what came of it; a caller that waits is woken when served, or to write."""

    __slots__ = ("error", "item", "result", "served", "wake")

    def __init__(self, item: T) -> None:
        self.item = item
        self.result: R | None = None
        self.error: BaseException | None = None
        self.served = False
        self.wake = threading.Lock()
        self.wake.acquire()


class Gathering(Generic[T, R]):
    """Writes the items of all threads that wait, together; each gets its own result.

    `write` takes items and returns as many results, in their sequence. A commit waits for the disk: while
    one thread does, the others only queue up, and one of them writes for all. Nobody waits for company,
    and who is served does not wait for the next write. When a write of several fails each is written
    alone, so that one cannot fail the others.
    """

    def __init__(self, write: Callable[[Sequence[T]], Sequence[R]], most: int = 100) -> None:
        self._write = write
        self._most = most
        self._guard = threading.Lock()  # of the two below
        self._waiting: list[_Turn[T, R]] = []
        self._is_writing = False

    def give(self, item: T) -> R:
        """Have `item` written. Raises what its own write raises."""
        turn: _Turn[T, R] = _Turn(item)
        with self._guard:
            self._waiting.append(turn)
            waits, self._is_writing = self._is_writing, True
        if waits:
            turn.wake.acquire()
        if not turn.served:
            self._serve()
        if turn.error is not None:
            raise turn.error
        return turn.result  # type: ignore[return-value]  # served without an error

    def _serve(self) -> None:
        """Write what waits, the caller's own turn first of all; then let the next one write."""
        with self._guard:
            turns = self._waiting[: self._most]
            del self._waiting[: len(turns)]
        try:
            self._write_all(turns)
        finally:
            for turn in turns:
                turn.served = True
            with self._guard:
                following = self._waiting[:1]
                self._is_writing = bool(following)
            for turn in [*following, *turns]:
                turn.wake.release()

    def _write_all(self, turns: Sequence[_Turn[T, R]]) -> None:
        try:
            results = self._write([turn.item for turn in turns])
        except Exception as error:  # noqa: BLE001 - the caller whose item it was raises it
            if len(turns) == 1:
                turns[0].error = error
                return
            for turn in turns:
                self._write_all([turn])
            return
        for turn, result in zip(turns, results, strict=True):
            turn.result = result


def shared(
    known: WeakKeyDictionary[Database, Gathering[T, R]],
    database: Database,
    store: Callable[[Connection, Sequence[T]], Sequence[R]],
) -> Gathering[T, R]:
    """The gathering of a database, made at its first use; each write of `store` is one commit."""
    found = known.get(database)
    if found is None:
        weak = ref(database)  # the gathering must not keep its own key alive

        def write(items: Sequence[T]) -> Sequence[R]:
            own = weak()
            assert own is not None, "a caller holds it"
            return own.at_once(lambda connection: store(connection, items))

        found = known.setdefault(database, Gathering(write))
    return found
