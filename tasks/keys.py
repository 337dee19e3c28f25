"""API keys: made once, shown once, stored as a keyed hash; rotated without a gap."""

import hashlib
import hmac
import re
import secrets
import string
import zlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, get_args
from uuid import UUID

from billing.errors import Conflict, InvalidTerms, NotFound
from models import credentials
from models.base import new_id
from models.database import Session
from models.ops import ApiKey
from tasks.context import Context

KeyKind = Literal["product", "organization", "admin"]
Scope = Literal["read", "write"]
ALL_SCOPES: tuple[Scope, ...] = get_args(Scope)

# While a key is being replaced the old and the new one work; a third retires the oldest.
LIVE_AT_ONCE = 2
# How exactly a key's last use is known.
USE_GRAIN = timedelta(minutes=1)
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
    scopes: frozenset[Scope]

    @property
    def principal(self) -> str:
        """The party that this key and its successors speak for."""
        return f"{self.kind}:{self.product_id or self.organization_id or self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyTerms:
    """What a key is made for. `scopes`: `read` opens every GET, `write` all the rest of its kind's routes."""

    kind: KeyKind
    name: str
    product_id: UUID | None = None
    organization_id: UUID | None = None
    scopes: tuple[Scope, ...] = ALL_SCOPES
    expires_at: datetime | None = None


def issue(
    context: Context,
    kind: KeyKind,
    name: str,
    *,
    product_id: UUID | None = None,
    organization_id: UUID | None = None,
    expires_at: datetime | None = None,
) -> tuple[ApiKey, str]:
    """Make a key of every scope; see `issue_terms`."""
    terms = KeyTerms(
        kind=kind, name=name, product_id=product_id, organization_id=organization_id, expires_at=expires_at
    )
    return issue_terms(context, terms)


def issue_terms(context: Context, terms: KeyTerms) -> tuple[ApiKey, str]:
    """Make a key. Returns its row and its text, which exists nowhere after this.

    A party has at most two live keys of one name; an issue beyond that revokes the oldest.
    Raises InvalidTerms when the kind and what it is bound to do not fit, or it would be born expired.
    """
    now = context.wall()
    _check(terms)
    if terms.expires_at is not None and terms.expires_at <= now:
        raise InvalidTerms("must lie in the future", field="expires_at")
    with context.system() as unit:
        return _add(context, unit.session, terms, now)


def rotate(context: Context, key_id: UUID, overlap: timedelta) -> tuple[ApiKey, str]:
    """Replace a live key by one of the same terms, which lasts as long from now as the old one did.

    The old one works for `overlap` more; with none it ends at once.
    Raises NotFound for an unknown key, Conflict for one that is revoked or expired.
    """
    with context.system() as unit:
        old = unit.session.get(ApiKey, key_id, with_for_update=True)
        if old is None:
            raise NotFound("no such key")
        if old.revoked_at is not None or _expired(old, unit.now):
            raise Conflict("the key is revoked or expired: issue a new one")
        lifetime = old.expires_at - old.created_at if old.expires_at else None
        terms = KeyTerms(
            kind=_kind(old.kind),
            name=old.name,
            product_id=old.product_id,
            organization_id=old.organization_id,
            scopes=_scopes(old),
            expires_at=unit.now + lifetime if lifetime else None,
        )
        made = _add(context, unit.session, terms, unit.now)
        until = unit.now + overlap
        if overlap <= timedelta(0):
            old.revoked_at = unit.now
        elif old.expires_at is None or old.expires_at > until:
            old.expires_at = until
    return made


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
    now = context.wall()
    with context.database.system() as session:
        key = credentials.key_by_hash(session, _hashed(context, bearer))
        if key is None or key.revoked_at is not None or _expired(key, now):
            return None
        if key.last_used_at is None or now - key.last_used_at >= USE_GRAIN:
            credentials.note_use(session, key.id, now, USE_GRAIN)
    return Caller(
        key.id, _kind(key.kind), key.product_id, key.organization_id, key.name, frozenset(_scopes(key))
    )


def _add(context: Context, session: Session, terms: KeyTerms, now: datetime) -> tuple[ApiKey, str]:
    text = _new_text("live" if context.gateway.livemode else "test")
    key = ApiKey(
        id=new_id(),
        kind=terms.kind,
        name=terms.name,
        product_id=terms.product_id,
        organization_id=terms.organization_id,
        scopes=sorted(set(terms.scopes)),
        key_hash=_hashed(context, text),
        last_four=text[-4:],
        expires_at=terms.expires_at,
    )
    credentials.hold_party(session, f"{terms.kind}:{terms.product_id or terms.organization_id}:{terms.name}")
    session.add(key)
    session.flush()
    for old in credentials.live_keys_like(session, key, now)[LIVE_AT_ONCE:]:
        old.revoked_at = now
    return key, text


def _expired(key: ApiKey, now: datetime) -> bool:
    return key.expires_at is not None and key.expires_at <= now


def _scopes(key: ApiKey) -> tuple[Scope, ...]:
    return tuple(scope for scope in ALL_SCOPES if scope in key.scopes)


def _kind(value: str) -> KeyKind:
    return next(kind for kind in get_args(KeyKind) if kind == value)


def _check(terms: KeyTerms) -> None:
    if terms.kind not in get_args(KeyKind):
        raise InvalidTerms("must be product, organization or admin", field="kind")
    if not 0 < len(terms.name.strip()) <= 100:
        raise InvalidTerms("must have 1 to 100 characters", field="name")
    if not terms.scopes or not set(terms.scopes) <= set(ALL_SCOPES):
        raise InvalidTerms("must be read, write or both", field="scopes")
    if (terms.kind == "product") != (terms.product_id is not None):
        raise InvalidTerms("is named by a product's key, and by no other", field="product")
    if (terms.kind == "organization") != (terms.organization_id is not None):
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
