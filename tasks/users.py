"""People who may sign in to the admin: argon2id passwords, and a pause after too many tries."""

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from uuid import UUID

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from billing.errors import Conflict, InvalidTerms
from models import credentials
from models.ops import User
from tasks.context import Context

MAX_TRIES = 10
PAUSE = timedelta(minutes=5)
MIN_PASSWORD, MAX_PASSWORD = 12, 200
# argon2id with the library's defaults, which follow RFC 9106's low-memory profile.
_HASHER = PasswordHasher()


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A signed-in person. `stamp` changes with the password, and ends every older session."""

    user_id: UUID
    email: str
    stamp: str


def create_user(context: Context, email: str, password: str) -> User:
    """Add a person. Raises InvalidTerms for a weak password, Conflict for an address that is taken."""
    address = email.strip().lower()
    if "@" not in address or len(address) > 254:
        raise InvalidTerms("must be an e-mail address", field="email")
    _check_password(password)
    with context.system() as unit:
        if credentials.user_by_email(unit.session, address) is not None:
            raise Conflict("is taken", field="email")
        user = User(email=address, password_hash=_HASHER.hash(password))
        unit.session.add(user)
    return user


def set_password(context: Context, email: str, password: str) -> bool:
    """Replace a password: every session of the person ends. False for an unknown person."""
    _check_password(password)
    with context.system() as unit:
        user = credentials.user_by_email(unit.session, email.strip().lower())
        if user is None:
            return False
        user.password_hash = _HASHER.hash(password)
        user.failed_logins, user.locked_until_at = 0, None
    return True


def check_password(context: Context, email: str, password: str) -> SignedIn | None:
    """The person, when the password is right and the account is not in its pause.

    Ten tries without success pause the account for five minutes, in which the right password is
    refused too. An unknown address takes as long as a known one.
    """
    address = email.strip().lower()
    with context.system() as unit:
        user = credentials.count_login(unit.session, address, unit.now, MAX_TRIES, PAUSE)
    known = _verified(user.password_hash if user else _decoy(), password[: MAX_PASSWORD + 1])
    if user is None or not known:
        return None
    with context.system() as unit:
        person = unit.session.get_one(User, user.id)
        person.failed_logins, person.locked_until_at, person.last_login_at = 0, None, unit.now
    return SignedIn(user.id, user.email, _stamp(user))


def still_signed_in(context: Context, user_id: UUID, stamp: str) -> SignedIn | None:
    """The person of a session, unless the password changed or the person is gone."""
    with context.database.system() as session:
        user = session.get(User, user_id)
    if user is None or _stamp(user) != stamp:
        return None
    return SignedIn(user.id, user.email, stamp)


def _check_password(password: str) -> None:
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise InvalidTerms(f"must have {MIN_PASSWORD} to {MAX_PASSWORD} characters", field="password")


def _verified(password_hash: str, password: str) -> bool:
    try:
        return _HASHER.verify(password_hash, password)
    except (VerificationError, InvalidHashError):
        return False


@cache
def _decoy() -> str:
    return _HASHER.hash("nobody has this password")


def _stamp(user: User) -> str:
    return hashlib.sha256(user.password_hash.encode()).hexdigest()[:32]
