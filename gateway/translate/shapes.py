"""Reading JSON of Stripe without trusting it: every miss is a MalformedPayload that names its field."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from gateway.errors import MalformedPayload

Shape = Mapping[str, Any]

# Every release of these trains carries the shapes that this package reads; the two of 2024 without a train
# name are shaped like acacia. Anything else is parked.
_KNOWN_TRAINS = frozenset({"acacia", "basil", "clover", "dahlia", "endive"})
_KNOWN_UNNAMED = frozenset({"2024-04-10", "2024-06-20"})


def is_known_version(version: object) -> bool:
    """Whether payloads of this API version have a shape that we have learnt."""
    if not isinstance(version, str):
        return False
    date, _, train = version.partition(".")
    return version in _KNOWN_UNNAMED or (len(date) == 10 and train in _KNOWN_TRAINS)


def needed(shape: Shape, name: str) -> Any:
    """A field that every version has. Raises MalformedPayload when it is absent or null."""
    value = shape.get(name)
    if value is None:
        raise MalformedPayload(f"{shape.get('object', 'object')} lacks {name}", field=name)
    return value


def whole(shape: Shape, name: str) -> int:
    """An amount or count, 0 when null or absent. Raises MalformedPayload for what is no integer."""
    value = shape.get(name)
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int):
        raise MalformedPayload(f"{name} is no integer", field=name)
    return value


def text(shape: Shape, name: str) -> str | None:
    """A string, None when null, absent or empty."""
    value = shape.get(name)
    return value if isinstance(value, str) and value else None


def reference(value: object) -> str | None:
    """The id of an object, whether it came as an id or expanded."""
    if isinstance(value, str):
        return value or None
    if isinstance(value, Mapping):
        inner = value.get("id")
        return inner if isinstance(inner, str) else None
    return None


def inner(shape: Shape, *path: str) -> Shape:
    """The object at the end of `path`; an empty one when any step is null, absent or only an id."""
    found: object = shape
    for step in path:
        found = found.get(step) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def rows(shape: Shape, name: str) -> Sequence[Shape]:
    """The objects of an embedded list, a page ({"data": [...]}) or a plain array; mere ids are left out."""
    value = shape.get(name)
    if isinstance(value, Mapping):
        value = value.get("data")
    return [row for row in value if isinstance(row, Mapping)] if isinstance(value, list) else []


def total_of(shape: Shape, name: str) -> int:
    """The sum of `amount` over an embedded list."""
    return sum(whole(row, "amount") for row in rows(shape, name))


def instant(seconds: object) -> datetime | None:
    """Unix seconds as an aware UTC instant; None stays None. Raises MalformedPayload for anything else."""
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, int) or not 0 <= seconds < 32_503_680_000:
        raise MalformedPayload(f"{seconds!r} is no instant between 1970 and 3000")
    return datetime.fromtimestamp(seconds, tz=UTC)


def needed_instant(shape: Shape, name: str) -> datetime:
    """An instant that every version has. Raises MalformedPayload when it is absent, null or out of range."""
    found = instant(needed(shape, name))
    assert found is not None
    return found


def words(shape: Shape, name: str = "metadata") -> dict[str, str]:
    """Metadata: text under text, empty when null."""
    return {str(key): str(value) for key, value in inner(shape, name).items()}
