"""Form bodies: `items[0][price_data][recurring][interval]=month` to nested dicts and lists, types checked.

A `Shape` names what one operation accepts: a dict of names to types, a list of one type, or a scalar.
"""

import re
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qsl

from .errors import ApiError, malformed

STR: Final = "string"
INT: Final = "integer"
BOOL: Final = "boolean"
DECIMAL: Final = "decimal"
HASH: Final = "hash"
"""Free names with string values: metadata."""
ANY: Final = "any"
"""Accepted and kept as it comes."""

Shape: TypeAlias = "str | dict[str, Shape] | list[Shape]"

_PART = re.compile(r"\[([^\[\]]*)\]")
_TRUE_FALSE = {"true": True, "false": False}
_MAX_ABS_INT = 10**13


def parse_pairs(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Nest the pairs of a form.

    Lists may be indexed (`a[0]`) or bare (`a[]`); they come out as lists.
    Raises: ApiError 400 when a name is used both as a value and as a container.
    """
    root: dict[str, Any] = {}
    for name, value in pairs:
        head, _, tail = name.partition("[")
        path = [head, *_PART.findall("[" + tail)] if tail else [head]
        _place(root, path, value, name)
    nested: dict[str, Any] = _lists(root)
    return nested


def parse_body(body: str) -> dict[str, Any]:
    """Nest a urlencoded body or query string."""
    return parse_pairs(parse_qsl(body, keep_blank_values=True))


def _place(root: dict[str, Any], path: list[str], value: str, name: str) -> None:
    node = root
    for part in path[:-1]:
        key = part or str(len(node))
        child = node.setdefault(key, {})
        if not isinstance(child, dict):
            raise malformed(f"Invalid request parameter: {name}", param=name)
        node = child
    last = path[-1] or str(len(node))
    if isinstance(node.get(last), dict):
        raise malformed(f"Invalid request parameter: {name}", param=name)
    node[last] = value


def _lists(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    children = {key: _lists(value) for key, value in node.items()}
    if children and all(key.isdigit() for key in children):
        return [children[key] for key in sorted(children, key=int)]
    return children


def check(value: Any, shape: Shape, name: str = "") -> Any:
    """`value` with its scalars typed after `shape`; an empty string stays one (it clears a field).

    Raises: ApiError 400 `parameter_unknown`, `parameter_invalid_integer` and their kin, with the parameter's
    full name.
    """
    if isinstance(shape, dict):
        return _check_dict(value, shape, name)
    if isinstance(shape, list):
        if value == "":
            return value
        if not isinstance(value, list):
            raise malformed("Invalid array", param=name)
        return [check(item, shape[0], f"{name}[{index}]") for index, item in enumerate(value)]
    return _scalar(value, shape, name)


def _check_dict(value: Any, shape: dict[str, Shape], name: str) -> Any:
    if value == "" and name:
        return value
    if not isinstance(value, dict):
        raise malformed("Invalid object", param=name)
    checked = {}
    for key, item in value.items():
        full = f"{name}[{key}]" if name else key
        if key in shape:
            checked[key] = check(item, shape[key], full)
        elif "*" in shape:
            checked[key] = check(item, shape["*"], full)
        else:
            raise malformed(f"Received unknown parameter: {full}", param=full, code="parameter_unknown")
    return checked


def _scalar(value: Any, shape: str, name: str) -> Any:
    if shape == ANY:
        return value
    if shape == HASH:
        return _hash(value, name)
    if not isinstance(value, str):
        raise malformed(f"Invalid {shape}: {value!r}", param=name)
    if value == "" or shape == STR:
        return value
    if shape == BOOL:
        if value not in _TRUE_FALSE:
            raise malformed(f"Invalid boolean: {value}", param=name)
        return _TRUE_FALSE[value]
    return _integer(value, name) if shape == INT else _decimal(value, name)


def _hash(value: Any, name: str) -> Any:
    if value == "":
        return value
    if isinstance(value, list):
        # Metadata whose every key is a number looks like an indexed list.
        value = {str(index): item for index, item in enumerate(value)}
    if not isinstance(value, dict) or any(not isinstance(item, str) for item in value.values()):
        raise malformed("Invalid hash", param=name)
    if len(value) > 50 or any(len(key) > 40 for key in value):
        raise malformed("Metadata can have up to 50 keys of up to 40 characters each.", param=name)
    for key, item in value.items():
        if len(item) > 500:
            message = f"Metadata values can have up to 500 characters; this one has {len(item)}"
            raise malformed(message, param=f"{name}[{key}]")
    return value


def _integer(value: str, name: str) -> int:
    if re.fullmatch(r"[+-]?\d{1,14}", value) is None or abs(int(value)) > _MAX_ABS_INT:
        raise _bad_number("Invalid integer", value, name, "parameter_invalid_integer")
    return int(value)


def _decimal(value: str, name: str) -> Decimal:
    # Stripe's decimals are plain digits: an exponent is refused, as the real API does.
    if re.fullmatch(r"[+-]?\d{1,20}(\.\d{1,12})?", value) is None:
        raise _bad_number("Invalid decimal", value, name, None)
    try:
        return Decimal(value)
    except InvalidOperation as error:
        raise _bad_number("Invalid decimal", value, name, None) from error


def _bad_number(what: str, value: str, name: str, code: str | None) -> ApiError:
    return malformed(f"{what}: {value}", param=name, code=code)
