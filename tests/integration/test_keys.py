"""Keys: what each is good for, how one replaces another, and when each was last used."""

from collections.abc import Iterator
from datetime import timedelta
from threading import Barrier, Thread
from typing import Any
from uuid import UUID

import pytest

from billing.errors import Conflict, InvalidTerms, NotFound
from cli.keys import described_keys, issue_bound
from models.base import new_id
from tasks import keys
from tasks.keys import KeyTerms
from tests.integration.web_world import WebWorld, web_world
from web.auth import REMEMBERED

ORGANIZATIONS = "/api/billing/organizations/"


@pytest.fixture(scope="module")
def world() -> Iterator[WebWorld]:
    with web_world("keys") as made:
        yield made


def given(world: WebWorld, name: str, **terms: Any) -> tuple[UUID, str]:
    """A key of Acme that callers of `world.call` can use by its name."""
    wanted: dict[str, Any] = {"kind": "organization", "organization_id": world.acme.organization_id}
    row, text = keys.issue_terms(world.context, KeyTerms(**{**wanted, "name": name, **terms}))
    world.keys[name] = text
    return row.id, text


def status(world: WebWorld, who: str, method: str = "GET", path: str = "/api/billing/invoices/") -> int:
    return world.call(method, path, who, json={} if method == "POST" else None).status_code


def test_a_key_that_reads_writes_nothing(world: WebWorld) -> None:
    given(world, "reader", scopes=("read",))
    subscription = f"/api/billing/subscriptions/{world.acme.subscription_id}/"
    assert status(world, "reader") == 200
    refused = world.call("POST", subscription + "cancel/", "reader", json={"at_period_end": True})
    assert (refused.status_code, refused.get_json()["detail"]) == (403, "this key has not the scope 'write'")


def test_a_key_that_writes_reads_nothing(world: WebWorld) -> None:
    row, text = keys.issue_terms(
        world.context,
        KeyTerms(kind="product", name="meter", product_id=world.acme.product_id, scopes=("write",)),
    )
    world.keys["meter"] = text
    event = {
        "event_id": "scoped",
        "organization": "acme",
        "product": "flow",
        "metric": "runs",
        "timestamp": world.wall().isoformat(),
    }
    assert world.call("POST", "/api/billing/usage/track/", "meter", json=event).status_code == 202
    assert status(world, "meter", path="/api/billing/access/acme/flow/") == 403
    assert keys.revoke(world.context, row.id)


def test_a_preview_is_a_reading(world: WebWorld) -> None:
    given(world, "previewer", scopes=("read",))
    path = f"/api/billing/subscriptions/{world.acme.subscription_id}/preview/"
    assert status(world, "previewer", "POST", path) != 403


@pytest.mark.parametrize("scopes", [(), ("all",), ("read", "admin")])
def test_scopes_are_read_and_write(world: WebWorld, scopes: tuple[str, ...]) -> None:
    with pytest.raises(InvalidTerms, match="must be read, write or both"):
        given(world, "odd", scopes=scopes)


def test_a_rotation_leaves_no_gap(world: WebWorld) -> None:
    key_id, _ = given(world, "old", scopes=("read",))
    row, world.keys["new"] = keys.rotate(world.context, key_id, timedelta(hours=24))

    assert (status(world, "old"), status(world, "new")) == (200, 200)
    assert (row.scopes, row.name, row.expires_at) == (["read"], "old", None)
    world.wall.passes(timedelta(hours=24) + REMEMBERED)
    assert (status(world, "old"), status(world, "new")) == (401, 200)


def test_a_rotation_in_an_emergency_ends_the_old_key_at_once(world: WebWorld) -> None:
    key_id, _ = given(world, "leaked")
    _, world.keys["safe"] = keys.rotate(world.context, key_id, timedelta(0))
    assert (status(world, "leaked"), status(world, "safe")) == (401, 200)


def test_the_new_key_lasts_as_long_as_the_old_one_did(world: WebWorld) -> None:
    # `created_at` is Postgres's own clock, the test's wall stands elsewhere: the span is what counts.
    key_id, _ = given(world, "quarterly", expires_at=world.wall() + timedelta(days=90))
    world.sql(
        "UPDATE ops.api_keys SET created_at = expires_at - interval '90 days' WHERE id = :id", id=key_id
    )
    world.wall.passes(timedelta(days=80))
    row, _ = keys.rotate(world.context, key_id, timedelta(days=1))
    assert row.expires_at == world.wall() + timedelta(days=90)


def test_what_is_over_is_not_rotated(world: WebWorld) -> None:
    key_id, _ = given(world, "gone")
    keys.revoke(world.context, key_id)
    with pytest.raises(Conflict, match="issue a new one"):
        keys.rotate(world.context, key_id, timedelta(hours=1))
    with pytest.raises(NotFound):
        keys.rotate(world.context, new_id(), timedelta(hours=1))


def test_two_live_keys_however_many_are_issued_at_once(world: WebWorld) -> None:
    together = Barrier(6)

    def issue() -> None:
        together.wait()
        keys.issue(world.context, "organization", "raced", organization_id=world.acme.organization_id)

    threads = [Thread(target=issue) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    live = "SELECT count(*) FROM ops.api_keys WHERE name = 'raced' AND revoked_at IS NULL"
    assert world.sql(live)[0][0] == keys.LIVE_AT_ONCE


def test_the_last_use_is_known_to_the_minute(world: WebWorld) -> None:
    key_id, _ = given(world, "busy")

    def last_used() -> Any:
        return world.sql("SELECT last_used_at FROM ops.api_keys WHERE id = :id", id=key_id)[0][0]

    assert last_used() is None
    first = world.wall()
    status(world, "busy")
    assert last_used() == first
    world.wall.passes(timedelta(seconds=30))
    status(world, "busy")
    assert last_used() == first
    world.wall.passes(timedelta(seconds=31))
    status(world, "busy")
    assert last_used() == world.wall()


def test_keys_over_http(world: WebWorld) -> None:
    path = ORGANIZATIONS + "acme/keys/"
    issued = world.call("POST", path, "admin", json={"name": "http", "scopes": ["read"]}).get_json()
    rotated = world.call("POST", f"{path}{issued['id']}/rotate/", "admin", json={"overlap_s": 60})
    made = rotated.get_json()
    assert (rotated.status_code, made["scopes"], made["name"]) == (201, ["read"], "http")
    assert world.call("DELETE", f"{path}{made['id']}/", "admin").status_code == 204

    listed = {row["id"]: row for row in world.call("GET", path, "acme").get_json()["items"]}
    assert listed[made["id"]]["revoked_at"] is not None
    assert listed[issued["id"]]["expires_at"] is not None
    assert all("key" not in row for row in listed.values())


def test_a_key_is_managed_under_its_own_organization_alone(world: WebWorld) -> None:
    globex_key = world.sql(
        "SELECT id FROM ops.api_keys WHERE organization_id = :id", id=world.globex.organization_id
    )[0][0]
    for wrong in (globex_key, new_id(), "no-id"):
        assert world.call("DELETE", f"{ORGANIZATIONS}acme/keys/{wrong}/", "admin").status_code == 404
    assert status(world, "globex") == 200


def test_the_command_names_whose_key_it_is(world: WebWorld) -> None:
    text = issue_bound(world.context, "product", "from a shell", product="flow", scope="write")
    line = next(line for line in described_keys(world.context, product="flow") if "from a shell" in line)
    assert f"...{text[-4:]}  product flow  'from a shell'  write" in line
    assert "never used" in line
    assert text not in line
