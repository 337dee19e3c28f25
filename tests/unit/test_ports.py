"""Ports: the wanted one when it is free, another when it is not, never the same twice."""

import socket
from collections.abc import Iterator

import pytest

from cli.local import ports


@pytest.fixture
def occupied() -> Iterator[int]:
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        yield stranger.getsockname()[1]


def test_a_free_preferred_port_is_kept() -> None:
    wanted = ports.free_port()
    assert ports.choose(wanted) == wanted


def test_an_occupied_port_is_replaced(occupied: int) -> None:
    assert not ports.is_free(occupied)
    assert ports.choose(occupied) != occupied


def test_a_port_on_every_address_counts_as_occupied() -> None:
    with socket.socket() as stranger:
        stranger.bind(("0.0.0.0", 0))  # noqa: S104 - what a careless server does is the case here
        stranger.listen()
        assert not ports.is_free(stranger.getsockname()[1])


def test_a_port_given_to_another_process_already_is_not_given_again() -> None:
    wanted = ports.free_port()
    assert ports.choose(wanted, taken=[wanted]) != wanted


def test_without_a_preference_any_free_port_will_do() -> None:
    assert ports.is_free(ports.choose(None))


def test_a_held_port_is_taken_for_others_and_free_for_a_server_that_shares_it() -> None:
    port = ports.free_port()
    with ports.held(port):
        assert not ports.is_free(port)
        with socket.socket() as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            server.bind(("127.0.0.1", port))
            server.listen()
            with socket.create_connection(("127.0.0.1", port), timeout=5):
                server.accept()[0].close()
    assert ports.is_free(port)
