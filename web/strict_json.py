"""Decoding of untrusted JSON: what two parsers could read differently is refused."""

import json
from collections.abc import Iterator
from decimal import Decimal
from itertools import islice

from billing.metering import FieldError
from web.problems import BadRequest, InvalidFields

# Deep nesting costs a parser stack and nobody's body needs it.
MAX_DEPTH = 16
_MAX_NUMBER_TEXT = 64
_MOST_ERRORS = 100

Path = tuple[str | int, ...]


def decode(body: bytes) -> object:
    """Decode a JSON body: numbers are int or Decimal, never float; texts hold no NUL or lone surrogate.

    Raises InvalidFields naming each text that cannot be stored; BadRequest for anything that is not
    strict JSON: NaN and Infinity, duplicate keys, bad UTF-8, numbers of more than 64 characters, more
    than 16 levels.
    """
    try:
        decoded: object = _DECODER.decode(body.decode("utf-8"))
    except UnicodeDecodeError:
        raise BadRequest("the body is not UTF-8") from None
    except RecursionError:
        raise BadRequest(f"the body nests deeper than {MAX_DEPTH} levels") from None
    except ValueError as error:
        raise BadRequest(f"the body is not JSON: {error}") from None
    _refuse_depth(decoded)
    if b"\\u" in body or b"\0" in body:
        _refuse_unstorable(decoded)
    return decoded


def _pairs(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object names a key twice")
    return found


def _constant(name: str) -> object:
    raise ValueError(f"{name} is not a number")


def _integer(text: str) -> int:
    return int(_short(text))


def _decimal(text: str) -> Decimal:
    return Decimal(_short(text))


def _short(text: str) -> str:
    if len(text) > _MAX_NUMBER_TEXT:
        raise ValueError(f"a number has more than {_MAX_NUMBER_TEXT} characters")
    return text


_DECODER = json.JSONDecoder(
    object_pairs_hook=_pairs, parse_constant=_constant, parse_int=_integer, parse_float=_decimal
)


def _refuse_depth(decoded: object) -> None:
    level: list[object] = [decoded]
    for _ in range(MAX_DEPTH + 1):
        level = [child for value in level for child in _children(value) if isinstance(child, dict | list)]
        if not level:
            return
    raise BadRequest(f"the body nests deeper than {MAX_DEPTH} levels")


def _refuse_unstorable(decoded: object) -> None:
    """Postgres stores neither NUL nor a lone surrogate: refused here, or it would be our failure later."""
    paths = islice(_unstorable(decoded, ()), _MOST_ERRORS)
    if errors := [_named(path) for path in paths]:
        raise InvalidFields(errors)


def _unstorable(value: object, path: Path) -> Iterator[Path]:
    """Where such a text is, or the key that is one."""
    if isinstance(value, str):
        if not _is_storable(value):
            yield path
    elif isinstance(value, dict):
        for key, child in value.items():
            if not _is_storable(key):
                yield (*path, key.replace("\0", "\\0").encode("ascii", "backslashreplace").decode())
            yield from _unstorable(child, (*path, key))
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from _unstorable(child, (*path, index))


def _is_storable(text: str) -> bool:
    return "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)


def _named(path: Path) -> FieldError:
    message = "holds a NUL or a lone surrogate"
    if len(path) > 2 and path[0] == "events" and isinstance(path[1], int):
        return FieldError(_dotted(path[2:]), message, path[1])
    return FieldError(_dotted(path), message)


def _dotted(path: Path) -> str:
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return "".join(parts).lstrip(".")


def _children(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
