"""Faults on demand: by chance, from a seed, or exactly once for one operation."""

import random
import threading
from dataclasses import dataclass, field
from typing import Any

from .errors import malformed

HTTP_FAULTS = ("http_429", "http_409", "http_500_before", "http_500_after", "timeout_before", "timeout_after")
WEBHOOK_FAULTS = ("webhook_duplicate", "webhook_reorder", "webhook_delay", "webhook_drop")
_NUMBERS = {"seed": 0, "timeout_s": 0.2, "delay_s": 0.5}


@dataclass
class _Once:
    """A fault for the next request of one operation, or the next event of one type."""

    fault: str
    operation: str | None = None
    event: str | None = None
    times: int = 1


@dataclass
class Faults:
    """What goes wrong, and how often. Rates are shares, 0..1; times in seconds.

    Chance spares the requests of one API key, if one is named: those of a person who only looks on.
    """

    rates: dict[str, float] = field(default_factory=dict)
    spared: str | None = None
    timeout_s: float = 0.2
    delay_s: float = 0.5

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._seed = 0
        self._random = random.Random(0)  # noqa: S311
        self._once: list[_Once] = []

    def set(self, wanted: dict[str, Any]) -> None:
        """Add to what is set. Raises: ApiError 400 for names that are no faults."""
        known = {*HTTP_FAULTS, *WEBHOOK_FAULTS, *_NUMBERS, "spared", "once"}
        if unknown := sorted(set(wanted) - known):
            raise malformed(
                f"Unknown fault: {unknown[0]}. Known are: {', '.join(sorted(known))}", param=unknown[0]
            )
        with self._lock:
            for entry in wanted.get("once", []):
                if entry.get("fault") not in {*HTTP_FAULTS, *WEBHOOK_FAULTS}:
                    raise malformed(f"Unknown fault: {entry.get('fault')}", param="once")
                self._once.append(_Once(**entry))
            for name, value in wanted.items():
                if name in {*HTTP_FAULTS, *WEBHOOK_FAULTS}:
                    self.rates[name] = float(value)
            if "seed" in wanted:
                self._seed = int(wanted["seed"])
                self._random = random.Random(self._seed)  # noqa: S311
            self.spared = wanted.get("spared", self.spared)
            self.timeout_s = float(wanted.get("timeout_s", self.timeout_s))
            self.delay_s = float(wanted.get("delay_s", self.delay_s))

    def clear(self) -> None:
        with self._lock:
            self.rates.clear()
            self._once.clear()
            self.spared = None
            self.timeout_s, self.delay_s = _NUMBERS["timeout_s"], _NUMBERS["delay_s"]

    def shown(self) -> dict[str, Any]:
        """What is set now, with the exact ones that have not struck yet."""
        with self._lock:
            waiting = [
                {key: value for key, value in vars(once).items() if value is not None} for once in self._once
            ]
            numbers = {"seed": self._seed, "timeout_s": self.timeout_s, "delay_s": self.delay_s}
            return {**self.rates, **numbers, "spared": self.spared, "once": waiting}

    def for_request(self, operation: str, api_key: str | None = None) -> str | None:
        """The fault that strikes this request, if any."""
        with self._lock:
            for once in self._once:
                if once.fault in HTTP_FAULTS and once.operation in {None, operation} and once.event is None:
                    return self._use(once)
            spares = self.spared is not None and api_key == self.spared
            return None if spares else self._roll(HTTP_FAULTS)

    def for_event(self, event_type: str) -> str | None:
        """The fault that strikes the first delivery of an event, if any."""
        with self._lock:
            for once in self._once:
                if once.fault in WEBHOOK_FAULTS and once.event in {None, event_type}:
                    return self._use(once)
            return self._roll(WEBHOOK_FAULTS)

    def _use(self, once: _Once) -> str:
        once.times -= 1
        if once.times <= 0:
            self._once.remove(once)
        return once.fault

    def _roll(self, names: tuple[str, ...]) -> str | None:
        for name in names:
            if (rate := self.rates.get(name, 0.0)) and self._random.random() < rate:
                return name
        return None
