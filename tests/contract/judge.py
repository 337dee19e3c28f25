"""Holds requests, replies and events against the types of the installed SDK, which Stripe generates.

    check_request("POST", "/v1/invoices/in_1/pay", {"off_session": "true"})  -> []: nothing wrong
    check_object({"object": "invoice", ...})  -> ["invoice.total: is missing", ...]
    check_reply("GET", "/v1/invoices", {...}), check_event({...}), check_error({...})  -> the same

Form bodies must be decoded first (nested dicts and lists; scalars may still be strings). What it cannot see:
fields that are required only when another is absent, whether a nullable field is always present, behaviour.
"""

import re
import types
import typing
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Literal

import stripe
import typing_extensions
from stripe._stripe_object import UntypedStripeObject

from tests.contract import sdk

API_VERSION: str = stripe.api_version or ""

_INTEGER = re.compile(r"-?\d+")
_DECIMAL = re.compile(
    r"-?\d+(\.\d+)?"
)  # 1.25E-7 is what the SDK sends for a careless Decimal; Stripe refuses it


def check_request(method: str, path: str, params: Mapping[str, Any] | None = None) -> list[str]:
    """What is wrong with a call: an unknown route, names, values or expansions that Stripe does not have."""
    route = sdk.route(method.lower(), path)
    if route is None:
        return [f"{method.upper()} {path}: there is no such route"]
    given = dict(params or {})
    if route.params is None:
        return [f"{name}: the route takes no parameters" for name in given]
    problems = _typed_dict(route.params, given, "")
    for expansion in _as_list(given.get("expand", [])) or []:
        problems += _expansion(str(expansion), route.returns)
    return [problem.lstrip(".") for problem in problems]


def check_object(candidate: Mapping[str, Any]) -> list[str]:
    """What is wrong with an object of any kind, told by its field `object`; expanded parts are judged too."""
    name = candidate.get("object")
    if name == "list":
        return _list((dict,), candidate, "list")
    resource = sdk.resource(str(name))
    if resource is None:
        return [f"object: {name!r} is no object of Stripe's"]
    return _resource(resource, candidate, str(name))


def check_reply(method: str, path: str, reply: Mapping[str, Any]) -> list[str]:
    """What is wrong with the reply to a call: its kind, and everything that check_object sees."""
    route = sdk.route(method.lower(), path)
    if route is None:
        return [f"{method.upper()} {path}: there is no such route"]
    return _value(route.returns, reply, "reply", is_request=False)


def check_event(event: Mapping[str, Any]) -> list[str]:
    """What is wrong with an event: envelope, type, version, object, and names of previous attributes."""
    problems = check_object(event)
    if event.get("object") != "event":
        return [*problems, f"event.object: {event.get('object')!r} is no event"]
    if event.get("api_version") != API_VERSION:
        problems.append(f"event.api_version: {event.get('api_version')!r} is not {API_VERSION}")
    about = event.get("data", {}).get("object", {})
    problems += [f"event.data.object: {problem}" for problem in check_object(about)]
    resource = sdk.resource(str(about.get("object")))
    known = sdk.fields(resource) if resource else {}
    before = event.get("data", {}).get("previous_attributes") or {}
    return problems + [f"event.previous_attributes.{name}: unknown" for name in before if name not in known]


def check_error(body: Mapping[str, Any]) -> list[str]:
    """What is wrong with the body of a refusal."""
    error = body.get("error")
    if set(body) != {"error"} or not isinstance(error, Mapping):
        return ["error: a refusal is an object with the one key `error`"]
    return _resource(stripe.ErrorObject, error, "error")


def _value(hint: Any, value: Any, where: str, *, is_request: bool) -> list[str]:
    """What is wrong with a value of a declared type."""
    if hint is Any:
        return []
    origin = typing.get_origin(hint)
    if origin is not None:
        return _GENERIC[origin](typing.get_args(hint), value, where, is_request=is_request)
    if typing_extensions.is_typeddict(hint):
        return _typed_dict(hint, value, where)
    if isinstance(hint, type) and issubclass(hint, stripe.StripeObject):
        return _resource(hint, value, where)
    return _scalar(hint, value, where, is_request=is_request)


def _literal(args: tuple[Any, ...], value: Any, where: str, *, is_request: bool) -> list[str]:
    written = [str(arg).lower() for arg in args if isinstance(arg, bool)] if is_request else []
    return [] if value in args or value in written else [f"{where}: {value!r} is none of {_short(args)}"]


def _union(args: tuple[Any, ...], value: Any, where: str, *, is_request: bool) -> list[str]:
    if value is None and type(None) in args:
        return []
    arms = [arg for arg in args if arg is not type(None)]
    named = [word for arm in arms if typing.get_origin(arm) is Literal for word in typing.get_args(arm)]
    if any(named):
        # An open enum, `Literal["a", "b"] | str`, is closed here: a misspelt value would pass for a new one.
        arms = [arm for arm in arms if arm is not str]
    if isinstance(value, Mapping) and not is_request:
        # An expanded object is judged as what it says it is, if that is one of the arms.
        matching = [arm for arm in arms if getattr(arm, "OBJECT_NAME", None) == value.get("object")]
        arms = matching or arms
    verdicts = [_value(arm, value, where, is_request=is_request) for arm in arms]
    if any(not verdict for verdict in verdicts):
        return []
    # The arm that goes deepest says most about what is wrong; the others only say "not a string".
    return max(verdicts, key=lambda verdict: (_depth(verdict[0]), len(verdict)))


