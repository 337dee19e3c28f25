"""Idempotency keys: the first reply, whatever it was, is the reply for ever."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from .errors import key_in_use, key_reused, malformed
from .store import Tx

MAX_KEY_LENGTH = 255


@dataclass(frozen=True)
class SavedReply:
    """A reply as it was first given."""

    status: int
    body: str
    request_id: str


def fingerprint(method: str, path: str, params: dict[str, Any]) -> str:
    """What makes two requests the same request."""
    text = json.dumps([method, path, params], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def find(tx: Tx, key: str, mark: str) -> SavedReply | None:
    """The saved reply. Raises: ApiError 400 when the key was used for another request."""
    rows = tx.execute("SELECT fingerprint, status, body, request_id FROM replies WHERE key = ?", (key,))
    if not rows:
        return None
    saved_mark, status, body, request_id = rows[0]
    if saved_mark != mark:
        raise key_reused(key)
    return SavedReply(int(str(status)), str(body), str(request_id))


def save(tx: Tx, key: str, mark: str, reply: SavedReply, now: int) -> None:
    tx.execute(
        "INSERT OR REPLACE INTO replies (key, fingerprint, status, body, request_id, created_at) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        (key, mark, reply.status, reply.body, reply.request_id, now),
    )


class InFlight:
    """Keys whose first request has not been answered yet."""

    def __init__(self) -> None:
        self._keys: set[str] = set()
        self._lock = threading.Lock()

    @contextmanager
    def claim(self, key: str | None) -> Iterator[None]:
        """Hold a key while its request runs.

        Raises: ApiError 409 when another request holds it, 400 when it is too long.
        """
        if key is None:
            yield
            return
        if len(key) > MAX_KEY_LENGTH:
            raise malformed(f"Idempotency-Key can be at most {MAX_KEY_LENGTH} characters long.")
        with self._lock:
            if key in self._keys:
                raise key_in_use(key)
            self._keys.add(key)
        try:
            yield
        finally:
            with self._lock:
                self._keys.discard(key)
