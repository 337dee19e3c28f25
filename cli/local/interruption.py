"""Turn the signals that end a program into exceptions, so that what was opened gets closed."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGHUP)
# A signal to the whole group comes twice, for make passes its own on: that is one wish, not impatience.
_ECHO_S = 0.5


@contextmanager
def stop_signals_raise() -> Iterator[None]:
    """While open, SIGTERM and SIGHUP raise SystemExit (128 + number) in the main thread.

    SIGINT raises KeyboardInterrupt, also where a shell had it ignored because it started us in the
    background of a script. Elsewhere than in the main thread nothing changes: only that one may set
    handlers.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard_s: dict[int, float] = {}

    def raise_exit(number: int, _frame: FrameType | None) -> None:
        now_s = time.monotonic()
        is_echo = now_s - heard_s.get(number, -_ECHO_S) < _ECHO_S
        heard_s[number] = now_s
        if not is_echo:
            raise SystemExit(128 + number)

    before = {number: signal.signal(number, raise_exit) for number in _SIGNALS}
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
