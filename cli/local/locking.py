"""One launcher per state directory: a kernel lock, which no crash can leave behind."""

import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path

from cli.local.errors import StackError

_POLL_S = 0.02


def acquire(directory: Path, *, patience_s: float, on_wait: Callable[[], None]) -> int:
    """Lock the directory for this process; returns the descriptor that holds the lock.

    Whoever inherits the descriptor holds the lock too: after a crash that is the warden, for the
    seconds in which it cleans up, and those are waited for. Raises StackError when another launcher
    runs here, or the cleaning takes longer than `patience_s`.
    """
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    give_up_s = time.monotonic() + patience_s
    announced = False
    while not _try(descriptor):
        holder = _holder(descriptor)
        if holder is not None or time.monotonic() > give_up_s:
            os.close(descriptor)
            who = f"pid {holder}" if holder is not None else "an earlier run that does not end"
            raise StackError(f"{directory} is in use by {who}; stop that first")
        if not announced:
            on_wait()
            announced = True
        time.sleep(_POLL_S)
    os.truncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    return descriptor


def is_locked(directory: Path) -> bool:
    """Whether a launcher (or the warden after one) holds the directory."""
    try:
        descriptor = os.open(directory / "lock", os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        return not _try(descriptor)
    finally:
        os.close(descriptor)


def _try(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(descriptor: int) -> int | None:
    """The pid in the file if that process lives: a launcher, since a warden writes nothing."""
    written = os.pread(descriptor, 32, 0)
    if not written.isdigit():
        return None
    try:
        os.kill(int(written), 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        return int(written)
    return int(written)
