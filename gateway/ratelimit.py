"""One token bucket for all our processes, so that together they stay inside Stripe's rate limits."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import redis

from gateway.errors import Throttled

log = logging.getLogger(__name__)

# Stripe allows 100 requests a second live, 25 in test mode, and 25 to one endpoint. A bucket holds a quarter
# of a second's tokens, so that a burst on top of the steady rate reaches these limits and no more.
LIVE_PER_SECOND = 80
TEST_PER_SECOND = 20
PER_ENDPOINT = 20
_AWAY_S = 5  # how long Redis is not asked again after it failed: each question may cost a timeout

# Takes one token from each bucket of KEYS, or none from any. Returns the microseconds to wait, 0 when taken.
# The time is Redis's own: the clocks of the processes may differ. Levels are in millionths of a token.
_TAKE = """
local now = redis.call('TIME')
local now_us = now[1] * 1000000 + now[2]
local levels, wait_us = {}, 0
for i, key in ipairs(KEYS) do
  local rate = tonumber(ARGV[i])
  local full = math.max(1, math.floor(rate / 4)) * 1000000
  local kept = redis.call('HMGET', key, 'level', 'at')
  local level = full
  if kept[1] then
    level = math.min(full, tonumber(kept[1]) + math.max(0, now_us - tonumber(kept[2])) * rate)
  end
  levels[i] = level
  if level < 1000000 then
    wait_us = math.max(wait_us, math.ceil((1000000 - level) / rate))
  end
end
if wait_us > 0 then return wait_us end
for i, key in ipairs(KEYS) do
  redis.call('HSET', key, 'level', string.format('%.0f', levels[i] - 1000000),
             'at', string.format('%.0f', now_us))
  redis.call('PEXPIRE', key, 5000)
end
return 0
"""


@dataclass(slots=True)
class _LocalPace:
    """What one process allows itself while Redis is away: an even spacing of calls."""

    interval_s: float
    monotonic: Callable[[], float]
    next_at: float = 0.0

    def claim(self) -> float:
        """Seconds to wait before the slot that this call claims."""
        now = self.monotonic()
        slot = max(now, self.next_at)
        self.next_at = slot + self.interval_s
        return slot - now


class RateLimiter:
    """A shared bucket per account mode and one per endpoint, kept in Redis.

    `prefix` separates accounts and modes on one Redis; `max_wait_s` bounds how long `acquire` may wait.
    `processes` is how many of us may be calling at once: when Redis is away each takes that share of
    `per_second`, so that losing the doorbell slows money down and never stops it.
    """

    def __init__(
        self,
        redis_url: str,
        *,
        per_second: int,
        per_endpoint: int = PER_ENDPOINT,
        max_wait_s: int = 10,
        processes: int = 4,
        prefix: str = "dunlin:stripe",
    ) -> None:
        if per_second < 1 or per_endpoint < 1 or processes < 1:
            raise ValueError("rates and the number of processes are at least 1")
        # Short timeouts: a limiter that hangs would stop what it is meant to pace.
        self._redis = redis.Redis.from_url(redis_url, socket_timeout=1, socket_connect_timeout=1)
        self._take = self._redis.register_script(_TAKE)
        self._per_second = per_second
        self._per_endpoint = per_endpoint
        self._max_wait_s = max_wait_s
        self._prefix = prefix
        self._lock = threading.Lock()
        self._local = _LocalPace(interval_s=processes / per_second, monotonic=time.monotonic)
        self._ask_again_at = 0.0

    def acquire(self, endpoint: str) -> None:
        """Return when a call to `endpoint` may be made.

        Raises Throttled when its turn is further away than `max_wait_s`. Without Redis it keeps a local pace.
        """
        give_up_at = time.monotonic() + self._max_wait_s
        while True:
            if time.monotonic() < self._ask_again_at:
                time.sleep(self._local_wait_s())
                return
            try:
                wait_s = self._shared_wait_s(endpoint)
            except redis.RedisError as away:
                log.warning("rate limit kept locally, Redis is away: %s", type(away).__name__)
                self._ask_again_at = time.monotonic() + _AWAY_S
                continue
            if wait_s <= 0:
                return
            if time.monotonic() + wait_s > give_up_at:
                raise Throttled(f"our own rate limit for {endpoint} is used up", retry_after_s=1)
            time.sleep(wait_s)

    def _shared_wait_s(self, endpoint: str) -> float:
        keys = [f"{self._prefix}:all", f"{self._prefix}:{endpoint}"]
        # redis-py types the answer of a script as anything; ours is always an integer.
        waited_us: object = self._take(keys=keys, args=[self._per_second, self._per_endpoint])
        return int(str(waited_us)) / 1_000_000

    def _local_wait_s(self) -> float:
        with self._lock:
            return self._local.claim()
