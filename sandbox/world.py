"""What one request or timer works in: a transaction, the time of each object's clock, its events."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from . import API_VERSION, Doc
from .ids import new_id
from .render import render
from .store import Tx


@dataclass
class World:
    """One transaction with its clocks. `wall` gives Unix seconds for all that is on no test clock."""

    tx: Tx
    wall: Callable[[], int]
    base_url: str
    request_id: str | None = None
    idempotency_key: str | None = None
    started_clocks: list[str] = field(default_factory=list)
    """Test clocks that this transaction set on their way; they run once it is committed."""
    _snapshots: dict[str, Doc] = field(default_factory=dict)

    def now(self, clock_id: str | None) -> int:
        """The time on a test clock (while it advances: the moment being lived), or the wall's."""
        if clock_id is None:
            return self.wall()
        clock = self.tx.get("test_helpers.test_clock", clock_id)
        return int(clock["_now"])

    def now_of(self, doc: Doc) -> int:
        """The time on the clock that `doc` lives by."""
        return self.now(clock_of(doc))

    def emit(self, event_type: str, doc: Doc, previous: Doc | None = None) -> Doc:
        """Record an event with the object as it is now, and owe it to every endpoint that listens."""
        clock_id = clock_of(doc) if doc["object"] != "test_helpers.test_clock" else None
        payload: Doc = {"object": render(self.tx, doc)}
        if previous is not None:
            payload["previous_attributes"] = previous
        event = self.tx.add(
            {
                "id": new_id("event"),
                "object": "event",
                "api_version": API_VERSION,
                "created": self.now(clock_id),
                "data": payload,
                "livemode": False,
                "request": {"id": self.request_id, "idempotency_key": self.idempotency_key},
                "type": event_type,
                "_clock": clock_id,
                "_parent": doc["id"],
                "_created_wall": self.wall(),
            }
        )
        self._owe(event)
        return event

    def _owe(self, event: Doc) -> None:
        for endpoint in self.tx.select("webhook_endpoint"):
            wanted = endpoint["enabled_events"]
            if endpoint["status"] == "enabled" and ("*" in wanted or event["type"] in wanted):
                self.tx.execute(
                    "INSERT INTO deliveries (event, endpoint, next_at) VALUES (?, ?, 0)",
                    (event["id"], endpoint["id"]),
                )

    @contextmanager
    def changing(self, doc: Doc, event_type: str) -> Iterator[Doc]:
        """Emit one `*.updated` event for what the block changes in `doc`; none when nothing changed.

        Blocks nest: only the outermost one for an object emits.
        """
        if doc["id"] in self._snapshots:
            yield doc
            return
        # Down to the bottom: what the block changes inside a hash must not change the snapshot too.
        before = self._snapshots[doc["id"]] = deepcopy(render(self.tx, doc))
        try:
            yield doc
        finally:
            del self._snapshots[doc["id"]]
        previous = difference(before, render(self.tx, doc))
        if previous:
            self.emit(event_type, doc, previous)


def clock_of(doc: Doc) -> str | None:
    """The test clock that `doc` lives by, or None for the wall."""
    clock_id = doc.get("test_clock") or doc.get("_clock")
    return str(clock_id) if clock_id else None


def difference(before: Doc, after: Doc) -> dict[str, Any]:
    """The old values of what changed: hashes are compared inside, lists as a whole."""
    changed: dict[str, Any] = {}
    for key in before.keys() | after.keys():
        old, new = before.get(key), after.get(key)
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict) and old.get("object") != "list":
            changed[key] = difference(old, new)
        else:
            changed[key] = old
    return changed
