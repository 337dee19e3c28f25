"""How much one key or one address may ask in a minute, counted in Redis over all web processes.

Without Redis the API goes on uncounted: usage must come in. Signing in does not: a password could be
guessed for as long as nobody counts.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import redis

from billing.errors import BillingError

log = logging.getLogger("dunlin.web")

_AWAY_S = 5  # how long Redis is not asked again after it failed: each question may cost a timeout
_SHARES = 20  # a process fetches its allowance in this many parts: fewer questions, a coarser limit
_MOST_REMEMBERED = 10_000


class TooMany(BillingError):
    """More than this key or address may ask; `retry_after_s` says when it may again."""

    code = "too_many_requests"

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class CountingAway(BillingError):
    """Redis does not answer, so what must be counted is not allowed."""

    code = "counting_away"


@dataclass(frozen=True, slots=True)
class Limit:
    """`most` in each window of `window_s` seconds; 0 is no limit."""

    name: str
    most: int
    window_s: int = 60


# Wrong passwords from one address, whoever's; each account has a pause of its own beside it.
SIGN_IN = Limit("sign_in", 30, 300)
# Calls with a key that does not exist, by address.
WITHOUT_KEY = Limit("address", 600)


class RateLimiter:
    """Windows that begin on round instants of `wall`; `prefix` keeps installations on one Redis apart."""

    def __init__(self, redis_url: str, prefix: str, wall: Callable[[], datetime]) -> None:
        self._redis = redis.Redis.from_url(redis_url, socket_timeout=1, socket_connect_timeout=1)
        self._prefix = prefix
        self._wall = wall
        self._lock = threading.Lock()
        # What this process may still give away, by counter; below 0 the window is known to be used up.
        self._left: dict[str, int] = {}
        self._ask_again_at = 0.0

    def take(self, limit: Limit, who: str) -> None:
        """Count one call of `who`. Raises TooMany; without Redis everybody passes."""
        if self.take_granted(limit, who):
            return
        counter, rest_s = self._window(limit, who)
        if self._left.get(counter, 0) == 0 and self._fetch(limit, counter):
            return
        raise TooMany(f"more than {limit.most} calls in {limit.window_s} seconds", rest_s)

    def take_granted(self, limit: Limit, who: str) -> bool:
        """Count one call out of what this process was granted; False when that is used up."""
        if limit.most <= 0:
            return True
        counter, _ = self._window(limit, who)
        with self._lock:
            left = self._left.get(counter, 0)
            if left > 0:
                self._left[counter] = left - 1
        return left > 0

    def refuse_used_up(self, limit: Limit, who: str) -> None:
        """Raises TooMany when `who` was counted to the limit in this window, CountingAway without Redis."""
        counter, rest_s = self._window(limit, who)
        try:
            counted = int(self._redis.get(counter) or 0)
        except redis.RedisError as away:
            raise CountingAway("tries cannot be counted at the moment") from away
        if counted >= limit.most:
            raise TooMany(f"more than {limit.most} tries in {limit.window_s} seconds", rest_s)

    def count(self, limit: Limit, who: str) -> None:
        """Count one try of `who`. Raises CountingAway without Redis."""
        try:
            self._add(limit, self._window(limit, who)[0], 1)
        except redis.RedisError as away:
            raise CountingAway("tries cannot be counted at the moment") from away

    def _fetch(self, limit: Limit, counter: str) -> bool:
        """Take a share of the window's calls for this process, the present call among them."""
        if time.monotonic() < self._ask_again_at:
            return True
        share = max(1, limit.most // _SHARES)
        try:
            total = self._add(limit, counter, share)
        except redis.RedisError as away:
            log.warning("calls are not counted, Redis is away: %s", type(away).__name__)
            self._ask_again_at = time.monotonic() + _AWAY_S
            return True
        granted = min(share, limit.most - (total - share))
        with self._lock:
            if len(self._left) > _MOST_REMEMBERED:
                self._left.clear()
            self._left[counter] = self._left.get(counter, 0) + granted - 1 if granted > 0 else -1
        return granted > 0

    def _add(self, limit: Limit, counter: str, number: int) -> int:
        pipeline = self._redis.pipeline()
        pipeline.incrby(counter, number)
        pipeline.expire(counter, 2 * limit.window_s)
        return int(pipeline.execute()[0])

    def _window(self, limit: Limit, who: str) -> tuple[str, int]:
        """The counter of the running window, and how many seconds it lasts."""
        now_s = int(self._wall().timestamp())
        begun = now_s - now_s % limit.window_s
        return f"{self._prefix}:{limit.name}:{who}:{begun}", begun + limit.window_s - now_s
