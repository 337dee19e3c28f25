"""Decoding of untrusted JSON: what two parsers could read differently is refused."""

import json
from collections.abc import Iterator
from decimal import Decimal

from web.problems import BadRequest

# Deep nesting costs a parser stack and nobody's body needs it.
MAX_DEPTH = 16
_MAX_NUMBER_TEXT = 64


def decode(body: bytes) -> object:
    """Decode a JSON body: numbers are int or Decimal, never float; texts hold no NUL or lone surrogate.

    Raises BadRequest for anything that is not strict JSON: NaN and Infinity, duplicate keys, bad
    UTF-8, numbers of more than 64 characters, more than 16 levels.
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
    for text in _texts(decoded):
        if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
            raise BadRequest("a text holds a NUL or a lone surrogate")


def _children(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from value
    for child in _children(value):
        yield from _texts(child)
