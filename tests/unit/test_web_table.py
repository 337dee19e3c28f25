"""The route table and what is made from it."""

import json
from typing import Any

import msgspec
import pytest

from billing import errors
from billing.metering import FieldError
from gateway import errors as gateway_errors
from web import bodies, problems
from web.log import JsonLines
from web.openapi import document
from web.problems import kind_of
from web.routes import DESCRIBED, TABLE
from web.typed import typed


def test_every_path_of_a_method_stands_once() -> None:
    endpoints = [route.endpoint for route in TABLE]
    assert sorted(endpoints) == sorted(set(endpoints))


def test_who_may_call_without_a_key() -> None:
    assert {route.endpoint for route in TABLE if not route.access} == {
        "POST /api/subscriptions/webhooks/stripe/",
        "GET /api/billing/products/",
        "GET /api/billing/products/<code>/plans/",
        "GET /api/billing/bundles/",
        "GET /health/live",
        "GET /health/ready",
        "GET /api/openapi.json",
        "GET /api/docs/",
    }


def test_every_reference_of_the_openapi_document_leads_somewhere() -> None:
    made = document(DESCRIBED)
    names = {reference.rpartition("/")[2] for reference in _references(made)}
    assert names
    assert names <= set(made["components"]["schemas"])


def test_operations_have_names_of_their_own() -> None:
    made = document(DESCRIBED)
    names = [operation["operationId"] for path in made["paths"].values() for operation in path.values()]
    assert len(names) == len(DESCRIBED)
    assert len(set(names)) == len(names)


def test_the_document_is_json() -> None:
    assert json.loads(msgspec.json.encode(document(DESCRIBED)))["openapi"] == "3.1.0"


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if "$ref" in value else []
        return own + [found for child in value.values() for found in _references(child)]
    return [found for child in value for found in _references(child)] if isinstance(value, list) else []


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"name": 1, "email": "a@b.c", "slug": "a"}, FieldError("name", "expected `str`, got `int`")),
        ({"email": "a@b.c", "slug": "a"}, FieldError("name", "is required")),
        (
            {"name": "A", "email": "a@b.c", "slug": "a", "plan": "x"},
            FieldError("plan", "is not known"),
        ),
        (
            {"name": "A", "email": "a@b.c", "slug": "a", "address": {"planet": "x"}},
            FieldError("address.planet", "is not known"),
        ),
    ],
)
def test_a_wrong_field_is_named(body: dict[str, Any], expected: FieldError) -> None:
    with pytest.raises(problems.InvalidFields) as refusal:
        typed(body, bodies.NewOrganization)
    assert refusal.value.errors == [expected]


def test_every_wrong_field_is_named() -> None:
    address = {"line1": 3, "country": "za", "planet": "x"}
    with pytest.raises(problems.InvalidFields) as refusal:
        typed({"slug": "A B", "name": 1, "zzz": 1, "address": address}, bodies.NewOrganization)
    named = [error.field for error in refusal.value.errors]
    assert named == ["slug", "name", "email", "address.line1", "address.country", "address.planet", "zzz"]


def test_a_wrong_element_is_named_with_its_place() -> None:
    with pytest.raises(problems.InvalidFields) as refusal:
        typed({"name": "k", "scopes": ["read", "all"]}, bodies.NewKey)
    assert [error.field for error in refusal.value.errors] == ["scopes[1]"]


def test_a_body_that_is_no_object_is_refused() -> None:
    with pytest.raises(problems.InvalidFields):
        typed([1], bodies.NewOrganization)


@pytest.mark.parametrize(
    ("refusal", "status"),
    [
        (errors.NotFound("x"), 404),
        (errors.Conflict("x"), 409),
        (errors.InvalidTerms("x"), 422),
        (errors.RefusedTransition("paid", "open", "x"), 409),
        (gateway_errors.Declined("x", code="card_declined"), 402),
        (gateway_errors.Throttled("x"), 503),
        (gateway_errors.Unreachable("x"), 503),
        (gateway_errors.Misconfigured("x"), 502),
        (gateway_errors.InvalidSignature("x"), 400),
        (errors.BillingError("of a sort that nobody listed"), 422),
    ],
)
def test_a_refusal_has_its_status(refusal: errors.BillingError, status: int) -> None:
    assert kind_of(refusal).status == status


def test_what_we_depend_on_is_not_told_to_callers() -> None:
    _, content = problems.told(gateway_errors.Misconfigured("the key sk_test_123 was revoked"))
    assert "sk_test" not in json.dumps(content)


def test_a_log_record_is_one_line_of_json() -> None:
    import logging

    record = logging.LogRecord("x", logging.INFO, "f", 1, "two\nlines", None, None)
    record.fields = {"status": 200}
    line = JsonLines().format(record)
    assert "\n" not in line
    assert json.loads(line)["status"] == 200
