"""What a person sees while the quarter runs: bars on a terminal, plain lines elsewhere."""

import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from cli.demo.cast import Member

_PLAIN_STEP = 0.25


class Board:
    """Shows how far each organization's clock is, and how much usage was posted. Thread-safe."""

    def __init__(self, console: Console, members: Sequence[Member], events: int) -> None:
        self._console = console
        self._lock = threading.Lock()
        self._events = events
        self._posted = 0
        self._shown = 0.0
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        if console.is_terminal:
            self._bars = _bars(console)
            for member in members:
                self._tasks[member.slug] = self._bars.add_task(member.slug, total=len(member.stops()), at="")
            self._tasks[""] = self._bars.add_task("usage events", total=events, at="")

    def __enter__(self) -> Self:
        self._showing.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._showing.__exit__(kind, problem, trace)

    @property
    def _showing(self) -> AbstractContextManager[object]:
        return self._bars or nullcontext()

    def reached(self, slug: str, at: datetime) -> None:
        """The clock of `slug` has arrived at a stop, and everything due by then is done."""
        if self._bars is not None:
            self._bars.update(self._tasks[slug], advance=1, at=f"{at:%d %b %H:%M}")

    def posted(self, events: int) -> None:
        """So many more events were answered with a 202."""
        with self._lock:
            self._posted += events
            share = self._posted / self._events
            due = share >= self._shown + _PLAIN_STEP
            if due:
                self._shown += _PLAIN_STEP
        if self._bars is not None:
            self._bars.advance(self._tasks[""], events)
        elif due:
            self.say(f"{self._posted:,} usage events posted")

    def told(self, slug: str, at: datetime, sentence: str) -> None:
        """Something that a person should see happened."""
        self.say(f"{at:%d %b %H:%M}  {slug:<14} {sentence}")

    def say(self, sentence: str) -> None:
        self._console.print(f"  {sentence}", style="dim", markup=False, highlight=False)


def _bars(console: Console) -> Progress:
    return Progress(
        TextColumn("  {task.description:<14}"),
        BarColumn(bar_width=40),
        MofNCompleteColumn(),
        TextColumn("{task.fields[at]}", style="cyan"),
        TimeElapsedColumn(),
        console=console,
    )
