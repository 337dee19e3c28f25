"""Everything that the environment decides, read once by each process."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from email.utils import parseaddr
from typing import Any, Literal, Self
from urllib.parse import unquote, urlsplit

from billing.dunning import DunningPolicy
from billing.errors import BillingError


class BadSetting(BillingError):
    """A setting is missing or malformed; its name is in the message, its value is not."""

    code = "bad_setting"


Security = Literal["none", "starttls", "tls"]
_SECURITY: dict[str, Security] = {"smtp": "none", "smtp+starttls": "starttls", "smtps": "tls"}
_MAIL_PORTS: dict[Security, int] = {"none": 25, "starttls": 587, "tls": 465}


@dataclass(frozen=True, slots=True)
class MailServer:
    """Where mail is handed over."""

    host: str
    port: int
    security: Security
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Settings:
    """One process's settings. Secrets are kept out of `repr`, so out of logs and tracebacks."""

    database_url: str = field(repr=False)
    auditor_url: str = field(repr=False)
    redis_url: str = field(repr=False)
    stripe_api_key: str = field(repr=False)
    stripe_webhook_secrets: tuple[str, ...] = field(repr=False)
    secret_key: str = field(repr=False)
    key_pepper: str = field(repr=False)
    # None sends no mail: it is kept, and the admin's mailbox shows it.
    smtp: MailServer | None = field(default=None, repr=False)
    mail_from: str = ""
    stripe_api_base: str | None = None
    stripe_publishable_key: str = ""
    # None keeps Stripe's own limits by the key's mode; 0 keeps none, for the local Stripe.
    stripe_calls_per_second: int | None = None
    default_currency: str = "USD"
    supported_currencies: tuple[str, ...] = ("USD", "ZAR")
    # Percent, exclusive, for organizations without a tax rate of their own; the seed's TAX_RATE.
    tax_rate: Decimal = Decimal(0)
    payment_retry_attempts: int = 3
    grace_period: timedelta = timedelta(days=7)
    trial_period: timedelta = timedelta(days=14)
    # How long a draft waits after its period for usage that is still on its way.
    collection_window: timedelta = timedelta(hours=1)
    # After this long unpaid the subscription is cancelled; None keeps it suspended for ever.
    cancel_unpaid_after: timedelta | None = timedelta(days=60)
    # A claimed row is free again after this long: shorter heals faster, longer repeats less.
    lease: timedelta = timedelta(seconds=120)
    # For each key; 0 is no limit. A product's key posts usage for all of its organizations.
    api_calls_per_minute: int = 12_000
    usage_posts_per_minute: int = 300_000
    seller_name: str = "Rozitech"
    seller_address: str = ""
    seller_tax_id: str = ""
    public_url: str = "http://localhost:8000"

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Read the settings. Raises BadSetting naming the variable, never its value."""
        optional = _present(environ)
        if "smtp" in optional and not optional.get("mail_from"):
            raise BadSetting("the environment variable MAIL_FROM is missing: mail needs a sender")
        return cls(
            database_url=_required(environ, "DATABASE_URL"),
            auditor_url=_required(environ, "DATABASE_AUDITOR_URL"),
            redis_url=_required(environ, "REDIS_URL"),
            stripe_api_key=_required(environ, "STRIPE_API_KEY"),
            stripe_webhook_secrets=_listed(_required(environ, "STRIPE_WEBHOOK_SECRET")),
            secret_key=_required(environ, "SECRET_KEY"),
            key_pepper=_required(environ, "KEY_PEPPER"),
            **optional,
        )

    @property
    def dunning_policy(self) -> DunningPolicy:
        return DunningPolicy(
            retry_attempts=self.payment_retry_attempts,
            grace=self.grace_period,
            cancel_after=self.cancel_unpaid_after,
        )


def _required(environ: Mapping[str, str], name: str) -> str:
    value = environ.get(name, "")
    if not value:
        raise BadSetting(f"the environment variable {name} is missing")
    return value


def _listed(value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _days(value: str) -> timedelta:
    return timedelta(days=int(value))


def _days_or_never(value: str) -> timedelta | None:
    return None if value == "never" else _days(value)


def _mail_server(url: str) -> MailServer:
    """`smtp://user:password@host:port` (plain), `smtp+starttls://…` or `smtps://…` (TLS from the start)."""
    parts = urlsplit(url)
    security = _SECURITY[parts.scheme]
    if not parts.hostname:
        raise ValueError("no host")
    return MailServer(
        host=parts.hostname,
        port=parts.port or _MAIL_PORTS[security],
        security=security,
        user=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
    )


def _address(value: str) -> str:
    _, address = parseaddr(value)
    if not re.fullmatch(r"[^@\s]+@[^@\s]+", address) or "\n" in value:
        raise ValueError("no address")
    return value


_OPTIONAL: dict[str, tuple[str, Callable[[str], Any]]] = {
    "SMTP_URL": ("smtp", _mail_server),
    "MAIL_FROM": ("mail_from", _address),
    "STRIPE_API_BASE": ("stripe_api_base", str),
    "STRIPE_PUBLISHABLE_KEY": ("stripe_publishable_key", str),
    "STRIPE_CALLS_PER_SECOND": ("stripe_calls_per_second", int),
    "DEFAULT_CURRENCY": ("default_currency", str.upper),
    "SUPPORTED_CURRENCIES": ("supported_currencies", lambda value: _listed(value.upper())),
    "TAX_RATE": ("tax_rate", Decimal),
    "PAYMENT_RETRY_ATTEMPTS": ("payment_retry_attempts", int),
    "GRACE_PERIOD_DAYS": ("grace_period", _days),
    "TRIAL_PERIOD_DAYS": ("trial_period", _days),
    "COLLECTION_WINDOW_MINUTES": ("collection_window", lambda value: timedelta(minutes=int(value))),
    "CANCEL_UNPAID_AFTER_DAYS": ("cancel_unpaid_after", _days_or_never),
    "LEASE_SECONDS": ("lease", lambda value: timedelta(seconds=int(value))),
    "API_CALLS_PER_MINUTE": ("api_calls_per_minute", int),
    "USAGE_POSTS_PER_MINUTE": ("usage_posts_per_minute", int),
    "SELLER_NAME": ("seller_name", str),
    "SELLER_ADDRESS": ("seller_address", str),
    "SELLER_TAX_ID": ("seller_tax_id", str),
    "PUBLIC_URL": ("public_url", str),
}


def _present(environ: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, (attribute, convert) in _OPTIONAL.items():
        if raw := environ.get(name, ""):
            try:
                values[attribute] = convert(raw)
            except (ValueError, ArithmeticError, LookupError):
                # Not chained: the error would show the value.
                raise BadSetting(f"the environment variable {name} is malformed") from None
    return values
