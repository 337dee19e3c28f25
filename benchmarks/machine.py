"""What every benchmark prints first, and how it measures work: the machine, its load, CPU by process."""

import contextlib
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path


def describe() -> str:
    """One line: architecture, cores, Python, and what else the machine is doing."""
    return (
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"load {os.getloadavg()[0]:.1f}"
    )


def cpu_s(pid: int) -> float:
    """Seconds that a process and all below it have worked, those that have ended included.

    What other load on the machine changes little, where a rate does.
    """
    parents, ticks = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            parents[int(stat.parent.name)] = int(fields[1])
            ticks[int(stat.parent.name)] = sum(map(int, fields[11:15]))
    return sum(worked for one, worked in ticks.items() if _is_below(one, pid, parents)) / os.sysconf(
        "SC_CLK_TCK"
    )


def _is_below(pid: int, ancestor: int, parents: dict[int, int]) -> bool:
    while pid in parents:
        if pid == ancestor:
            return True
        pid = parents[pid]
    return False


def wait_for(happens: Callable[[], bool], what: str, timeout_s: float = 120) -> None:
    give_up_at = time.monotonic() + timeout_s
    while not happens():
        assert time.monotonic() < give_up_at, f"{what}: not within {timeout_s:.0f} s"
        time.sleep(0.02)
