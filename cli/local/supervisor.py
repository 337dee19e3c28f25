"""Keep the children running, heal the ones that crash, and leave none behind."""

import contextlib
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

from cli.local.errors import ServiceDied, StackError
from cli.local.process import Child, Service, bound_log, last_lines, spawn

_T = TypeVar("_T")
_TICK_S = 0.05
_LOG_CHECK_S = 10.0
# The first restart is at once: a kill in mid-run shall cost a moment. A crash loop slows down.
_BACKOFF_S = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0)
_STEADY_AFTER_S = 30.0
_WARDEN = Path(__file__).with_name("warden.py")


class Warden:
    """Our end of the process that outlives us just long enough to end our children."""

    def __init__(self, lock_descriptor: int) -> None:
        self._lock_descriptor = lock_descriptor
        self._watched: dict[int, Service] = {}
        self._process = self._start()

    def _start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", str(_WARDEN)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd="/",
            start_new_session=True,
            pass_fds=(self._lock_descriptor,),
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def watch(self, child: Child) -> None:
        """Have the child's group ended when this process is gone."""
        self._watched[child.pid] = child.service
        self._say(f"watch {child.pid} {int(child.service.stop_signal)} {int(child.service.grace_s * 1000)}")

    def forget(self, child: Child) -> None:
        """The group is gone; its number may be given to a stranger."""
        if self._watched.pop(child.pid, None) is not None:
            self._say(f"forget {child.pid}")

    def revive(self) -> bool:
        """Start anew if somebody killed it; whether that was needed."""
        if self._process.poll() is None:
            return False
        with contextlib.suppress(BrokenPipeError):
            self._process.communicate()
        self._process = self._start()
        for pgid, service in self._watched.items():
            self._say(f"watch {pgid} {int(service.stop_signal)} {int(service.grace_s * 1000)}")
        return True

    def dismiss(self) -> None:
        """Close the pipe: it ends what is still watched, then itself."""
        with contextlib.suppress(BrokenPipeError):
            self._process.communicate()

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        # A killed warden is revived, with everything it must know, at the keeper's next tick.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()


