"""The table of operations: method and path to a handler and the parameters that it accepts."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from . import Doc
from .errors import ApiError
from .forms import INT, STR, Shape
from .world import World


@dataclass(frozen=True)
class Call:
    """One request: the world to act in, the ids of its path, its typed parameters, the paths to expand."""

    world: World
    ids: tuple[str, ...]
    params: dict[str, Any]


@dataclass(frozen=True)
class Page:
    """What a list handler answers: which documents, and the filters beyond the columns.

    `where` and `values` are SQL on the objects table, written in the resource files only.
    """

    url: str
    where: str
    values: list[object]


class Rehearsal(Exception):
    """Carries the reply of an operation that was worked out for real and is to be undone (a preview)."""

    def __init__(self, reply: Doc) -> None:
        super().__init__("a preview")
        self.reply = reply


Handler: TypeAlias = Callable[[Call], "Doc | Page | tuple[Doc, list[Doc]]"]
"""Answers a stored document, a page of them, or a ready list (an envelope and its rendered items)."""


@dataclass(frozen=True)
class Operation:
    """One line of the API."""

    method: str
    pattern: str
    handler: Handler
    shape: dict[str, Shape]
    regex: re.Pattern[str]

    @property
    def name(self) -> str:
        return f"{self.method} {self.pattern}"


LISTING: dict[str, Shape] = {"limit": INT, "starting_after": STR, "ending_before": STR}
CREATED: Shape = {"gt": INT, "gte": INT, "lt": INT, "lte": INT}


class Router:
    """Operations, filled by the resource files when they are imported."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []

    def on(
        self, method: str, pattern: str, shape: dict[str, Shape] | None = None
    ) -> Callable[[Handler], Handler]:
        """Register the decorated function for `method` and `pattern`; `{id}` marks a path id."""
        regex = re.compile("^" + re.sub(r"\{[a-z_]+\}", r"([^/]+)", pattern) + "$")

        def register(handler: Handler) -> Handler:
            full: dict[str, Shape] = {**(shape or {}), "expand": [STR]}
            self.operations.append(Operation(method, pattern, handler, full, regex))
            return handler

        return register

    def match(self, method: str, path: str) -> tuple[Operation, tuple[str, ...]]:
        """The operation for a request, and its path ids. Fixed paths win over those with ids.

        Raises: ApiError 404.
        """
        found = [
            (op, match) for op in self.operations if op.method == method and (match := op.regex.match(path))
        ]
        if not found:
            message = f"Unrecognized request URL ({method}: {path}). The sandbox does not have it."
            raise ApiError(404, "invalid_request_error", message, saved=False)
        operation, match = min(found, key=lambda pair: len(pair[1].groups()))
        return operation, match.groups()


api = Router()
