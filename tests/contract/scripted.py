"""A server on the loopback that answers what a test wrote down, and remembers what it was asked."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True)
class Asked:
    """A call as it came over the wire."""

    method: str
    path: str
    query: dict[str, str]
    form: dict[str, str]
    headers: dict[str, str]


@dataclass(frozen=True)
class Answer:
    """What to answer; a body of None hangs up without a word."""

    status: int = 200
    body: Mapping[str, Any] | str | None = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


class Script:
    """The answers still to be given, in this sequence, and the calls that came."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answers: list[Answer] = []
        self.asked: list[Asked] = []

    def will_answer(self, *answers: Answer) -> None:
        """Add answers; a call that nobody wrote an answer for gets a 501, which fails the test."""
        self.answers.extend(answers)


def refusal(
    status: int, *, retry: bool = False, headers: Mapping[str, str] | None = None, **error: Any
) -> Answer:
    """A refusal in Stripe's form; unless `retry`, it tells the SDK not to try again."""
    advice = {} if retry else {"Stripe-Should-Retry": "false"}
    return Answer(status, {"error": error}, {"Request-Id": "req_7", **advice, **(headers or {})})


@contextmanager
def scripted_server() -> Iterator[Script]:
    """A scripted server on a free port, for the length of the block."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    script = Script(f"http://127.0.0.1:{server.server_address[1]}")
    server.script = script  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield script
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    def _answer(self) -> None:
        script: Script = self.server.script  # type: ignore[attr-defined]
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        address = urlsplit(self.path)
        script.asked.append(
            Asked(
                self.command,
                address.path,
                dict(parse_qsl(address.query)),
                dict(parse_qsl(body)),
                {name.lower(): value for name, value in self.headers.items()},
            )
        )
        answer = script.answers.pop(0) if script.answers else Answer(501, "no answer was written down")
        if answer.body is None:
            self.close_connection = True
            return
        text = answer.body if isinstance(answer.body, str) else json.dumps(answer.body)
        self.send_response(answer.status)
        for name, value in ({"Request-Id": "req_1"} | dict(answer.headers)).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    do_GET = do_POST = do_DELETE = _answer  # noqa: N815  # the names that the parent calls

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the parent's name
        """Say nothing: the test prints what matters."""
