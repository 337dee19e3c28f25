"""A small HTTP client of the billing API, as a product or an operator would write one.

Every POST carries an idempotency key, so whatever stays without an answer is simply sent again.
"""

import http.client
import time
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

TIMEOUT_S = 60.0
# As long as a killed process may take to be back.
PATIENCE_S = 60.0
_PAUSE_S = 0.2
T = TypeVar("T")
_PASSING = frozenset((429, 502, 503, 504))


class ApiRefusal(Exception):
    """The API answered something else than was asked for; the message holds its problem document."""

    def __init__(self, method: str, path: str, status: int, content: Any) -> None:
        detail = content.get("detail", content) if isinstance(content, dict) else content
        errors = content.get("errors", "") if isinstance(content, dict) else ""
        super().__init__(f"{method} {path} -> {status}: {detail} {errors}".strip())
        self.status = status


@dataclass(frozen=True, slots=True)
class Answer:
    """Status and decoded JSON of one answer."""

    status: int
    content: Any


class Api:
    """One connection that stays open, one key. Not thread-safe: one for each thread and key."""

    def __init__(self, base_url: str, key: str) -> None:
        parts = urllib.parse.urlsplit(base_url)
        assert parts.hostname is not None, "the stack's address has a host"
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=TIMEOUT_S)
        self._key = key

    def close(self) -> None:
        """Close the connection; a later request opens it again."""
        self._connection.close()

    def get(self, path: str) -> Any:
        """The content of a 200. Raises ApiRefusal."""
        return self._expect("GET", path, self.send("GET", path))

    def post(self, path: str, content: object, idempotency_key: str) -> Any:
        """The content of a 2xx. Raises ApiRefusal."""
        return self._expect(
            "POST", path, self.send("POST", path, msgspec.json.encode(content), idempotency_key)
        )

    def send(self, method: str, path: str, body: bytes | None = None, idempotency_key: str = "") -> Answer:
        """The first answer that is not a passing one (a process restarts, a lock is held).

        Raises ConnectionError when there is none for a minute.
        """
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
        if idempotency_key:
            headers["Idempotency-Key"] = idempotency_key
        answer = patiently(lambda: self._once(method, path, body, headers), lambda found: found is not None)
        if answer is None:
            raise ConnectionError(f"{method} {path}: no answer for {PATIENCE_S:.0f} s")
        return answer

    def _once(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Answer | None:
        try:
            self._connection.request(method, path, body=body, headers=headers)
            response = self._connection.getresponse()
            raw = response.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return None
        if response.status in _PASSING:
            return None
        is_json = "json" in (response.headers.get("Content-Type") or "")
        answer = Answer(
            response.status, msgspec.json.decode(raw) if raw and is_json else raw.decode(errors="replace")
        )
        return None if _under_way(answer) else answer

    def _expect(self, method: str, path: str, answer: Answer) -> Any:
        if not 200 <= answer.status < 300:
            raise ApiRefusal(method, path, answer.status, answer.content)
        return answer.content


def _under_way(answer: Answer) -> bool:
    """Our own earlier try, cut off, is still being worked on."""
    return answer.status == 409 and "under way" in str(answer.content.get("detail", ""))


def patiently(look: Callable[[], T], good: Callable[[T], bool], patience_s: float = PATIENCE_S) -> T:
    """Look until what is seen is good or the patience is over; returns the last that was seen."""
    give_up_at = time.monotonic() + patience_s
    pause_s = 0.02
    while not good(seen := look()) and time.monotonic() < give_up_at:
        time.sleep(pause_s)
        pause_s = min(_PAUSE_S, pause_s * 1.5)
    return seen
