"""How the web process starts, how it says that it is well, and what every answer carries."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from models.base import new_id
from models.database import UnsafeDatabaseRole
from tasks import accounts
from tasks.settings import BadSetting
from tests.integration.factories import fresh_database
from tests.integration.web_world import UnheardBell, Wall, WebWorld, context_for, web_world
from web.factory import create_app


@pytest.fixture(scope="module")
def world() -> Iterator[WebWorld]:
    with web_world("web_health") as made:
        yield made


def _get(world: WebWorld, path: str, who: str | None = None, status: int = 200, /, **query: str) -> Any:
    answer = world.call("GET", path, who, query_string=query)
    assert answer.status_code == status, answer.text
    return answer.get_json()


def test_ready_follows_the_heartbeat(world: WebWorld) -> None:
    world.sql("INSERT INTO ops.heartbeats (name, at) VALUES ('beat', :at)", at=world.wall())
    assert _get(world, "/health/ready") == {"status": "ready", "database": "ok", "work": "running"}
    world.wall.passes(timedelta(seconds=180))
    assert _get(world, "/health/ready", None, 503)["work"] == "stale"
    world.sql("UPDATE ops.heartbeats SET at = :at", at=world.wall())
    assert _get(world, "/health/ready")["status"] == "ready"


def test_metrics_show_that_usage_adds_up(world: WebWorld) -> None:
    accounts.count(world.context)
    lines = world.call("GET", "/metrics", "admin").text.splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    places = ("rated", "waiting", "quarantined", "duplicate")
    parts = [float(values[f'dunlin_usage{{account="{name}",product="flow"}}']) for name in places]
    assert sum(parts) == float(values['dunlin_usage_accepted{product="flow"}']) == 14
    assert values['dunlin_usage_unbalanced_days{product="flow"}'] == "0.0"
    assert values['dunlin_dead{place="jobs"}'] == "0.0"


def test_a_database_that_is_away_is_a_503_that_says_nothing_of_it() -> None:
    with fresh_database("web_away") as database, context_for(database, Wall(), UnheardBell()) as context:
        client = create_app(context).test_client()
    # the database is dropped; its server refuses the next connection
    answer = client.get("/api/billing/products/")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert answer.get_json()["detail"] == "Not available at the moment"
    ready = client.get("/health/ready")
    assert (ready.status_code, ready.get_json()) == (503, {"status": "unavailable", "database": "away"})


def test_the_start_refuses_a_role_that_could_read_everything(world: WebWorld) -> None:
    owner = world.database.owner.url.render_as_string(hide_password=False).replace("+psycopg", "")
    wall = Wall()
    unsafe = type(world.database)(world.database.owner, owner, world.database.auditor_url)
    with context_for(unsafe, wall, UnheardBell()) as context, pytest.raises(UnsafeDatabaseRole):
        create_app(context)


@pytest.mark.parametrize(
    "changes",
    [
        {"stripe_webhook_secrets": ()},
        {"stripe_webhook_secrets": ("whsec_x", " ")},
        {"secret_key": "short"},
        {"key_pepper": ""},
    ],
)
def test_the_start_refuses_secrets_that_guard_nothing(world: WebWorld, changes: dict[str, Any]) -> None:
    weak = replace(world.context, settings=replace(world.context.settings, **changes))
    with pytest.raises(BadSetting):
        create_app(weak)


def test_every_answer_carries_its_headers(world: WebWorld) -> None:
    for path in ("/health/live", "/api/docs/", "/nowhere", "/admin/login/"):
        headers = world.client.get(path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert headers["X-Request-ID"]


def test_a_request_keeps_the_id_it_came_with_if_that_is_one(world: WebWorld) -> None:
    asked, forged = f"req-{new_id()}", "a b\tc"
    assert world.client.get("/health/live", headers={"X-Request-ID": asked}).headers["X-Request-ID"] == asked
    assert (
        world.client.get("/health/live", headers={"X-Request-ID": forged}).headers["X-Request-ID"] != forged
    )


def test_a_host_that_is_not_ours_is_refused(world: WebWorld) -> None:
    assert world.client.get("/health/live", headers={"Host": "evil.example"}).status_code == 400


def test_the_log_holds_no_key(world: WebWorld, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    world.call("GET", "/api/billing/invoices/", "acme", query_string={"cursor": world.keys["acme"]})
    assert any("/api/billing/invoices/" in record.getMessage() for record in caplog.records)
    assert world.keys["acme"] not in str([record.__dict__ for record in caplog.records])


def test_the_docs_page_shows_every_operation_and_loads_nothing_from_elsewhere(world: WebWorld) -> None:
    page = world.client.get("/api/docs/").text
    described = world.client.get("/api/openapi.json").get_json()
    for path, operations in described["paths"].items():
        assert f"<code>{path}</code>" in page
        for operation in operations.values():
            assert f'id="{operation["operationId"]}"' in page
    assert "<script" not in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
