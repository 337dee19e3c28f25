"""Usage over HTTP after the door: corrections, conflicts, accounts; each product sees its own."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from werkzeug.test import TestResponse

from models.base import new_id
from tasks import accounts, keys
from tests.integration.web_world import WebWorld, web_world

CORRECT = "/api/billing/usage/correct/"
CONFLICTS = "/api/billing/usage/conflicts/"
ACCOUNTS = "/api/billing/usage/accounts/"


@pytest.fixture(scope="module")
def world() -> Iterator[WebWorld]:
    with web_world("web_usage") as made:
        made.sql(
            "INSERT INTO catalog.products (id, code, name, description, icon, color, billing_type, "
            "status, is_public, features) SELECT gen_random_uuid(), 'other', 'Other', description, icon, "
            "color, billing_type, status, is_public, features FROM catalog.products WHERE code = 'flow'"
        )
        (product,) = made.sql("SELECT id FROM catalog.products WHERE code = 'other'")
        made.keys["other"] = keys.issue(made.context, "product", "other", product_id=product.id)[1]
        yield made


def _correct(world: WebWorld, who: str = "product", key: str | None = None, **body: Any) -> TestResponse:
    content = {"organization": "acme", "event_id": "e5", "reason": "read wrongly", **body}
    raw = json.dumps({name: value for name, value in content.items() if value is not None})
    headers = {} if key is None else {"Idempotency-Key": key}
    return world.call("POST", CORRECT, who, data=raw, content_type="application/json", headers=headers)


def test_a_correction_is_answered_with_what_follows_from_it(world: WebWorld) -> None:
    answer = _correct(world, quantity="7.50")
    assert answer.status_code == 201
    shown = answer.get_json()
    assert {
        name: shown[name] for name in ("event_id", "number", "kind", "quantity", "original_quantity")
    } == {
        "event_id": "e5",
        "number": 1,
        "kind": "quantity",
        "quantity": "7.5",
        "original_quantity": "3",
    }
    assert (shown["effect"], shown["reason"]) == ("with_its_period", "read wrongly")

    again = _correct(world, quantity=7.5)  # the same, as a JSON number
    assert (again.status_code, again.get_json()) == (200, shown)
    voided = _correct(world, event_id="e1", void=True)
    assert (voided.status_code, voided.get_json()["effect"], voided.get_json()["quantity"]) == (
        201,
        "adjustment",
        None,
    )
    assert _correct(world, event_id="e6", quantity=2).get_json()["effect"] == "quarantined"


def test_a_key_answers_the_same_for_ever_and_refuses_another_correction(world: WebWorld) -> None:
    first = _correct(world, key="k-1", event_id="e2", quantity="10")
    _correct(world, event_id="e2", quantity="11")
    repeat = _correct(world, key="k-1", event_id="e2", quantity="10")
    assert (first.status_code, repeat.status_code) == (201, 200)
    assert repeat.get_json() == first.get_json()
    refused = _correct(world, key="k-1", event_id="e2", quantity="12")
    assert (refused.status_code, refused.get_json()["errors"][0]["field"]) == (409, "Idempotency-Key")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "quantity"),
        ({"quantity": "1", "void": True}, "quantity"),
        ({"quantity": "a lot"}, "quantity"),
        ({"quantity": "1e12"}, "quantity"),
        ({"quantity": "0.0000000000001"}, "quantity"),
        ({"quantity": True}, "quantity"),
        ({"void": "yes"}, "void"),
        ({"void": True, "reason": ""}, "reason"),
        ({"void": True, "reason": "   "}, "reason"),
        ({"void": True, "reason": None}, "reason"),
        ({"void": True, "event_id": None}, "event_id"),
        ({"void": True, "organization": None}, "organization"),
        ({"void": True, "product": "flow"}, "product"),
    ],
)
def test_a_bad_correction_is_refused_by_its_field(world: WebWorld, body: dict[str, Any], field: str) -> None:
    before = world.rows()
    answer = _correct(world, **body)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.get_json()["errors"]] == [field]
    assert world.rows() == before


def test_unknown_events_and_other_products_are_alike(world: WebWorld) -> None:
    unknown = _correct(world, event_id="e99", void=True)
    anothers = _correct(world, "other", event_id="e5", void=True)
    stranger = _correct(world, organization="nobody", void=True)
    assert (unknown.status_code, anothers.status_code, stranger.status_code) == (404, 404, 404)
    assert unknown.get_json() == anothers.get_json()
    for who in ("admin", "acme"):
        assert _correct(world, who, void=True).status_code == 403


def test_an_event_on_its_way_is_asked_for_again(world: WebWorld, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    event = {
        "event_id": "on-its-way",
        "organization": "acme",
        "product": "flow",
        "metric": "runs",
        "timestamp": "2026-04-20T10:15:00Z",
    }
    world.call("POST", "/api/billing/usage/track/", "product", json=event)
    answer = _correct(world, key="early", event_id="on-its-way", void=True)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert answer.get_json()["detail"] == "the event is accepted, and its batch is not opened yet"
    # A matter of a second is nobody's failure: it wakes nobody up.
    assert [record for record in caplog.records if record.levelname == "ERROR" or record.exc_info] == []
    world.sql("DELETE FROM ops.usage_inbox WHERE state = 'queued'")


def _conflicts(world: WebWorld, who: str, **query: Any) -> Any:
    answer = world.call("GET", CONFLICTS, who, query_string=query)
    assert answer.status_code == 200, answer.text
    return answer.get_json()


def test_conflicts_show_both_contents_page_by_page(world: WebWorld) -> None:
    for number in range(3):
        world.sql(
            "INSERT INTO tenant.usage_conflicts (organization_id, id, product_id, event_id, batch_id, "
            "batch_index, event, received_at) SELECT organization_id, :id, product_id, event_id, batch_id, "
            "9, jsonb_build_object('meter_id', meter_id, 'quantity', '61', 'occurred_at', occurred_at, "
            "'properties', NULL), now() - :age * interval '1 hour' FROM tenant.usage_records "
            "WHERE event_id = 'e3' AND organization_id = :organization",
            id=new_id(),
            age=number,
            organization=world.globex.organization_id,
        )
    first = _conflicts(world, "product", limit=2)
    second = _conflicts(world, "product", limit=2, cursor=first["next"])
    found = [*first["items"], *second["items"]]
    assert [len(first["items"]), len(second["items"]), second["next"]] == [2, 1, None]
    assert sorted((each["received_at"] for each in found), reverse=True) == [
        each["received_at"] for each in found
    ]
    shown = found[0]
    assert (shown["organization"], shown["product"], shown["event_id"]) == ("globex", "flow", "e3")
    assert (shown["kept"]["quantity"], shown["refused"]["quantity"]) == ("15", "61")
    assert shown["kept"]["metric"] == shown["refused"]["metric"] == "runs"
    assert not any(each["settled"] for each in found)

    _correct(world, organization="globex", event_id="e3", quantity=61)
    assert all(each["settled"] for each in _conflicts(world, "product")["items"])
    assert _conflicts(world, "admin") == _conflicts(world, "product")
    assert _conflicts(world, "product", organization="acme")["items"] == []
    assert _conflicts(world, "other")["items"] == []
    assert world.call("GET", CONFLICTS, "acme").status_code == 403


def test_accounts_by_day_are_each_products_own(world: WebWorld) -> None:
    accounts.count(world.context)
    april = {"from": "2026-04-01", "to": "2026-04-02"}

    def asked(who: str, **query: str) -> Any:
        answer = world.call("GET", ACCOUNTS, who, query_string=query)
        assert answer.status_code == 200, answer.text
        return answer.get_json()["items"]

    (day,) = asked("product", **april)
    counted_at = day.pop("counted_at")
    assert counted_at == world.wall().isoformat().replace("+00:00", "Z")
    assert day == {
        "product": "flow",
        "day": "2026-04-01",
        "accepted": 14,
        "rated": 8,
        "waiting": 2,
        "quarantined": 5,  # three of them are the copies above, which nobody accepted
        "duplicate": 2,
        "adds_up": False,
        "unbalanced_batches": 1,
    }
    assert len(asked("admin", **april)) == 1
    assert asked("other", **april) == []
    assert asked("product") == []
    for query in ({"from": "yesterday"}, {"from": "2026-01-01", "to": "2026-04-30"}, {"to": "\0"}):
        answer = world.call("GET", ACCOUNTS, "product", query_string=query)
        assert answer.status_code == 422, query


def test_adjusting_at_once_makes_one_draft_until_it_is_rated(world: WebWorld) -> None:
    path = f"/api/billing/subscriptions/{world.acme.subscription_id}/adjust/"
    world.sql("DELETE FROM tenant.usage_corrections")
    assert world.call("POST", path, "admin").get_json() == {"invoice": None}
    _correct(world, event_id="e1", quantity=50)

    first, second = world.call("POST", path, "admin"), world.call("POST", path, "admin")

    assert (first.status_code, second.get_json()) == (202, first.get_json())
    (invoice,) = world.sql(
        "SELECT kind, status, period_start_at = period_end_at FROM tenant.invoices WHERE id = :id",
        id=first.get_json()["invoice"],
    )
    assert tuple(invoice) == ("adjustment", "draft", True)
    noted = world.sql("SELECT actor, action FROM ops.audit_log WHERE object_type = 'subscription'")
    assert {tuple(each) for each in noted} == {("admin:ops", "subscription.adjust")}
    assert world.call("POST", path, "acme").status_code == 403
    unknown = f"/api/billing/subscriptions/{new_id()}/adjust/"
    assert world.call("POST", unknown, "admin").status_code == 404
