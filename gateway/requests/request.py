"""What a request is: plain JSON, stored in a row before the call and sent again unchanged."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Request:
    """One intention: a key of gateway.operations.OPERATIONS, the object acted upon, and the exact parameters.

    `params` holds str, int, bool, list and dict only. Decimals are strings in plain notation: the SDK would
    send `Decimal("0.000000125")` as `1.25E-7`. Amounts are integers in minor units, instants Unix seconds.
    """

    operation: str
    object_id: str | None = None
    params: dict[str, Any] = field(default_factory=dict)


def given(**params: object) -> dict[str, Any]:
    """The parameters that were given. None is left out: to clear a field Stripe wants an empty string."""
    return {name: value for name, value in params.items() if value is not None}


def as_metadata(entries: Mapping[str, object] | None) -> dict[str, str] | None:
    """Metadata as Stripe keeps it: strings under at most 50 keys. None stays None."""
    if entries is None:
        return None
    if len(entries) > 50:
        raise ValueError(f"Stripe keeps at most 50 metadata keys, got {len(entries)}")
    return {key: str(value) for key, value in entries.items()}


def listed(values: object) -> list[Any] | None:
    """A sequence as a list, None for none: Stripe's SDK drops an empty list silently, so we do it openly."""
    return list(values) or None if isinstance(values, (list, tuple)) else None
