"""The Flask application, made for a context."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import timedelta
from urllib.parse import urlsplit

from flask import Flask, Response
from werkzeug.middleware.proxy_fix import ProxyFix

from tasks.context import Context
from tasks.settings import BadSetting
from web import problems
from web.admin import showing
from web.admin.blueprint import admin_blueprint
from web.auth import Doorkeeper
from web.calls import MIB
from web.dispatch import view_of
from web.fast_lane import FastLane, lanes
from web.log import install_log
from web.ratelimit import RateLimiter
from web.routes import TABLE

_LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]")
_MIN_SECRET = 16
# Pages need their own style sheet and forms, and nothing else from anywhere.
_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)


def create_app(context: Context, *, trusted_hosts: Sequence[str] = (), proxies: int = 0) -> Flask:
    """The application of a context, behind so many proxies of ours that say whom they speak for.

    Raises UnsafeDatabaseRole for a role that could read across organizations, BadSetting when a
    secret that the doors rely on is missing or too short.
    """
    _refuse_unsafe(context)
    address = urlsplit(context.settings.public_url)
    secure = address.scheme == "https"
    app = Flask("web")
    app.config.update(
        SECRET_KEY=context.settings.secret_key,
        MAX_CONTENT_LENGTH=4 * MIB,
        MAX_FORM_MEMORY_SIZE=64 * 1024,
        MAX_FORM_PARTS=20,
        TRUSTED_HOSTS=[address.hostname or "localhost", *_LOCAL_HOSTS, *trusted_hosts],
        PROVIDE_AUTOMATIC_OPTIONS=False,
        # The prefix makes browsers refuse the cookie from a sibling domain; it needs https.
        SESSION_COOKIE_NAME="__Host-dunlin" if secure else "dunlin",
        SESSION_COOKIE_SECURE=secure,
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        PERMANENT_SESSION_LIFETIME=timedelta(hours=12),
        SESSION_REFRESH_EACH_REQUEST=False,
    )
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    problems.install(app)
    install_log(app)
    limiter = _limiter(context)
    doorkeeper = Doorkeeper(context, limiter)
    _install_routes(app, context, doorkeeper)
    showing.install(app)
    app.register_blueprint(admin_blueprint(context, limiter))
    headers = _headers(secure=secure)
    _install_headers(app, headers)
    lane = FastLane(app.wsgi_app, lanes(context, doorkeeper), headers, app.config["TRUSTED_HOSTS"])
    app.wsgi_app = lane  # type: ignore[method-assign]
    if proxies:
        app.wsgi_app = ProxyFix(lane, x_for=proxies, x_host=0)  # type: ignore[method-assign]
    return app


def _refuse_unsafe(context: Context) -> None:
    context.database.refuse_unsafe_role()
    settings = context.settings
    if not settings.stripe_webhook_secrets or not all(map(str.strip, settings.stripe_webhook_secrets)):
        raise BadSetting("STRIPE_WEBHOOK_SECRET is empty: anybody could speak for Stripe")
    for name, value in (("SECRET_KEY", settings.secret_key), ("KEY_PEPPER", settings.key_pepper)):
        if len(value) < _MIN_SECRET:
            raise BadSetting(f"{name} has fewer than {_MIN_SECRET} characters")


def _limiter(context: Context) -> RateLimiter:
    # Two installations may share a Redis; their databases are never the same.
    installation = hashlib.sha256(context.settings.database_url.encode()).hexdigest()[:12]
    return RateLimiter(context.settings.redis_url, f"dunlin:limit:{installation}", context.wall)


def _install_routes(app: Flask, context: Context, doorkeeper: Doorkeeper) -> None:
    for route in TABLE:
        app.add_url_rule(
            route.path,
            endpoint=route.endpoint,
            view_func=view_of(route, context, doorkeeper),
            methods=[route.method],
            strict_slashes=False,
        )


def _headers(*, secure: bool) -> dict[str, str]:
    """What every answer carries."""
    headers = {
        "Content-Security-Policy": _POLICY,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cache-Control": "no-store",
    }
    if secure:
        headers["Strict-Transport-Security"] = "max-age=31536000; includeSubDomains"
    return headers


def _install_headers(app: Flask, headers: Mapping[str, str]) -> None:
    @app.after_request
    def protect(response: Response) -> Response:
        for name, value in headers.items():
            response.headers.setdefault(name, value)
        return response
