"""What the API answers: catalog, organizations and keys, subscriptions, invoices, repeats, health."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy.orm import Session

from models.catalog import (
    BundlePrice,
    BundleProduct,
    PlanPrice,
    PlanTier,
    Product,
    ProductPlan,
    SubscriptionBundle,
)
from models.database import Database
from models.reading import DATABASE_AWAY
from tasks import keys
from tests.integration.web_world import WebWorld, web_world
from web.auth import REMEMBERED
from web.idempotency import ABANDONED_AFTER

ORGANIZATIONS = "/api/billing/organizations/"


@pytest.fixture(scope="module")
def world() -> Iterator[WebWorld]:
    with web_world("web_api") as made:
        _sell_a_bundle(made)
        yield made


def _sell_a_bundle(world: WebWorld) -> None:
    """A second product at 25.00, and a bundle of both: 64.75 instead of 49.00 + 25.00."""
    with Session(world.database.owner) as session, session.begin():
        flow = session.query(ProductPlan).filter_by(code="flow-pro").one()
        tier = session.query(PlanTier).one()
        space = Product(code="space", name="Space", billing_type="per_user")
        bundle = SubscriptionBundle(code="pro", name="Pro Bundle", is_featured=True)
        session.add_all([space, bundle])
        session.flush()
        plan = ProductPlan(
            product_id=space.id, tier_id=tier.id, code="space-pro", name="Space Pro", base_charge="per_seat"
        )
        session.add(plan)
        session.flush()
        session.add_all(
            [
                PlanPrice(plan_id=plan.id, currency="USD", interval="month", amount_minor=2500),
                BundleProduct(bundle_id=bundle.id, plan_id=flow.id, position=0),
                BundleProduct(bundle_id=bundle.id, plan_id=plan.id, position=1),
                BundlePrice(bundle_id=bundle.id, currency="USD", interval="month", amount_minor=6475),
            ]
        )


def _get(world: WebWorld, path: str, who: str | None = None, status: int = 200, /, **query: str) -> Any:
    answer = world.call("GET", path, who, query_string=query)
    assert answer.status_code == status, answer.text
    return answer.get_json()


def _post(world: WebWorld, path: str, body: Any, who: str = "admin", **headers: str) -> tuple[int, Any]:
    answer = world.call("POST", path, who, json=body, headers=headers)
    return answer.status_code, answer.get_json()


# -- catalog ---------------------------------------------------------------------------------------


def test_everybody_sees_the_products(world: WebWorld) -> None:
    seen = _get(world, "/api/billing/products/")
    assert [item["code"] for item in seen["items"]] == ["flow", "space"]
    assert seen["next"] is None


def test_a_plan_shows_its_prices_and_how_usage_is_charged(world: WebWorld) -> None:
    (plan,) = _get(world, "/api/billing/products/flow/plans/")["items"]
    assert plan["prices"] == [{"currency": "USD", "interval": "month", "amount_minor": 4900}]
    (charge,) = plan["usage"]
    assert (charge["metric"], charge["terms"]["model"]) == ("runs", "graduated")
    assert [tier["unit_price"] for tier in charge["terms"]["tiers"]] == ["1.5", "1"]


def test_a_bundle_says_what_it_saves(world: WebWorld) -> None:
    (bundle,) = _get(world, "/api/billing/bundles/")["items"]
    assert [member["plan"] for member in bundle["members"]] == ["flow-pro", "space-pro"]
    # 49.00 + 25.00 = 74.00; 74.00 - 64.75 = 9.25; 9.25 / 74.00 = 12.5 %, shown as 13
    assert bundle["prices"] == [
        {
            "currency": "USD",
            "interval": "month",
            "amount_minor": 6475,
            "list_minor": 7400,
            "saving_minor": 925,
            "saving_percent": 13,
        }
    ]


def test_an_unknown_product_has_no_plans(world: WebWorld) -> None:
    assert _get(world, "/api/billing/products/nothing/plans/", None, 404)["detail"] == "no such product"


# -- organizations and keys ------------------------------------------------------------------------


def test_an_organization_answers_to_id_slug_and_external_id(world: WebWorld) -> None:
    body = {"slug": "hooli", "name": "Hooli", "email": "pay@hooli.example", "external_id": "crm-7"}
    status, made = _post(world, ORGANIZATIONS, body)
    assert status == 201
    assert made["currency"] == "USD"
    for reference in (made["id"], "hooli", "crm-7"):
        assert _get(world, f"{ORGANIZATIONS}{reference}/", "admin") == made


def test_a_slug_is_taken_once(world: WebWorld) -> None:
    status, told = _post(world, ORGANIZATIONS, {"slug": "acme", "name": "A", "email": "a@b.example"})
    assert status == 409
    assert [error["field"] for error in told["errors"]] == ["slug"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"slug": "No Spaces"}, "slug"),
        ({"email": "nowhere"}, "email"),
        ({"currency": "EUR"}, "currency"),
        ({"currency": "usd"}, "currency"),
        ({"name": ""}, "name"),
        ({"tax_rate": "none-such"}, "tax_rate"),
        ({"test_clock": "01900000-0000-7000-8000-000000000000"}, "test_clock"),
        ({"test_clock": 5}, "test_clock"),
        ({"vat": "x"}, "vat"),
        ({"address": {"country": "Germany"}}, "address.country"),
    ],
)
def test_a_wrong_field_is_refused_by_name(world: WebWorld, changes: dict[str, Any], field: str) -> None:
    before = world.rows()
    body = {"slug": "vandelay", "name": "Vandelay", "email": "a@vandelay.example", **changes}
    status, told = _post(world, ORGANIZATIONS, body)
    assert status == 422
    assert [error["field"] for error in told["errors"]] == [field]
    assert world.rows() == before


def test_an_organization_is_changed_field_by_field(world: WebWorld) -> None:
    changed = world.call(
        "PATCH", f"{ORGANIZATIONS}globex/", "admin", json={"name": "Globex Ltd", "address": {"country": "ZA"}}
    )
    assert changed.status_code == 200
    seen = _get(world, f"{ORGANIZATIONS}globex/", "admin")
    assert (seen["name"], seen["address"], seen["email"]) == (
        "Globex Ltd",
        {"country": "ZA"},
        "globex@example.com",
    )


def test_a_key_is_shown_once_and_opens_its_organization(world: WebWorld) -> None:
    headers = {"Idempotency-Key": "first-key-of-acme"}
    status, made = _post(world, f"{ORGANIZATIONS}acme/keys/", {"name": "backend"}, **headers)
    assert status == 201
    assert made["key"].startswith("dk_test_")
    assert made["key"].endswith(made["last_four"])
    seen = world.client.get(
        "/api/billing/invoices/", headers={"Authorization": f"Bearer {made['key']}"}
    ).get_json()
    assert {item["organization"] for item in seen["items"]} == {str(world.acme.organization_id)}
    _, again = _post(world, f"{ORGANIZATIONS}acme/keys/", {"name": "backend"}, **headers)
    assert again == {**made, "key": None}
    kept = world.sql(
        "SELECT count(*) FROM ops.idempotent_answers WHERE body::text LIKE :key", key=f"%{made['key']}%"
    )
    assert kept[0][0] == 0


def test_two_keys_live_while_one_is_replaced_and_a_third_retires_the_oldest(world: WebWorld) -> None:
    issued = [
        keys.issue(world.context, "organization", "rolling", organization_id=world.acme.organization_id)[1]
        for _ in range(3)
    ]
    alive = [keys.authenticate(world.context, text) is not None for text in issued]
    assert alive == [False, True, True]


def test_a_key_expires(world: WebWorld) -> None:
    expires_at = world.wall() + timedelta(hours=1)
    _, text = keys.issue(world.context, "admin", "short", expires_at=expires_at)
    assert keys.authenticate(world.context, text) is not None
    world.wall.passes(timedelta(hours=1))
    assert keys.authenticate(world.context, text) is None


def test_a_revoked_key_is_refused_within_five_seconds(world: WebWorld) -> None:
    row, text = keys.issue(world.context, "admin", "leaving")
    headers = {"Authorization": f"Bearer {text}"}
    assert world.client.get(ORGANIZATIONS, headers=headers).status_code == 200
    assert keys.revoke(world.context, row.id)
    world.wall.passes(REMEMBERED)
    assert world.client.get(ORGANIZATIONS, headers=headers).status_code == 401


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer ", "Basic YTpi", "Bearer dk_test_short", "Bearer " + "x" * 10_000, "Bearer é"],
)
def test_what_is_no_key_is_refused(world: WebWorld, authorization: str) -> None:
    answer = world.client.get(ORGANIZATIONS, headers={"Authorization": authorization})
    assert answer.status_code == 401


def test_a_mistyped_key_is_refused_without_asking_the_database(world: WebWorld) -> None:
    away = replace(world.context, database=Database("postgresql://nobody@127.0.0.1:1/none"))
    text = world.keys["admin"]
    with pytest.raises(DATABASE_AWAY):
        keys.authenticate(away, text)
    assert keys.authenticate(away, text[:-1] + ("a" if text[-1] != "a" else "b")) is None


def test_only_the_keyed_hash_of_a_key_is_stored(world: WebWorld) -> None:
    stored = " ".join(str(row[0]) for row in world.sql("SELECT to_jsonb(k) FROM ops.api_keys k"))
    assert all(text not in stored for text in world.keys.values())


# -- repeats ---------------------------------------------------------------------------------------


def test_a_repeat_gets_the_first_answer_byte_for_byte(world: WebWorld) -> None:
    body = {"slug": "once", "name": "Once", "email": "a@once.example"}
    headers = {"Idempotency-Key": "make-once"}
    first = world.call("POST", ORGANIZATIONS, "admin", json=body, headers=headers)
    before = world.rows()
    again = world.call("POST", ORGANIZATIONS, "admin", json=body, headers=headers)
    assert (again.status_code, again.data) == (first.status_code, first.data) == (201, first.data)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert world.rows() == before


def test_a_repeated_refusal_is_the_same_refusal(world: WebWorld) -> None:
    body = {"slug": "acme", "name": "A", "email": "a@b.example"}
    headers = {"Idempotency-Key": "refused-once"}
    first = world.call("POST", ORGANIZATIONS, "admin", json=body, headers=headers)
    again = world.call("POST", ORGANIZATIONS, "admin", json=body, headers=headers)
    assert (again.status_code, again.data, again.mimetype) == (409, first.data, "application/problem+json")


def test_the_same_key_for_something_else_is_a_conflict(world: WebWorld) -> None:
    headers = {"Idempotency-Key": "for-one-thing"}
    _post(world, ORGANIZATIONS, {"slug": "one", "name": "One", "email": "a@one.example"}, **headers)
    status, told = _post(
        world, ORGANIZATIONS, {"slug": "two", "name": "Two", "email": "a@two.example"}, **headers
    )
    assert status == 409
    assert told["errors"][0]["field"] == "Idempotency-Key"


def test_two_callers_may_use_the_same_key(world: WebWorld) -> None:
    world.keys["other admin"] = keys.issue(world.context, "admin", "another person")[1]
    body = {"slug": "shared", "name": "Shared", "email": "a@shared.example"}
    headers = {"Idempotency-Key": "1"}
    assert _post(world, ORGANIZATIONS, body, **headers)[0] == 201
    assert _post(world, ORGANIZATIONS, body, "other admin", **headers)[0] == 409  # the slug, not the key


def test_the_repeat_of_a_request_that_died_half_way_finds_what_it_made(world: WebWorld) -> None:
    body = {"slug": "halfway", "name": "Halfway", "email": "a@halfway.example"}
    headers = {"Idempotency-Key": "died"}
    _, first = _post(world, ORGANIZATIONS, body, **headers)
    # as if the process had died before it kept its answer
    world.sql("UPDATE ops.idempotent_answers SET status = NULL, body = NULL WHERE idempotency_key = 'died'")
    before = world.rows()

    status, told = _post(world, ORGANIZATIONS, body, **headers)
    assert (status, told["detail"]) == (409, "the first request with this key is under way")
    world.wall.passes(ABANDONED_AFTER)
    assert _post(world, ORGANIZATIONS, body, **headers) == (201, first)
    assert world.rows() == before


def test_what_stripe_could_not_do_may_be_asked_again_with_its_key_and_not_something_else(
    world: WebWorld,
) -> None:
    path = f"{ORGANIZATIONS}acme/payment_methods/"
    headers = {"Idempotency-Key": "while-stripe-is-away"}
    for _ in range(2):
        status, told = _post(world, path, {"payment_method": "pm_card_visa"}, "acme", **headers)
        assert status == 503
        assert "127.0.0.1" not in str(told)
    assert _post(world, path, {"payment_method": "pm_card_amex"}, "acme", **headers)[0] == 409


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_changes_and_deletions_take_a_key_too(world: WebWorld, method: str) -> None:
    made = _post(world, f"{ORGANIZATIONS}acme/keys/", {"name": f"for {method}"})[1]
    path = {"PATCH": f"{ORGANIZATIONS}acme/", "DELETE": f"{ORGANIZATIONS}acme/keys/{made['id']}/"}[method]
    headers = {"Idempotency-Key": f"once-{method}"}
    body = {"name": "Acme"} if method == "PATCH" else None

    first = world.call(method, path, "admin", json=body, headers=headers)
    before = world.rows()
    again = world.call(method, path, "admin", json=body, headers=headers)
    assert first.status_code in (200, 204)
    assert (again.status_code, again.data) == (first.status_code, first.data)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert world.rows() == before


# -- subscriptions and invoices --------------------------------------------------------------------


def test_a_subscription_with_its_items(world: WebWorld) -> None:
    (listed,) = _get(world, "/api/billing/subscriptions/", "acme")["items"]
    seen = _get(world, f"/api/billing/subscriptions/{listed['id']}/", "acme")
    assert seen == listed
    assert (seen["plan"], seen["status"], seen["started_at"]) == (
        "flow-pro",
        "active",
        "2026-01-01T00:00:00Z",
    )
    assert [(item["product"], item["amount_minor"]) for item in seen["items"]] == [("flow", 4900)]


def test_the_invoices_page_by_page_are_all_of_them_once(world: WebWorld) -> None:
    numbers, cursor = [], None
    while True:
        query = {"limit": "1"} | ({"cursor": cursor} if cursor else {})
        page = _get(world, "/api/billing/invoices/", "acme", **query)
        numbers += [item["number"] for item in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert numbers == ["ACME-000003", "ACME-000002", "ACME-000001"]


@pytest.mark.parametrize(
    "query",
    [
        {"limit": "0"},
        {"limit": "201"},
        {"limit": "many"},
        {"limit": "١"},
        {"limit": "9" * 50},
        {"limit": "0000201"},
        {"cursor": "x"},
        {"cursor": "\0"},
        {"status": "lost"},
        {"subscription": "x"},
    ],
)
def test_a_list_refuses_what_it_does_not_know(world: WebWorld, query: dict[str, str]) -> None:
    told = _get(world, "/api/billing/invoices/", "acme", 422, **query)
    assert [error["field"] for error in told["errors"]] == list(query)


def test_an_invoice_with_lines_that_add_up(world: WebWorld) -> None:
    january = _get(world, f"/api/billing/invoices/{world.acme.invoice_ids[0]}/", "acme")
    assert sum(line["amount_minor"] for line in january["lines"]) == january["subtotal_minor"] == 5060
    assert [(line["kind"], line["quantity"]) for line in january["lines"]] == [
        ("recurring", "1"),
        ("usage", "125"),
    ]
    assert [payment["status"] for payment in january["payments"]] == ["succeeded"]


def test_an_admin_names_the_organization_of_a_list(world: WebWorld) -> None:
    told = _get(world, "/api/billing/invoices/", "admin", 422)
    assert [error["field"] for error in told["errors"]] == ["organization"]
    seen = _get(world, "/api/billing/invoices/", "admin", organization="globex")
    assert {item["organization"] for item in seen["items"]} == {str(world.globex.organization_id)}


def test_an_invoice_is_a_document_too(world: WebWorld) -> None:
    answer = world.call("GET", f"/api/billing/invoices/{world.acme.invoice_ids[0]}/pdf/", "acme")
    assert (answer.status_code, answer.mimetype, answer.data[:5]) == (200, "application/pdf", b"%PDF-")


def test_a_line_is_explained(world: WebWorld) -> None:
    invoice = world.acme.invoice_ids[0]
    usage = _get(world, f"/api/billing/invoices/{invoice}/", "acme")["lines"][1]
    explained = _get(world, f"/api/billing/invoices/{invoice}/lines/{usage['id']}/explain/", "acme")
    assert explained["recomputed"]["agrees"] is True


def test_the_events_of_a_line_come_page_by_page(world: WebWorld) -> None:
    invoice = world.acme.invoice_ids[0]
    usage = _get(world, f"/api/billing/invoices/{invoice}/", "acme")["lines"][1]
    path = f"/api/billing/invoices/{invoice}/lines/{usage['id']}/explain/"
    first = _get(world, path, "acme", limit="2")["events"]
    second = _get(world, path, "acme", limit="2", page=first["next"])["events"]
    ids = [event["event_id"] for page in (first, second) for event in page["items"]]
    assert (ids, second["next"]) == (["e1", "e2", "e3"], None)
    refused = _get(world, path, "acme", 422, limit="0")
    assert [error["field"] for error in refused["errors"]] == ["limit"]


def test_an_invoice_is_explained_whole(world: WebWorld) -> None:
    invoice = _get(world, "/api/billing/invoices/", "acme")["items"][-1]["id"]
    explained = _get(world, f"/api/billing/invoices/{invoice}/explain/", "acme")
    assert explained["agrees"] is True
    assert explained["sums"]["lines"] == len(explained["lines"]) == 2


def test_access_is_told_to_the_product(world: WebWorld) -> None:
    answer = world.call("GET", "/api/billing/access/acme/flow/", "product")
    assert answer.get_json()["access"] == "full"
    assert answer.headers["Cache-Control"] == "private, max-age=15"
    assert _get(world, "/api/billing/access/hooli/flow/", "product")["access"] == "none"
