"""What the installed SDK says about Stripe's API: its routes, and the types of parameters and of objects.

The SDK is generated from Stripe's own description of exactly the pinned API version, so its types are a judge
that we did not write. It does not validate at run time; this module only reads what it declares.
"""

import ast
import functools
import importlib
import inspect
import re
import sys
import typing
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import stripe
from stripe._object_classes import OBJECT_CLASSES
from stripe._request_options import RequestOptions

_SDK = Path(stripe.__file__).parent


@dataclass(frozen=True)
class SdkRoute:
    """One call of the API: how its path looks, which TypedDict its parameters have, what it returns."""

    method: str
    path: re.Pattern[str]
    params: type | None
    returns: Any

    @property
    def is_literal(self) -> bool:
        """Whether the path has no id in it; such a route wins over one that would take its name for an id."""
        return "[^/]+" not in self.path.pattern


@functools.cache
def route(method: str, path: str) -> SdkRoute | None:
    """The route that a call of ours takes, None when Stripe has none."""
    for service, function in _functions().get(method.lower(), ()):
        if function.path.fullmatch(path):
            namespace = _namespace(importlib.import_module(service))
            params = namespace[function.params] if function.params else None
            holder = type("Holder", (), {"__annotations__": {"returns": function.returns}})
            returns = typing.get_type_hints(holder, globalns=namespace)["returns"]
            return SdkRoute(method, function.path, params, returns)
    return None


def routes_known() -> int:
    """How many routes were read: a guard against an SDK whose files have another form."""
    return sum(len(functions) for functions in _functions().values())


@functools.cache
def parameters(params: type) -> tuple[dict[str, Any], frozenset[str]]:
    """The types of a TypedDict's keys, and which are required; the options of the SDK itself are left out."""
    # Inherited keys are resolved here too; one of RequestOptions names a class that only its module imports.
    namespace = {"StripeContext": object} | _namespace(sys.modules[params.__module__])
    hints = typing.get_type_hints(params, globalns=namespace)
    options = set(RequestOptions.__annotations__)
    required = frozenset(params.__required_keys__)  # type: ignore[attr-defined]
    return {name: hint for name, hint in hints.items() if name not in options}, required - options


@functools.cache
def fields(resource: type) -> dict[str, Any]:
    """The types of a resource's fields, its own and those of its parents within the SDK."""
    found: dict[str, Any] = {}
    for parent in reversed(resource.__mro__):
        own = {
            name: hint
            for name, hint in inspect.get_annotations(parent).items()
            if not name.startswith("_") and "ClassVar" not in str(hint)
        }
        if own and parent.__module__.startswith("stripe.") and parent is not stripe.StripeObject:
            holder = type("Holder", (), {"__annotations__": own})
            namespace = _namespace(sys.modules[parent.__module__])
            found.update(typing.get_type_hints(holder, globalns=namespace))
    return found


def resource(object_name: str) -> type | None:
    """The class of an object by the word in its field `object`; None for a word that Stripe does not use."""
    if object_name not in OBJECT_CLASSES:
        return None
    module, name = OBJECT_CLASSES[object_name]
    found: type = getattr(importlib.import_module(module), name)
    return found


@dataclass(frozen=True)
class _Function:
    path: re.Pattern[str]
    params: str | None
    returns: str


@functools.cache
def _functions() -> dict[str, list[tuple[str, _Function]]]:
    """Every route by method, literal paths first, with the module that declares it."""
    found: dict[str, list[tuple[str, _Function]]] = {}
    for file in sorted(_SDK.rglob("_*_service.py")):
        module = ".".join(("stripe", *file.relative_to(_SDK).with_suffix("").parts))
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and (called := _called(node)):
                method, function = called
                found.setdefault(method, []).append((module, function))
    for functions in found.values():
        functions.sort(key=lambda entry: "[^/]+" in entry[1].path.pattern)
    return found


def _called(function: ast.FunctionDef) -> tuple[str, _Function] | None:
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "self._request":
            words = [n.value for n in ast.walk(ast.Tuple(node.args[:2])) if isinstance(n, ast.Constant)]
            if len(words) < 2 or not str(words[1]).startswith("/v1/"):
                return None
            pattern = re.sub(r"\\{\w+\\}", "[^/]+", re.escape(str(words[1])))
            annotations = {arg.arg: arg.annotation for arg in function.args.args}
            params = annotations.get("params")
            named = re.search(r"\w+Params", ast.unparse(params)) if params else None
            returns = ast.literal_eval(function.returns) if function.returns else "None"
            return str(words[0]), _Function(re.compile(pattern), named[0] if named else None, returns)
    return None


@functools.cache
def _namespace(module: ModuleType) -> dict[str, Any]:
    """A module's names, with those that it imports for type checkers only."""
    names = dict(vars(typing)) | dict(vars(module))
    for node in ast.walk(ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("stripe"):
            source = importlib.import_module(node.module)
            for alias in node.names:
                names[alias.asname or alias.name] = getattr(source, alias.name, None)
    return names
