"""Webhook deliveries: signed, tried at once, several in flight, retried on a schedule in real seconds."""

import hashlib
import hmac
import http.client
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from . import Doc
from .faults import Faults
from .render import render
from .store import Store, Tx

IN_FLIGHT_PER_ENDPOINT = 4
RETRY_AFTER_S = (1.0, 3.0, 10.0, 30.0)
TIMEOUT_S = 10.0
_REORDER_S = 0.2


@dataclass(frozen=True)
class _Delivery:
    """One event on its way to one endpoint."""

    seq: int
    endpoint: str
    attempts: int
    url: str
    secrets: tuple[str, ...]
    payload: bytes
    twice: bool = False


def signature(payload: bytes, secrets: tuple[str, ...], timestamp: int) -> str:
    """The `Stripe-Signature` header: one `v1` for each secret that is valid now."""
    signed = f"{timestamp}.".encode() + payload
    marks = [hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest() for secret in secrets]
    return ",".join([f"t={timestamp}", *(f"v1={mark}" for mark in marks)])


@dataclass
class Deliverer:
    """The thread that hands out deliveries, and the few that carry them."""

    store: Store
    faults: Faults
    retry_after_s: tuple[float, ...] = RETRY_AFTER_S
    _busy: dict[str, int] = field(default_factory=dict)
    _judged: set[int] = field(default_factory=set)
    _stopping: bool = False

    def __post_init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=16, thread_name_prefix="webhook")
        self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)

    def start(self) -> None:
        with self.store.transaction() as tx:
            tx.execute("UPDATE deliveries SET state = 'pending' WHERE state = 'sending'")
        self._thread.start()

    def stop(self) -> None:
        self._stopping = True
        with self.store.changed:
            self.store.changed.notify_all()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _run(self) -> None:
        while not self._stopping:
            with self.store.changed:
                for delivery in self._take_due():
                    self._pool.submit(self._carry, delivery)
                if not self._stopping:
                    self.store.changed.wait(self._nap_s())

    def _nap_s(self) -> float:
        with self.store.transaction_quietly() as tx:
            [(soonest,)] = tx.execute(
                "SELECT min(next_at) FROM deliveries WHERE state = 'pending' AND next_at > ?", (time.time(),)
            )
        return 1.0 if soonest is None else min(1.0, max(0.005, float(str(soonest)) - time.time()))

    def _take_due(self) -> list[_Delivery]:
        """Mark what may go now as being sent, in creation order for each endpoint."""
        taken = []
        with self.store.transaction_quietly() as tx:
            rows = tx.execute(
                "SELECT seq, event, endpoint, attempts FROM deliveries "
                "WHERE state = 'pending' AND next_at <= ? ORDER BY seq LIMIT 200",
                (time.time(),),
            )
            for seq, event_id, endpoint_id, attempts in rows:
                event, endpoint = tx.find(str(event_id)), tx.find(str(endpoint_id))
                if event is None or endpoint is None:
                    tx.execute("DELETE FROM deliveries WHERE seq = ?", (seq,))
                elif self._busy.get(endpoint["id"], 0) < IN_FLIGHT_PER_ENDPOINT:
                    delivery = self._prepared(tx, int(str(seq)), event, endpoint, int(str(attempts)))
                    taken += [delivery] if delivery else []
        return taken

    def _prepared(self, tx: Tx, seq: int, event: Doc, endpoint: Doc, attempts: int) -> _Delivery | None:
        """The delivery, counted as in flight; None when a fault keeps it back or drops it."""
        fault = None
        if attempts == 0 and seq not in self._judged:
            self._judged.add(seq)
            fault = self.faults.for_event(event["type"])
        if fault == "webhook_drop":
            tx.execute("UPDATE deliveries SET state = 'failed' WHERE seq = ?", (seq,))
            return None
        if fault in {"webhook_reorder", "webhook_delay"}:
            wait_s = _REORDER_S if fault == "webhook_reorder" else self.faults.delay_s
            tx.execute("UPDATE deliveries SET next_at = ? WHERE seq = ?", (time.time() + wait_s, seq))
            return None
        tx.execute("UPDATE deliveries SET state = 'sending' WHERE seq = ?", (seq,))
        self._busy[endpoint["id"]] = self._busy.get(endpoint["id"], 0) + 1
        return _Delivery(
            seq=seq,
            endpoint=endpoint["id"],
            attempts=attempts,
            url=endpoint["url"],
            secrets=tuple(filter(None, (endpoint["_secret"], endpoint.get("_old_secret")))),
            payload=json.dumps(render(tx, event), indent=2).encode(),
            twice=fault == "webhook_duplicate",
        )

    def _carry(self, delivery: _Delivery) -> None:
        """One attempt (two for a duplicate), and what follows from its answer."""
        status = post(delivery.url, delivery.payload, delivery.secrets)
        if delivery.twice:
            post(delivery.url, delivery.payload, delivery.secrets)
        attempts = delivery.attempts + 1
        retries_left = attempts <= len(self.retry_after_s)
        delivered = status is not None and 200 <= status < 300
        state = "delivered" if delivered else "pending" if retries_left else "failed"
        next_at = time.time() + (self.retry_after_s[attempts - 1] if retries_left else 0)
        with self.store.transaction() as tx:
            self._busy[delivery.endpoint] -= 1
            tx.execute(
                "UPDATE deliveries SET state = ?, attempts = ?, next_at = ?, last_status = ? WHERE seq = ?",
                (state, attempts, next_at, status, delivery.seq),
            )


def post(url: str, payload: bytes, secrets: tuple[str, ...]) -> int | None:
    """POST a signed payload: the status, or None when nobody answered."""
    parts = urlsplit(url)
    make: Any = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = make(parts.hostname, parts.port, timeout=TIMEOUT_S)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    headers = {
        "Content-Type": "application/json; charset=utf-8",
        "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
        "Stripe-Signature": signature(payload, secrets, int(time.time())),
    }
    try:
        connection.request("POST", target or "/", body=payload, headers=headers)
        response = connection.getresponse()
        response.read()
        return int(response.status)
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