class Supervisor:
    """Starts services as own children and watches them from one thread.

    That one thread starts them all, because Linux ties a child's death signal to the thread that made
    it. Until `settle()` a child that ends is a failure to start; after it, a crash to heal.
    """

    def __init__(self, *, lock_descriptor: int, on_problem: Callable[[str], None]) -> None:
        self._on_problem = on_problem
        self._warden = Warden(lock_descriptor)
        self._children: dict[str, Child] = {}
        self._due: dict[str, tuple[float, Service]] = {}
        self._stopped: dict[str, Service] = {}
        self._crashes: dict[str, int] = {}
        self._failure: ServiceDied | None = None
        self._settled = False
        self._hurry = threading.Event()
        self._wishes: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._keeper = threading.Thread(target=self._keep, name="keeper", daemon=True)
        self._keeper.start()

    # What the owner calls, from any thread.

    def start(self, service: Service) -> int:
        """Start a service and return its pid."""
        return self._ask(lambda: self._spawn(service))

    def restart(self, name: str) -> int:
        """Stop a service in its own way, start it again, return the new pid."""
        return self._ask(lambda: self._restart(name))

    def stop(self, name: str) -> None:
        """Stop one service in its own way; it stays down until `resume`. Raises KeyError while it is down."""
        self._ask(lambda: self._put_down(name))

    def resume(self, name: str) -> int:
        """Start a service that was stopped and return its pid. Raises KeyError for any other."""
        return self._ask(lambda: self._spawn(self._stopped.pop(name)))

    def kill(self, name: str, number: int = signal.SIGKILL) -> int:
        """Send a signal to a service's process and return the pid it went to; a death is healed."""
        return self._ask(lambda: self._kill(name, number))

    def pid(self, name: str) -> int:
        """The pid of a running service. Raises KeyError while it is down."""
        return self._ask(lambda: self._children[name].pid)

    def running(self) -> dict[str, int]:
        """Name -> pid of everything that runs now."""
        return self._ask(lambda: {name: child.pid for name, child in self._children.items()})

    @property
    def warden_pid(self) -> int:
        return self._warden.pid

    def raise_failure(self) -> None:
        """Raise ServiceDied when a child ended before `settle()`."""
        failure = self._ask(lambda: self._failure)
        if failure is not None:
            raise failure

    def settle(self) -> None:
        """The start is over: from now on a death is healed."""
        self._ask(lambda: setattr(self, "_settled", True))

    def hurry(self) -> None:
        """Somebody is impatient: kill what has not stopped yet."""
        self._hurry.set()

    def close(self) -> None:
        """Stop everything, rank by rank, and end the keeper; an interruption only makes it hurry."""
        closing = self._post(self._stop_all)
        while self._keeper.is_alive():
            try:
                closing.result()
                self._wishes.put(None)
                self._keeper.join()
            except (KeyboardInterrupt, SystemExit):
                self.hurry()
        self._warden.dismiss()

    def _ask(self, wish: Callable[[], _T]) -> _T:
        if not self._keeper.is_alive():
            raise RuntimeError("the supervisor is closed")
        return self._post(wish).result()

    def _post(self, wish: Callable[[], _T]) -> "Future[_T]":
        answer: Future[_T] = Future()

        def fulfil() -> None:
            try:
                answer.set_result(wish())
            except BaseException as problem:  # noqa: BLE001 - it belongs to the asker, not to this thread
                answer.set_exception(problem)

        self._wishes.put(fulfil)
        return answer

    # What the keeper's thread does.

    def _keep(self) -> None:
        next_log_check_s = time.monotonic() + _LOG_CHECK_S
        while True:
            with contextlib.suppress(queue.Empty):
                wish = self._wishes.get(timeout=_TICK_S)
                if wish is None:
                    return
                wish()
            self._heal()
            if time.monotonic() > next_log_check_s:
                next_log_check_s = time.monotonic() + _LOG_CHECK_S
                for child in self._children.values():
                    bound_log(child.service.log)

    def _spawn(self, service: Service) -> int:
        child = spawn(service)
        self._warden.watch(child)
        self._children[service.name] = child
        return child.pid

    def _heal(self) -> None:
        if self._warden.revive():
            self._report("the warden was killed; started another")
        for name, child in list(self._children.items()):
            if child.has_ended():
                self._bury(name, child)
        for name, (due_s, service) in list(self._due.items()):
            if time.monotonic() >= due_s:
                del self._due[name]
                self._respawn(service)

    def _respawn(self, service: Service) -> None:
        try:
            self._spawn(service)
        except (StackError, OSError) as problem:
            # Out of memory or of processes: this thread must live on, its end would end the children.
            self._due[service.name] = (time.monotonic() + _BACKOFF_S[-1], service)
            self._report(f"{service.name} could not be started: {problem}")

    def _report(self, problem: str) -> None:
        # A closed terminal must not end the thread that every child's life is tied to.
        with contextlib.suppress(OSError, ValueError):
            self._on_problem(problem)

    def _bury(self, name: str, child: Child) -> None:
        # What it begot would hold its port and its queue beside the successor.
        child.kill_group()
        self._warden.forget(child)
        del self._children[name]
        end = _describe_end(child.process.returncode)
        tail = last_lines(child.service.log)
        if not self._settled:
            self._failure = self._failure or ServiceDied(
                f"{name} {end} while starting; the end of {child.service.log}:\n{tail}"
            )
            return
        lived_s = time.monotonic() - child.started_s
        crashes = 0 if lived_s > _STEADY_AFTER_S else self._crashes.get(name, 0)
        self._crashes[name] = crashes + 1
        pause_s = _BACKOFF_S[min(crashes, len(_BACKOFF_S) - 1)]
        self._due[name] = (time.monotonic() + pause_s, child.service)
        self._report(f"{name} {end}; starting it again in {pause_s:g} s (log: {child.service.log})")

    def _kill(self, name: str, number: int) -> int:
        child = self._children[name]
        child.signal(number)
        return child.pid

    def _put_down(self, name: str) -> None:
        service = self._children[name].service
        self._stop([name])
        self._stopped[name] = service

    def _restart(self, name: str) -> int:
        service = self._children[name].service if name in self._children else self._due[name][1]
        self._stop([name])
        return self._spawn(service)

    def _stop_all(self) -> None:
        self._due.clear()
        self._settled = True
        for rank in sorted({child.service.stop_rank for child in self._children.values()}):
            names = [name for name, child in self._children.items() if child.service.stop_rank == rank]
            self._stop(names)

    def _stop(self, names: list[str]) -> None:
        """Ask these to stop, wait for each one's grace, kill the rest, and sweep every group."""
        stopping = {name: self._children[name] for name in names if name in self._children}
        for name in names:
            self._due.pop(name, None)
        asked_s = time.monotonic()
        for child in stopping.values():
            child.signal(child.service.stop_signal)
        for name, child in stopping.items():
            while not child.has_ended():
                if self._hurry.is_set():
                    break
                if time.monotonic() - asked_s > child.service.grace_s:
                    self._report(f"{name} did not stop in time; killed")
                    break
                time.sleep(0.01)
            child.kill_group()
            child.process.wait()
            self._warden.forget(child)
            del self._children[name]


def _describe_end(returncode: int) -> str:
    if returncode < 0:
        with contextlib.suppress(ValueError):
            return f"was killed by {signal.Signals(-returncode).name}"
    return f"ended with exit code {returncode}"