def _scalar(hint: Any, value: Any, where: str, *, is_request: bool) -> list[str]:
    """A scalar: strict in replies; in requests a string may stand for what a form cannot say otherwise."""
    if hint is str:
        fits = isinstance(value, str)
    elif hint is bool:
        fits = isinstance(value, bool) or (is_request and value in ("true", "false"))
    elif hint is int:
        fits = _is_int(value) or (is_request and isinstance(value, str) and bool(_INTEGER.fullmatch(value)))
    elif hint is float:
        fits = _is_int(value) or isinstance(value, float) or (is_request and _is_decimal(value))
    elif hint is Decimal:
        fits = _is_decimal(value) or (is_request and _is_int(value))
    else:
        return [f"{where}: the judge does not know the type {hint!r}"]
    return [] if fits else [f"{where}: {_short(value)} is no {hint.__name__}"]


def _array(args: tuple[Any, ...], value: Any, where: str, *, is_request: bool) -> list[str]:
    entries = _as_list(value)
    if entries is None:
        return [f"{where}: {_short(value)} is no list"]
    if is_request and not entries:
        return [f"{where}: an empty list is never sent; an empty string clears"]
    return [
        problem
        for place, entry in enumerate(entries)
        for problem in _value(args[0], entry, f"{where}[{place}]", is_request=is_request)
    ]


def _dictionary(args: tuple[Any, ...], value: Any, where: str, *, is_request: bool) -> list[str]:
    if not isinstance(value, Mapping):
        return [f"{where}: {_short(value)} is no object"]
    return [
        problem
        for name, entry in value.items()
        for problem in _value(args[-1], entry, f"{where}.{name}", is_request=is_request)
    ]


def _typed_dict(hint: type, value: Any, where: str) -> list[str]:
    if not isinstance(value, Mapping):
        return [f"{where}: {_short(value)} is no object"]
    hints, required = sdk.parameters(hint)
    problems = [f"{where}.{name}: is missing" for name in sorted(required - set(value))]
    for name, entry in value.items():
        if name not in hints:
            problems.append(f"{where}.{name}: Stripe has no such parameter")
        elif entry is None:
            problems.append(f"{where}.{name}: null is never sent; an empty string clears")
        else:
            problems += _value(hints[name], entry, f"{where}.{name}", is_request=True)
    return problems


def _resource(hint: type, value: Any, where: str) -> list[str]:
    if not isinstance(value, Mapping):
        return [f"{where}: {_short(value)} is no object"]
    if value.get("deleted") is True:
        extra = set(value) - {"id", "object", "deleted"}
        return [f"{where}.{name}: a deleted object has only id, object, deleted" for name in sorted(extra)]
    hints = sdk.fields(hint)
    if not hints:
        return []  # a bare StripeObject: any content
    problems = [f"{where}.{name}: Stripe has no such field" for name in value if name not in hints]
    for name, declared in hints.items():
        if name in value:
            problems += _value(declared, value[name], f"{where}.{name}", is_request=False)
        elif type(None) not in typing.get_args(declared):
            problems.append(f"{where}.{name}: is missing")
    return problems


def _list(args: tuple[Any, ...], value: Any, where: str, *, is_request: bool = False) -> list[str]:
    if not isinstance(value, Mapping) or value.get("object") != "list":
        return [f"{where}: {_short(value)} is no list object"]
    problems = [f"{where}.{name}: is missing" for name in ("data", "has_more", "url") if name not in value]
    problems += [
        f"{where}.{name}: a list has no such field"
        for name in value
        if name not in ("object", "data", "has_more", "url", "total_count")
    ]
    if problems:
        return problems
    problems += _scalar(bool, value["has_more"], f"{where}.has_more", is_request=False)
    problems += _scalar(str, value["url"], f"{where}.url", is_request=False)
    for place, entry in enumerate(value["data"]):
        here = f"{where}.data[{place}]"
        if args[0] is dict:
            problems += [f"{here}: {problem}" for problem in check_object(entry)]
        else:
            problems += _value(args[0], entry, here, is_request=is_request)
    return problems


def _expansion(path: str, returns: Any) -> list[str]:
    """Whether the path of an expansion leads through fields that exist, to at most four levels."""
    steps = path.split(".")
    if len(steps) > 4:
        return [f"expand: {path} goes deeper than four levels"]
    here = {returns}
    for step in steps:
        here = {arm for hint in here for arm in _classes(hint)}
        plain = [hint for hint in here if isinstance(hint, type)]
        here = {sdk.fields(hint)[step] for hint in plain if step in sdk.fields(hint)} | {
            entry for hint in here if step == "data" for entry in _entries(hint)
        }
        if not here:
            return [f"expand: {path} has no step {step}"]
    return []


def _classes(hint: Any) -> set[Any]:
    """The resource classes that a type may stand for, a list object among them."""
    if typing.get_origin(hint) is stripe.ListObject:
        return {hint}
    if isinstance(hint, type) and issubclass(hint, stripe.StripeObject):
        return {hint}
    return {found for arg in typing.get_args(hint) if arg is not type(None) for found in _classes(arg)}


def _entries(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) is stripe.ListObject else ()


def _depth(problem: str) -> int:
    place = problem.partition(": ")[0]
    return place.count(".") + place.count("[")


_GENERIC: dict[Any, Callable[..., list[str]]] = {
    typing.Union: _union,
    types.UnionType: _union,
    Literal: _literal,
    list: _array,
    dict: _dictionary,
    UntypedStripeObject: _dictionary,
    stripe.ListObject: _list,
}


def _as_list(value: Any) -> list[Any] | None:
    """A list, also one that a form wrote as {"0": ..., "1": ...}."""
    if isinstance(value, list):
        return value
    if isinstance(value, Mapping) and value and all(str(key).isdecimal() for key in value):
        return [value[key] for key in sorted(value, key=lambda key: int(str(key)))]
    return None


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_decimal(value: Any) -> bool:
    return isinstance(value, str) and bool(_DECIMAL.fullmatch(value))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
