"""End the process groups of a launcher that died without ending them.

    python -I -S warden.py          lines on standard input: `watch PGID SIGNAL GRACE_MS`, `forget PGID`

The launcher holds the only writing end of that pipe, so end-of-file means that the launcher is gone,
however it went; this needs no kernel feature beyond POSIX. The guard's death signal reaches only the
launcher's own children; the groups reach their children as well. An inherited lock descriptor stays
open in here, so the next start in the same directory waits until all of this is over.
"""

import contextlib
import os
import signal
import sys
import time
from typing import TextIO

_POLL_S = 0.02


def serve(lines: TextIO) -> None:
    """Remember the groups until the pipe closes, then end every one that is left."""
    watched: dict[int, tuple[int, float]] = {}
    for line in lines:
        verb, pgid, *rest = line.split()
        if verb == "watch":
            watched[int(pgid)] = (int(rest[0]), int(rest[1]) / 1000)
        else:
            watched.pop(int(pgid), None)
    _end(watched)


def _end(watched: dict[int, tuple[int, float]]) -> None:
    """Ask each leader, wait out its grace, then kill the whole group."""
    started = time.monotonic()
    for pgid, (stop_signal, _) in watched.items():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pgid, stop_signal)
    waiting = dict(watched)
    while waiting:
        for pgid, (_, grace_s) in list(waiting.items()):
            if not _leader_lives(pgid) or time.monotonic() - started > grace_s:
                # Also when the leader went by itself: its children may have stayed.
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(pgid, signal.SIGKILL)
                del waiting[pgid]
        time.sleep(_POLL_S)


def _leader_lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


if __name__ == "__main__":
    # A terminal's Ctrl-C and a shell's hang-up are the launcher's business, not ours.
    for deaf_to in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(deaf_to, signal.SIG_IGN)
    serve(sys.stdin)
