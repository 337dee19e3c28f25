"""API keys: made once, shown once, stored as a keyed hash."""

import hashlib
import hmac
import re
import secrets
import string
import zlib
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args
from uuid import UUID

from billing.errors import InvalidTerms
from models import credentials
from models.base import new_id
from models.ops import ApiKey
from tasks.context import Context

KeyKind = Literal["product", "organization", "admin"]

# While a key is being replaced the old and the new one work; a third retires the oldest.
LIVE_AT_ONCE = 2
_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_RANDOM_LENGTH = 36  # 214 bits
_CHECK_LENGTH = 6  # 62^6 > 2^32: room for any CRC-32
_SHAPE = re.compile(rf"dk_(?:test|live)_[0-9A-Za-z]{{{_RANDOM_LENGTH + _CHECK_LENGTH}}}")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who called: the key, and the product or organization that it is bound to."""

    key_id: UUID
    kind: KeyKind
    product_id: UUID | None
    organization_id: UUID | None
    name: str

    @property
    def principal(self) -> str:
        """The party that this key and its successors speak for."""
        return f"{self.kind}:{self.product_id or self.organization_id or self.name}"


def issue(
    context: Context,
    kind: KeyKind,
    name: str,
    *,
    product_id: UUID | None = None,
    organization_id: UUID | None = None,
    expires_at: datetime | None = None,
) -> tuple[ApiKey, str]:
    """Make a key. Returns its row and its text, which exists nowhere after this.

    A product or organization has at most two live keys of one name; an issue beyond that revokes the oldest.
    Raises InvalidTerms when the kind and what it is bound to do not fit, or it would be born expired.
    """
    now = context.wall()
    _check(kind, name, product_id=product_id, organization_id=organization_id)
    if expires_at is not None and expires_at <= now:
        raise InvalidTerms("must lie in the future", field="expires_at")
    text = _new_text("live" if context.gateway.livemode else "test")
    key = ApiKey(
        id=new_id(),
        kind=kind,
        name=name,
        product_id=product_id,
        organization_id=organization_id,
        key_hash=_hashed(context, text),
        last_four=text[-4:],
        expires_at=expires_at,
    )
    with context.system() as unit:
        unit.session.add(key)
        unit.session.flush()
        for old in credentials.live_keys_like(unit.session, key, now)[LIVE_AT_ONCE:]:
            old.revoked_at = now
    return key, text


def revoke(context: Context, key_id: UUID) -> bool:
    """End a key now (processes that saw it trust it for up to five seconds more). False when unknown."""
    with context.system() as unit:
        key = unit.session.get(ApiKey, key_id)
        if key is None:
            return False
        key.revoked_at = key.revoked_at or unit.now
    return True


def authenticate(context: Context, bearer: str) -> Caller | None:
    """The caller behind a bearer key; None when it is unknown, expired or revoked."""
    # The check digits refuse garbage and typing errors without a question to the database.
    if not _SHAPE.fullmatch(bearer) or _check_digits(bearer[:-_CHECK_LENGTH]) != bearer[-_CHECK_LENGTH:]:
        return None
    with context.database.system() as session:
        key = credentials.key_by_hash(session, _hashed(context, bearer))
    if key is None or key.revoked_at is not None:
        return None
    if key.expires_at is not None and key.expires_at <= context.wall():
        return None
    return Caller(key.id, _kind(key.kind), key.product_id, key.organization_id, key.name)


def _kind(value: str) -> KeyKind:
    return next(kind for kind in get_args(KeyKind) if kind == value)


def _check(kind: str, name: str, *, product_id: UUID | None, organization_id: UUID | None) -> None:
    if kind not in get_args(KeyKind):
        raise InvalidTerms("must be product, organization or admin", field="kind")
    if not 0 < len(name.strip()) <= 100:
        raise InvalidTerms("must have 1 to 100 characters", field="name")
    if (kind == "product") != (product_id is not None):
        raise InvalidTerms("is named by a product's key, and by no other", field="product")
    if (kind == "organization") != (organization_id is not None):
        raise InvalidTerms("is named by an organization's key, and by no other", field="organization")


def _new_text(mode: str) -> str:
    text = f"dk_{mode}_" + "".join(secrets.choice(_ALPHABET) for _ in range(_RANDOM_LENGTH))
    return text + _check_digits(text)


def _check_digits(text: str) -> str:
    rest, digits = zlib.crc32(text.encode()), ""
    for _ in range(_CHECK_LENGTH):
        rest, digit = divmod(rest, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits


def _hashed(context: Context, text: str) -> str:
    return hmac.new(context.settings.key_pepper.encode(), text.encode(), hashlib.sha256).hexdigest()
