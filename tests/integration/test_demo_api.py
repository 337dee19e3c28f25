"""The demo's HTTP client: what passes is waited out, what is refused is told, and nothing is sent twice."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from cli.demo.api import Api, ApiRefusal

Reply = tuple[int, bytes] | None


class Door(ThreadingHTTPServer):
    """Answers as it was told, in sequence; None closes the connection without a word."""

    daemon_threads = True
    replies: list[Reply]
    heard: list[tuple[str, str | None, bytes]]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Door

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.heard.append((self.command, self.headers.get("Idempotency-Key"), body))
        reply = self.server.replies.pop(0)
        if reply is None:
            self.close_connection = True
            return
        status, content = reply
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = _answer  # noqa: N815 - http.server's names

    def log_message(self, *_: Any) -> None:
        """Quiet: the test says what went over the wire."""


@pytest.fixture
def door() -> Iterator[Door]:
    server = Door(("127.0.0.1", 0), _Handler)
    server.replies, server.heard = [], []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def api(door: Door) -> Iterator[Api]:
    made = Api(f"http://127.0.0.1:{door.server_port}", "dk_test_x")
    yield made
    made.close()


def test_a_post_that_found_nobody_is_sent_again_under_its_key(door: Door, api: Api) -> None:
    door.replies = [None, (503, b"{}"), (202, b'{"accepted": 1}')]
    assert api.post("/track/", {"a": 1}, "key-1") == {"accepted": 1}
    assert door.heard == [("POST", "key-1", b'{"a":1}')] * 3


def test_our_own_cut_off_try_is_waited_for(door: Door, api: Api) -> None:
    under_way = b'{"detail": "the first request with this key is under way"}'
    door.replies = [(409, under_way), (201, b'{"id": "x"}')]
    assert api.post("/subscriptions/", {}, "key-1") == {"id": "x"}


def test_a_refusal_is_final_and_tells_what_the_problem_document_says(door: Door, api: Api) -> None:
    door.replies = [
        (422, b'{"detail": "no", "errors": [{"field": "quantity", "message": "must be finite"}]}')
    ]
    with pytest.raises(ApiRefusal, match=r"422: no .*quantity.*must be finite") as refusal:
        api.post("/track/", {}, "key-1")
    assert refusal.value.status == 422
    assert len(door.heard) == 1


def test_another_conflict_is_a_refusal(door: Door, api: Api) -> None:
    door.replies = [(409, b'{"detail": "this key was used for another request"}')]
    with pytest.raises(ApiRefusal):
        api.post("/track/", {}, "key-1")


def test_a_get_carries_no_key(door: Door, api: Api) -> None:
    door.replies = [(200, b"[]")]
    assert api.get("/clock/") == []
    assert door.heard == [("GET", None, b"")]
