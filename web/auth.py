"""Bearer keys at the door of the API."""

from datetime import datetime, timedelta

from tasks.context import Context
from tasks.keys import Caller, Scope, authenticate
from web.calls import Kind
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
        self._seen: dict[str, tuple[datetime, Caller]] = {}

    def admit(
        self, authorization: str, access: frozenset[Kind], scope: Scope, *, address: str, limit: Limit
    ) -> Caller | None:
        """The caller; None where everybody may pass. Raises Unauthenticated, Forbidden, TooMany."""
        if not access:
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
        self._limiter.take(limit, str(caller.key_id))
        if caller.kind not in access:
            raise Forbidden(f"a key of kind {caller.kind} may not do this")
        if scope not in caller.scopes:
            raise Forbidden(f"this key has not the scope {scope!r}")
        return caller

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
