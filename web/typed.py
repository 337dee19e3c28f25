"""A decoded body as an instance of its type, or every one of its fields that is wrong."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, get_args

import msgspec

from billing.metering import FieldError
from web.problems import InvalidFields

_MOST_ERRORS = 100
_AT_PATH = re.compile(r"^(?P<message>.*) - at `\$(?P<path>.*)`$", re.DOTALL)
_QUOTED = re.compile(r"(?:unknown field|missing required field) `(?P<field>[^`]*)`")
B = TypeVar("B", bound=msgspec.Struct)


def typed(decoded: object, body: type[B]) -> B:
    """Raises InvalidFields that names every field at fault; msgspec itself stops at the first."""
    try:
        return msgspec.convert(decoded, body)
    except msgspec.ValidationError as first:
        errors = list(_errors(decoded, body, "")) if isinstance(decoded, dict) else []
        raise InvalidFields(errors[:_MOST_ERRORS] or [field_error(str(first))]) from None


def field_error(text: str) -> FieldError:
    """What msgspec says about a value, as the field's path and a message."""
    found = _AT_PATH.match(text)
    message, path = (found["message"], found["path"].lstrip(".")) if found else (text, "")
    named = _QUOTED.search(message)
    if named is None:
        return FieldError(path, message[:1].lower() + message[1:])
    field = f"{path}.{named['field']}" if path else named["field"]
    return FieldError(field, "is required" if "missing" in message else "is not known")


def _errors(given: Mapping[str, Any], body: type[msgspec.Struct], prefix: str) -> Iterator[FieldError]:
    known = {field.encode_name: field for field in msgspec.structs.fields(body)}
    for name, field in known.items():
        if name in given:
            yield from _value_errors(given[name], field.type, prefix + name)
        elif field.required:
            yield FieldError(prefix + name, "is required")
    yield from (FieldError(prefix + name, "is not known") for name in given if name not in known)


def _value_errors(value: object, expected: Any, path: str) -> Iterator[FieldError]:
    inner = _struct_in(expected)
    if inner is not None and isinstance(value, dict):
        yield from _errors(value, inner, f"{path}.")
        return
    try:
        msgspec.convert(value, expected)
    except msgspec.ValidationError as error:
        found = field_error(str(error))
        separator = "." if found.field and not found.field.startswith("[") else ""
        yield FieldError(f"{path}{separator}{found.field}", found.message)


def _struct_in(expected: Any) -> type[msgspec.Struct] | None:
    """The object that a field holds, be it optional or not."""
    alternatives = (expected, *get_args(expected))
    found = (each for each in alternatives if isinstance(each, type) and issubclass(each, msgspec.Struct))
    return next(found, None)
