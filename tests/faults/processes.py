"""Look at the machine's processes from outside, as `ps` does, and wait with a deadline."""

import os
import subprocess
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass


@dataclass(frozen=True)
class Seen:
    """A process as `ps` showed it; `started` tells it from a later one with the same pid."""

    pid: int
    parent: int
    started: str
    user: str
    command: str


def all_processes() -> dict[int, Seen]:
    """Every process of the machine that is not a zombie."""
    columns = ["-o", "pid=,ppid=,stat=,lstart=,user=,args=", "-ww"]
    # lstart is five words long, in the C locale.
    environ = dict(os.environ, LC_ALL="C")
    with subprocess.Popen(["ps", "-e", *columns], stdout=subprocess.PIPE, text=True, env=environ) as ps:
        assert ps.stdout is not None
        lines = ps.stdout.readlines()
    seen = {}
    for line in lines:
        words = line.split(maxsplit=9)
        pid = int(words[0])
        if pid != ps.pid and not words[2].startswith("Z"):
            seen[pid] = Seen(
                pid, int(words[1]), " ".join(words[3:8]), words[8], words[9] if words[9:] else ""
            )
    return seen


def descendants(root: int, but: Collection[Seen] = ()) -> set[Seen]:
    """Every process below `root`, however deep; `but` some, with whatever they begin."""
    processes = all_processes()
    found: set[Seen] = set()
    parents = {root}
    while parents:
        children = {seen for seen in processes.values() if seen.parent in parents}.difference(found, but)
        found |= children
        parents = {seen.pid for seen in children}
    return found


def still_alive(once: set[Seen]) -> set[Seen]:
    """Which of these run still; one that was handed to another parent counts, a new one does not."""
    now = all_processes()
    return {seen for seen in once if seen.pid in now and now[seen.pid].started == seen.started}


def eventually(condition: Callable[[], bool], what: str, *, within_s: float = 20.0) -> float:
    """Wait until the condition holds and return the seconds that took; fail after `within_s`."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < within_s, f"not within {within_s:g} s: {what}"
        time.sleep(0.1)  # `ps` is no light program on a busy machine
    return time.monotonic() - began
