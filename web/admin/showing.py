"""How values are shown on the admin's pages."""

import json
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from flask import Flask

from billing.money import Money, format_money
from web.shapes import plain

_GOOD = frozenset(("active", "paid", "done", "succeeded", "recovered", "sent", "rated"))
_WARN = frozenset(
    (
        "trialing",
        "open",
        "running",
        "waiting",
        "pending",
        "prepared",
        "queued",
        "draft",
        "past_due",
        "unknown",
    )
)
_BAD = frozenset(
    ("dead", "failed", "declined", "refused", "quarantined", "uncollectible", "incomplete_expired", "stopped")
)


def install(app: Flask) -> None:
    """Teach the templates to show our values."""
    app.jinja_env.filters.update(
        instant=instant, money=money, tone=tone, quantity=quantity, pretty=pretty, words=words
    )


def instant(value: datetime | str | None) -> str:
    if value is None:
        return ""
    found = datetime.fromisoformat(value) if isinstance(value, str) else value
    return found.strftime("%Y-%m-%d %H:%M")


def money(minor: int | None, currency: str) -> str:
    return "" if minor is None else format_money(Money(minor, currency))


def tone(state: str) -> str:
    """The colour of a state: good, warn, bad, or none."""
    for name, states in (("good", _GOOD), ("warn", _WARN), ("bad", _BAD)):
        if state in states:
            return name
    return ""


def quantity(value: Any) -> str:
    if isinstance(value, Decimal):
        return plain(value)
    return f"{value:,}" if isinstance(value, int) else str(value)


def pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


def words(name: str) -> str:
    """A column's name as a heading."""
    return name.removesuffix("_at").removesuffix("_minor").replace("_", " ").capitalize()


def split(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A row's plain values, and its nested ones."""
    nested = {name: value for name, value in values.items() if isinstance(value, dict | list) and value}
    return {name: value for name, value in values.items() if name not in nested}, nested
