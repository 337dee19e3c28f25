"""Signing in and out of the admin: the session's cookie, and the token on every form."""

import hmac
import secrets
from datetime import UTC, datetime, timedelta
from uuid import UUID

from flask import abort, g, request, session

from tasks import users
from tasks.context import Context
from tasks.users import SignedIn

LIFETIME = timedelta(hours=12)
_SAFE_METHODS = ("GET", "HEAD")


def signed_in(context: Context) -> SignedIn | None:
    """The person of this request's session; None without one, after 12 hours, or a changed password."""
    try:
        user_id, begun_at = UUID(session["user"]), datetime.fromtimestamp(session["begun"], UTC)
        stamp = str(session["stamp"])
    except (KeyError, ValueError, TypeError):
        return None
    if context.wall() - begun_at > LIFETIME:
        return None
    return users.still_signed_in(context, user_id, stamp)


def begin(context: Context, person: SignedIn) -> None:
    """Start a session, with a new token: what was in the cookie before is worth nothing now."""
    session.clear()
    session["user"], session["stamp"] = str(person.user_id), person.stamp
    session["begun"] = int(context.wall().timestamp())
    session["token"] = secrets.token_urlsafe(32)
    session.permanent = True


def end() -> None:
    session.clear()


def form_token() -> str:
    """The token that every form of this session carries."""
    if "token" not in session:
        session["token"] = secrets.token_urlsafe(32)
    return str(session["token"])


def refuse_forged() -> None:
    """A 400 for an unsafe request that does not carry this session's token."""
    if request.method in _SAFE_METHODS:
        return
    given, token = request.form.get("token", ""), str(session.get("token", ""))
    if not token or not hmac.compare_digest(given.encode(), token.encode()):
        abort(400, "This form is no longer valid. Go back, reload the page and try again.")


def person() -> SignedIn:
    """Who is signed in, on a page that lets nobody else in."""
    found: SignedIn = g.person
    return found
