"""Every route of the URL map: without a key, with the wrong kind of key, with another organization's ids.

The routes come from the application itself, so that a new one cannot escape.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import event
from werkzeug.routing import Rule

from models.base import new_id
from tests.integration.factories import Quarter
from tests.integration.web_world import WebWorld, web_world
from web.calls import Route
from web.routes import TABLE

KINDS = ("product", "organization", "admin")
KEYS = {"product": "product", "organization": "acme", "admin": "admin"}
UNKNOWN = "01900000-0000-7000-8000-000000000000"
# What a well-formed body looks like, so that a refusal is about the caller and not about the body.
BODIES: dict[str, dict[str, Any]] = {
    "/api/billing/organizations/": {"slug": "initech", "name": "Initech", "email": "a@initech.example"},
    "/api/billing/organizations/<id>/keys/": {"name": "another"},
    "/api/billing/organizations/<id>/keys/<key>/rotate/": {"overlap_s": 3600},
    "/api/billing/organizations/<id>/payment_methods/": {"payment_method": "pm_card_visa"},
    "/api/billing/subscriptions/": {"plan": "flow-pro", "currency": "USD", "interval": "month"},
    "/api/billing/coupons/": {"code": "WELCOME", "name": "Welcome", "percent_off": "10"},
    "/api/billing/tax_rates/": {"code": "de-vat", "name": "VAT", "percentage": "19"},
    "/api/billing/organizations/<id>/credit/": {"amount_minor": 5_00, "reason": "an outage"},
    "/api/billing/usage/correct/": {
        "organization": "acme",
        "event_id": "e1",
        "void": True,
        "reason": "a test",
    },
    "/api/billing/invoices/<id>/credit_notes/": {"reason": "a complaint", "settlement": "credit"},
    "/api/billing/test_clocks/": {"name": "c", "at": "2026-01-01T00:00:00Z"},
    "/api/billing/test_clocks/<id>/advance/": {"to": "2026-02-01T00:00:00Z"},
}
GUARDED = [route for route in TABLE if route.access]


@pytest.fixture(scope="module")
def world() -> Iterator[WebWorld]:
    with web_world("web_matrix") as made:
        for quarter in (made.acme, made.globex):
            _credit(made, quarter)
        yield made


def _credit(world: WebWorld, quarter: Quarter) -> None:
    """A credit note of 1.00 of the first invoice."""
    values = {"organization": quarter.organization_id, "invoice": quarter.invoice_ids[0]}
    world.sql(
        "INSERT INTO tenant.credit_notes (organization_id, id, invoice_id, key, state, number, currency, "
        "subtotal_minor, discount_minor, tax_minor, amount_minor, reduces_due_minor, refund_minor, "
        "credit_minor, out_of_band_minor, reason, created_at, issued_at) "
        "SELECT o.id, gen_random_uuid(), :invoice, 'k', 'issued', upper(o.slug) || '-CN-000001', 'USD', "
        "100, 0, 0, 100, 0, 0, 0, 100, 'a complaint', now(), now() "
        "FROM catalog.organizations o WHERE o.id = :organization",
        **values,
    )


def _note_of(world: WebWorld, quarter: Quarter) -> str:
    rows = world.sql(
        "SELECT id FROM tenant.credit_notes WHERE organization_id = :id", id=quarter.organization_id
    )
    return str(rows[0][0])


def _path(route: Route, values: dict[str, str]) -> str:
    return re.sub(r"<(\w+)>", lambda found: values.get(found[1], UNKNOWN), route.path)


def _call(world: WebWorld, route: Route, path: str, who: str | None) -> Any:
    body = BODIES.get(route.path, {}) if route.method in ("POST", "PATCH") else None
    return world.call(route.method, path, who, json=body)


def test_the_table_is_the_whole_api(world: WebWorld) -> None:
    def is_api(rule: Rule) -> bool:
        return not rule.rule.startswith(("/admin", "/static"))

    rules = {rule.endpoint for rule in world.app.url_map.iter_rules() if is_api(rule)}
    assert rules == {route.endpoint for route in TABLE}


@pytest.mark.parametrize("route", GUARDED, ids=lambda route: route.endpoint)
def test_nobody_passes_without_a_key(world: WebWorld, route: Route) -> None:
    before = world.rows()
    answer = _call(world, route, _path(route, {}), None)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert answer.mimetype == "application/problem+json"
    assert world.rows() == before


@pytest.mark.parametrize("route", GUARDED, ids=lambda route: route.endpoint)
def test_a_key_of_the_wrong_kind_is_forbidden(world: WebWorld, route: Route) -> None:
    before = world.rows()
    for kind in KINDS:
        if kind not in route.access:
            assert _call(world, route, _path(route, {}), KEYS[kind]).status_code == 403
    assert world.rows() == before


def _owned(world: WebWorld) -> dict[str, dict[str, str]]:
    """Ids of Globex, by the route that takes them."""
    invoice = str(world.globex.invoice_ids[0])
    line = world.sql("SELECT id FROM tenant.invoice_lines WHERE invoice_id = :id", id=invoice)[0][0]
    method = world.sql(
        "SELECT id FROM tenant.payment_methods WHERE organization_id = :id", id=world.globex.organization_id
    )[0][0]
    return {
        "/api/billing/organizations/": {"id": str(world.globex.organization_id), "method": str(method)},
        "/api/billing/subscriptions/": {"id": str(world.globex.subscription_id)},
        "/api/billing/invoices/": {"id": invoice, "line": str(line)},
        "/api/billing/credit_notes/": {"id": _note_of(world, world.globex)},
    }


@pytest.mark.parametrize(
    "route",
    [route for route in GUARDED if "organization" in route.access and "<" in route.path],
    ids=lambda route: route.endpoint,
)
def test_anothers_ids_are_as_unknown_as_any(world: WebWorld, route: Route) -> None:
    before = world.rows()
    values = next(ids for prefix, ids in _owned(world).items() if route.path.startswith(prefix))
    anothers = _call(world, route, _path(route, values), "acme")
    unknown = _call(world, route, _path(route, {}), "acme")
    malformed = _call(world, route, _path(route, dict.fromkeys(values, "no-id")), "acme")
    assert anothers.status_code == malformed.status_code == 404
    assert anothers.data == unknown.data
    assert world.rows() == before


@contextmanager
def _asked(world: WebWorld) -> Iterator[list[str]]:
    """The statements that Postgres is asked meanwhile: the same ones take the same time."""
    statements: list[str] = []

    def remember(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        statements.append(statement)

    engines = (world.context.database.engine, world.context.database.single, world.context.auditor.engine)
    for engine in engines:
        event.listen(engine, "before_cursor_execute", remember)
    try:
        yield statements
    finally:
        for engine in engines:
            event.remove(engine, "before_cursor_execute", remember)


def _answer_and_cost(world: WebWorld, call: Callable[[], Any]) -> tuple[int, bytes, list[str]]:
    # The first call may fill what the process remembers for some seconds.
    call()
    with _asked(world) as statements:
        answer = call()
    return answer.status_code, answer.data, statements


@pytest.mark.parametrize(
    "route",
    [route for route in GUARDED if "organization" in route.access and "<" in route.path],
    ids=lambda route: route.endpoint,
)
def test_anothers_ids_cost_what_unknown_ones_cost(world: WebWorld, route: Route) -> None:
    values = next(ids for prefix, ids in _owned(world).items() if route.path.startswith(prefix))
    anothers = _answer_and_cost(world, lambda: _call(world, route, _path(route, values), "acme"))
    unknown = _answer_and_cost(world, lambda: _call(world, route, _path(route, {}), "acme"))
    assert anothers == unknown


# Names in a query that may be an organization's or belong to one, with Globex's value for each.
REFERENCES = ("organization", "subscription", "invoice", "cursor", "page")


@pytest.mark.parametrize(
    ("route", "name"),
    [
        (route, name)
        for route in GUARDED
        if "organization" in route.access
        for name in route.query
        if name in REFERENCES
    ],
    ids=lambda value: value if isinstance(value, str) else value.endpoint,
)
def test_a_query_that_names_anothers_is_answered_as_one_that_names_nobody(
    world: WebWorld, route: Route, name: str
) -> None:
    before = world.rows()
    own = {"id": str(world.acme.subscription_id)}
    if route.path.startswith("/api/billing/invoices/"):
        own = {"id": str(world.acme.invoice_ids[0]), "line": _line_of(world, world.acme.invoice_ids[0])}
    if route.path.startswith("/api/billing/organizations/"):
        own = {"id": "acme"}
    anothers_value = {
        "organization": "globex",
        "subscription": str(world.globex.subscription_id),
        "invoice": str(world.globex.invoice_ids[0]),
        # Newer than all of Acme's rows, as an unknown one of today is: only the sequence counts.
        "cursor": str(world.globex.invoice_ids[-1]),
        "page": str(world.globex.invoice_ids[-1]),
    }[name]
    path = _path(route, own)
    queried = [
        _answer_and_cost(world, partial(world.call, route.method, path, "acme", query_string={name: value}))
        for value in (anothers_value, str(new_id()))
    ]
    assert queried[0] == queried[1]
    assert b"globex" not in queried[0][1].lower()
    assert world.rows() == before


def _line_of(world: WebWorld, invoice_id: UUID) -> str:
    return str(world.sql("SELECT id FROM tenant.invoice_lines WHERE invoice_id = :id", id=invoice_id)[0][0])


@pytest.mark.parametrize(
    "route",
    [route for route in GUARDED if "organization" in route.access and route.method == "GET"],
    ids=lambda route: route.endpoint,
)
def test_no_answer_to_acme_holds_anything_of_globex(world: WebWorld, route: Route) -> None:
    own = {"id": str(world.acme.subscription_id)}
    if route.path.startswith("/api/billing/invoices/"):
        own = {"id": str(world.acme.invoice_ids[0]), "line": _line_of(world, world.acme.invoice_ids[0])}
    if route.path.startswith("/api/billing/organizations/"):
        own = {"id": "acme"}
    if route.path.startswith("/api/billing/credit_notes/"):
        own = {"id": _note_of(world, world.acme)}
    query = {"subscription": own["id"]} if "subscription" in route.query else {}
    answer = world.call("GET", _path(route, own), "acme", query_string=query)
    assert answer.status_code < 300
    marks = [str(value) for ids in _owned(world).values() for value in ids.values()]
    for mark in (*marks, "globex", "Globex", "GLOBEX"):
        assert mark.encode() not in answer.data


@pytest.mark.parametrize("path", ["/api/billing/subscriptions/", "/api/billing/invoices/"])
@pytest.mark.parametrize("reference", ["globex", "{id}"])
def test_anothers_lists_are_unknown(world: WebWorld, path: str, reference: str) -> None:
    named = reference.format(id=world.globex.organization_id)
    anothers = world.call("GET", path, "acme", query_string={"organization": named})
    unknown = world.call("GET", path, "acme", query_string={"organization": "nobody"})
    assert anothers.status_code == 404
    assert anothers.data == unknown.data


def test_nobody_subscribes_for_another(world: WebWorld) -> None:
    before = world.rows()
    body = {**BODIES["/api/billing/subscriptions/"], "organization": "globex"}
    assert world.call("POST", "/api/billing/subscriptions/", "acme", json=body).status_code == 404
    assert world.rows() == before


def test_a_product_asks_about_itself_alone(world: WebWorld) -> None:
    world.sql(
        "INSERT INTO catalog.products (id, code, name, description, icon, color, billing_type, status, "
        "is_public, features) "
        "VALUES (gen_random_uuid(), 'other', 'Other', '', '', '', 'flat', 'active', true, '[]')"
    )
    own = world.call("GET", "/api/billing/access/acme/flow/", "product")
    other = world.call("GET", "/api/billing/access/acme/other/", "product")
    unknown = world.call("GET", "/api/billing/access/acme/nothing/", "product")
    assert own.status_code == 200
    assert other.status_code == 404
    assert other.data == unknown.data


def test_a_batch_of_another_product_is_unknown(world: WebWorld) -> None:
    world.sql(
        "UPDATE ops.usage_inbox b SET product_id = p.id FROM catalog.products p "
        "WHERE p.code = 'other' AND b.id = :id",
        id=world.globex.batch_id,
    )
    own = world.call("GET", f"/api/billing/usage/batches/{world.acme.batch_id}/", "product")
    others = world.call("GET", f"/api/billing/usage/batches/{world.globex.batch_id}/", "product")
    unknown = world.call("GET", f"/api/billing/usage/batches/{UNKNOWN}/", "product")
    assert own.status_code == 200
    assert others.status_code == 404
    assert others.data == unknown.data


@pytest.mark.parametrize("route", TABLE, ids=lambda route: route.endpoint)
def test_a_missing_slash_is_no_other_path(world: WebWorld, route: Route) -> None:
    path = _path(route, {}).rstrip("/")
    assert _call(world, route, path, None).status_code == _call(
        world, route, path + "/", None
    ).status_code or (
        # These are files and probes: they have no slash to miss.
        not route.path.endswith("/")
    )


@pytest.mark.parametrize("route", TABLE, ids=lambda route: route.endpoint)
def test_a_method_that_is_not_there_is_said_to_be_so(world: WebWorld, route: Route) -> None:
    answer = world.call("PUT", _path(route, {}), "admin")
    assert answer.status_code == 405
    assert route.method in answer.headers["Allow"]
