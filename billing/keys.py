"""Deterministic names: the same intention or line gets the same key, however often it is computed."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from numbers import Rational, Real
from urllib.parse import quote
from uuid import UUID, uuid5

MAX_KEY = 255
_DIGEST_LENGTH = 32
_READABLE = " !*'()[]{},;=@$&+/"


def stripe_key(operation: str, *parts: object) -> str:
    """The idempotency key of an intention: `pay:<invoice>:1`; ASCII, at most 255 characters.

    Stripe replays the saved reply of a key, failures included: a network retry takes the same key,
    a new attempt must differ in a part.
    """
    return _joined(operation, *parts)


def line_key(*parts: object) -> str:
    """The name of an invoice line within its invoice; at most 255 characters."""
    return _joined(*parts)


def line_id(organization_id: UUID, *parts: object) -> UUID:
    """The id of an invoice line: computing an invoice again finds the same rows."""
    return uuid5(organization_id, line_key(*parts))


def _joined(*parts: object) -> str:
    key = ":".join(map(_part, parts))
    if len(key) <= MAX_KEY:
        return key
    digest = hashlib.sha256(key.encode("ascii")).hexdigest()[:_DIGEST_LENGTH]
    return f"{key[: MAX_KEY - _DIGEST_LENGTH - 1]}:{digest}"


def _part(part: object) -> str:
    """One part as text in which the separator cannot occur, so that no two keys run together."""
    if isinstance(part, UUID):
        return str(part)
    if isinstance(part, Real) and not isinstance(part, Rational):
        raise TypeError("a float has no one text: use an int, a Fraction or text")
    if isinstance(part, datetime):
        if part.tzinfo is None:
            raise ValueError(f"naive instant: {part}")
        part = part.astimezone(UTC).strftime("%Y%m%dT%H%M%S.%fZ").replace(".000000Z", "Z")
    return quote(str(part), safe=_READABLE)
