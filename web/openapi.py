"""The OpenAPI document, made from the route table and the types of its bodies; and a page that shows it."""

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

import msgspec
from flask import render_template

from web import shapes
from web.calls import PUBLIC, Answer, Call, Route
from web.problems import PROBLEM_TYPE

_IN_PATH = re.compile(r"<(\w+)>")
_REFERENCE = "#/components/schemas/{name}"
_REFUSALS = {
    400: "The request cannot be read",
    401: "A valid key is required",
    402: "The payment was declined",
    403: "This key may not do this",
    429: "More than this key or address may ask; see Retry-After",
    404: "Unknown, or another organization's: the two look the same",
    409: "In conflict with what is stored",
    413: "The body is too large",
    415: "The body's type or encoding is not supported",
    422: "One or more fields are not valid; each is named",
    503: "Not available at the moment; see Retry-After",
}
_WITH_BODY = (400, 413, 415, 422)


def routes(described: Sequence[Route]) -> tuple[Route, ...]:
    """The two routes that describe the others."""

    @cache
    def encoded() -> bytes:
        return msgspec.json.encode(document(described))

    def as_json(_: Call) -> Answer:
        return Answer(encoded(), headers={"Cache-Control": "public, max-age=300"})

    def as_page(_: Call) -> Answer:
        described_here = document(described)
        page = render_template("docs.html", document=described_here, groups=_by_tag(described_here))
        return Answer(page.encode(), content_type="text/html; charset=utf-8")

    return (
        Route(
            method="GET",
            path="/api/openapi.json",
            view=as_json,
            access=PUBLIC,
            summary="This API, described",
            tag="Documents",
        ),
        Route(
            method="GET",
            path="/api/docs/",
            view=as_page,
            access=PUBLIC,
            summary="This API, to read",
            tag="Documents",
        ),
    )


def document(described: Sequence[Route]) -> dict[str, Any]:
    """The OpenAPI 3.1 document of the described routes."""
    types = {kind for route in described for kind in (*route.bodies, route.answer) if kind}
    wanted = [*sorted(types, key=str), shapes.Problem]
    references, components = msgspec.json.schema_components(wanted, ref_template=_REFERENCE)
    schemas = dict(zip(wanted, references, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in described:
        path = _IN_PATH.sub(r"{\1}", route.path)
        paths.setdefault(path, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Dunlin",
            "version": "1",
            "description": "Billing of several products sold to the same organizations. "
            "Amounts are integers in minor units; unit prices and quantities are decimal strings.",
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A key: `dk_test_...` or `dk_live_...`",
                }
            },
        },
    }


def _by_tag(described: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            for tag in operation["tags"]:
                groups.setdefault(tag, []).append({"path": path, "method": method, "operation": operation})
    return groups


def _operation(route: Route, schemas: dict[Any, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": f"{route.view.__module__.rpartition('.')[2]}_{route.view.__name__}",
        "summary": route.summary,
        "tags": [route.tag],
        "parameters": _parameters(route),
        "responses": _responses(route, schemas),
        "security": [{"key": []}] if route.access else [],
    }
    if route.access:
        operation["description"] = f"Keys: {', '.join(sorted(route.access))}."
    bodies = [schemas[body] for body in route.bodies]
    if bodies:
        schema = bodies[0] if len(bodies) == 1 else {"anyOf": bodies}
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return operation


def _parameters(route: Route) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in _IN_PATH.findall(route.path)
    ]
    for name, meaning in route.query.items():
        schema: dict[str, Any] = {"type": "string"}
        if name == "limit":
            schema = {"type": "integer", "minimum": 1, "maximum": 200, "default": 50}
        found.append({"name": name, "in": "query", "description": meaning, "schema": schema})
    if route.takes_key:
        found.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "description": "1 to 255 visible characters; a repeat gets the first answer, "
                "also after a 5xx or none",
                "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
            }
        )
    return found


def _responses(route: Route, schemas: dict[Any, Any]) -> dict[str, Any]:
    good: dict[str, Any] = {"description": "Done"}
    if route.answer is not None:
        good["content"] = {"application/json": {"schema": schemas[route.answer]}}
    elif route.status != 204:
        good["content"] = {route.content_type: {"schema": {"type": "string"}}}
    refusals = set(route.refusals) | ({401, 403, 429} if route.access else set())
    if route.bodies:
        refusals |= set(_WITH_BODY)
    if route.query:
        refusals.add(422)
    if route.takes_key and route.keeps_answer:
        refusals |= {409, 422}
    answers: dict[str, Any] = {str(route.status): good}
    for status in sorted(refusals):
        answers[str(status)] = {
            "description": _REFUSALS[status],
            "content": {PROBLEM_TYPE: {"schema": schemas[shapes.Problem]}},
        }
    return answers
