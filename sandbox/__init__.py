"""A local Stripe: its own process, its own state, the API of one pinned version."""

from typing import Any, TypeAlias

Doc: TypeAlias = dict[str, Any]
"""One API object, as JSON. Keys that start with `_` are the sandbox's own and never leave it."""

API_VERSION = "2026-10-28.endive"
