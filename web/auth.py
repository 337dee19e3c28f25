"""Bearer keys at the door of the API."""

from datetime import datetime, timedelta

from tasks.context import Context
from tasks.keys import Caller, authenticate
from web.calls import Route
from web.problems import Forbidden, Unauthenticated
from web.ratelimit import WITHOUT_KEY, Limit, RateLimiter

# How long a process trusts what it looked up: a revoked key works at most this much longer.
REMEMBERED = timedelta(seconds=5)
_MOST_REMEMBERED = 10_000


class Doorkeeper:
    """Who stands behind a bearer key; remembers each answer for five seconds, for the busy doors."""

    def __init__(self, context: Context, limiter: RateLimiter) -> None:
        self._context = context
        self._limiter = limiter
        self._usage = Limit("usage", context.settings.usage_posts_per_minute)
        self._calls = Limit("calls", context.settings.api_calls_per_minute)
        self._seen: dict[str, tuple[datetime, Caller]] = {}

    def admit(self, authorization: str, route: Route, address: str) -> Caller | None:
        """The caller; None where everybody may pass. Raises Unauthenticated, Forbidden, TooMany."""
        if not route.access:
            return None
        scheme, _, bearer = authorization.partition(" ")
        caller = self._recognize(bearer.strip()) if scheme.lower() == "bearer" else None
        if caller is None:
            self._limiter.take(WITHOUT_KEY, address)
            raise Unauthenticated(
                "the key is unknown, expired or revoked"
                if scheme.lower() == "bearer"
                else "send `Authorization: Bearer <key>`"
            )
        self._limiter.take(self._limit(route), str(caller.key_id))
        if caller.kind not in route.access:
            raise Forbidden(f"a key of kind {caller.kind} may not do this")
        if route.scope not in caller.scopes:
            raise Forbidden(f"this key has not the scope {route.scope!r}")
        return caller

    def recall(self, authorization: str, route: Route) -> Caller | None:
        """The caller, if this process knows the key and it may pass; nothing is asked, nothing counted."""
        scheme, _, bearer = authorization.partition(" ")
        seen = self._seen.get(bearer)
        if scheme != "Bearer" or seen is None or self._context.wall() - seen[0] >= REMEMBERED:
            return None
        caller = seen[1]
        return caller if caller.kind in route.access and route.scope in caller.scopes else None

    def counts(self, caller: Caller, route: Route) -> bool:
        """Count one call of a caller that was recalled; False when its allowance must be asked for."""
        return self._limiter.take_granted(self._limit(route), str(caller.key_id))

    def _limit(self, route: Route) -> Limit:
        return self._usage if route.stores_first else self._calls

    def _recognize(self, bearer: str) -> Caller | None:
        now = self._context.wall()
        seen = self._seen.get(bearer)
        if seen is not None and now - seen[0] < REMEMBERED:
            return seen[1]
        caller = authenticate(self._context, bearer)
        if caller is None:
            self._seen.pop(bearer, None)
            return None
        if len(self._seen) >= _MOST_REMEMBERED:
            self._seen.clear()
        self._seen[bearer] = (now, caller)
        return caller
