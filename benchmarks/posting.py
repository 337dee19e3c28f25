"""A load generator of little cost: prepared requests over kept connections, in a process of its own."""

import multiprocessing
import socket
import statistics
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from urllib.parse import urlsplit


@dataclass(slots=True)
class Tally:
    """What the clients saw: seconds of each acknowledged request, and what was refused (status lines).

    `begun` is when the first one was sent, by the monotonic clock of the machine.
    """

    spans_s: list[float] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    begun: float = 0
    seconds: float = 0
    cpu_s: float = 0

    @property
    def per_second(self) -> float:
        return len(self.spans_s) / self.seconds

    def percentile_ms(self, percent: int) -> float:
        return statistics.quantiles(self.spans_s, n=100)[percent - 1] * 1000


@dataclass(frozen=True, slots=True)
class Load:
    """Requests, shared out over `clients` connections; `pace` a second in all (0: as fast as they go)."""

    url: str
    headers: Sequence[str]
    bodies: Sequence[bytes]
    clients: int
    pace: float = 0
    # A further header of each body, where they differ.
    own_headers: Sequence[str] = ()
    # Of GETs, instead of bodies: what is asked for, one after the other.
    paths: Sequence[str] = ()


def post(load: Load) -> Tally:
    """Send every request once; returns what was seen. They are made before the clock starts."""
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_generate, args=(load, theirs))
    process.start()
    tally: Tally = ours.recv()
    process.join()
    return tally


def _generate(load: Load, answer: Connection) -> None:
    address = urlsplit(load.url)
    head = "".join(f"{line}\r\n" for line in (f"Host: {address.netloc}", *load.headers))
    own = [f"{line}\r\n" for line in load.own_headers] or [""] * len(load.bodies)
    requests = [
        f"POST {address.path} HTTP/1.1\r\n{head}{line}Content-Length: {len(body)}\r\n\r\n".encode() + body
        for line, body in zip(own, load.bodies, strict=True)
    ] + [f"GET {path} HTTP/1.1\r\n{head}\r\n".encode() for path in load.paths]
    span_s = 1 / load.pace if load.pace else 0.0
    tally, started = Tally(), threading.Barrier(load.clients + 1)
    threads = [
        threading.Thread(
            target=_client,
            args=((address.hostname, address.port), requests[each :: load.clients], started, tally),
            kwargs={"every_s": load.clients * span_s, "first_s": each * span_s},
        )
        for each in range(load.clients)
    ]
    for thread in threads:
        thread.start()
    started.wait()
    tally.begun, worked = time.monotonic(), time.process_time()
    for thread in threads:
        thread.join()
    tally.seconds, tally.cpu_s = time.monotonic() - tally.begun, time.process_time() - worked
    answer.send(tally)


def _client(
    address: tuple[str, int],
    requests: Sequence[bytes],
    started: threading.Barrier,
    tally: Tally,
    *,
    every_s: float,
    first_s: float,
) -> None:
    with socket.create_connection(address, timeout=60) as door:
        door.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        started.wait()
        due = time.monotonic() + first_s
        for request in requests:
            if every_s:
                time.sleep(max(0.0, due - time.monotonic()))
                # From when it was due: a slow answer must not hide the wait of the next request.
                begun, due = due, due + every_s
            else:
                begun = time.monotonic()
            door.sendall(request)
            status = _status(door)
            if status.startswith(("202", "200")):
                tally.spans_s.append(time.monotonic() - begun)
            else:
                tally.refused.append(status)


def _status(door: socket.socket) -> str:
    """Read one answer whole; returns "202 Accepted"."""
    read = b""
    while (end := read.find(b"\r\n\r\n")) < 0:
        read += _more(door)
    head = read[:end].lower()
    mark = head.find(b"content-length: ")
    length = int(head[mark + 16 :].split(b"\r", 1)[0])
    while len(read) < end + 4 + length:
        read += _more(door)
    return read.split(b"\r\n", 1)[0].partition(b" ")[2].decode()


def _more(door: socket.socket) -> bytes:
    part = door.recv(65536)
    if not part:
        raise ConnectionError("the server closed the connection")
    return part
