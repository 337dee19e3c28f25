"""Choose TCP ports on the loopback interface."""

import secrets
import socket
from collections.abc import Collection

LOOPBACK = "127.0.0.1"
_LOWEST, _HIGHEST = 15_000, 32_000


def is_free(port: int) -> bool:
    """Whether nobody listens on this loopback port and a server could."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: without it a port in TIME_WAIT from the previous run looks taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    # macOS lets a specific address bind beside somebody's wildcard listener: ask that listener too.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as caller:
        caller.settimeout(0.2)
        return caller.connect_ex((LOOPBACK, port)) != 0


def held(port: int) -> socket.socket:
    """A socket that keeps the port from every other launcher, and listens to nobody, until it is closed.

    For a server that shares its port among its processes (SO_REUSEPORT, as granian does): it can still bind
    beside this socket. A second launcher's server would share the port as well, and get its requests.
    """
    keeper = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    keeper.bind((LOOPBACK, port))
    return keeper


def free_port(taken: Collection[int] = ()) -> int:
    """A port that is free now and not in `taken`.

    From below the ranges that kernels hand to outgoing connections (Linux: from 32768, macOS: from
    49152): between this choice and the server's start no client can come to sit on it.
    """
    while True:
        port = _LOWEST + secrets.randbelow(_HIGHEST - _LOWEST)
        if port not in taken and is_free(port):
            return port


def choose(preferred: int | None, taken: Collection[int] = ()) -> int:
    """`preferred` when it is free and not in `taken`, else any free port."""
    if preferred is not None and preferred not in taken and is_free(preferred):
        return preferred
    return free_port(taken)
