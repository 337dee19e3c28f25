"""Usage so far: what the API says of it, and that no event of the period is read for it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import event, text
from sqlalchemy.orm import Session

from models import usage_rollups
from models.usage_rollups import UsedWindow
from tasks import rollups, usage
from tests.integration.web_world import NOW, WebWorld, web_world

PATH = "/api/billing/usage/"


@pytest.fixture
def world() -> Iterator[WebWorld]:
    with web_world("current_usage") as made:
        yield made


def posts(world: WebWorld, quantities: list[int], day: str = "2026-04-10") -> None:
    events = [
        {
            "event_id": str(uuid4()),
            "organization": "acme",
            "product": "flow",
            "metric": "runs",
            "quantity": quantity,
            "timestamp": f"{day}T10:00:00Z",
        }
        for quantity in quantities
    ]
    usage.accept_batch(world.context, world.acme.product_id, events, idempotency_key=None, digest="d")
    usage.drain(world.context)


def shown(world: WebWorld, who: str = "acme") -> dict[str, Any]:
    answer = world.call("GET", f"{PATH}?subscription={world.acme.subscription_id}&period=current", who)
    assert answer.status_code == 200
    found: dict[str, Any] = answer.get_json()
    return found


def test_a_metric_shows_quantity_included_overage_cost_so_far_and_projected(world: WebWorld) -> None:
    posts(world, [60, 40])  # and 3 runs of 2 April

    for _ in range(2):
        found = shown(world)
        assert found["items"] == [
            {
                "metric": "runs",
                "name": "Runs",
                "unit": "run",
                "product": "flow",
                "plan": "flow-pro",
                "aggregation": "sum",
                "group": "",
                "match": None,
                "quantity": "103",
                "included": "10",
                "overage": "93",
                "cost_so_far_minor": 138,  # 90 at 1.5, 3 at 1
                "projected_quantity": "158.461538461538",  # 19.5 of 30 days have passed
                "projected_cost_minor": 193,  # 90 at 1.5, 58.46 at 1
            }
        ]
        assert (found["cost_so_far_minor"], found["projected_cost_minor"]) == (138, 193)
        assert (found["period_start_at"], found["period_end_at"], found["currency"], found["trial"]) == (
            "2026-04-01T00:00:00Z",
            "2026-05-01T00:00:00Z",
            "USD",
            False,
        )
        assert shown(world, "admin") == found
        # The same before the tick has come by, and after it.
        rollups.write(world.context)


def test_the_access_check_shows_the_same_quantity(world: WebWorld) -> None:
    posts(world, [60, 40])
    for _ in range(2):
        answer = world.call("GET", "/api/billing/access/acme/flow/", "product")
        assert answer.get_json()["usage"] == {"runs": "103"}
        rollups.write(world.context)


@pytest.mark.parametrize(
    ("query", "status", "field"),
    [
        ("", 422, "subscription"),
        ("subscription=x", 404, None),
        ("subscription=00000000-0000-7000-8000-000000000001", 404, None),
        ("subscription={acme}&period=last", 422, "period"),
        ("subscription={globex}", 404, None),
    ],
)
def test_what_cannot_be_shown_is_named(world: WebWorld, query: str, status: int, field: str | None) -> None:
    asked = query.format(acme=world.acme.subscription_id, globex=world.globex.subscription_id)
    answer = world.call("GET", f"{PATH}?{asked}", "acme")

    assert answer.status_code == status
    if field is not None:
        assert [error["field"] for error in answer.get_json()["errors"]] == [field]


def test_no_event_of_the_period_is_read_for_it(world: WebWorld) -> None:
    """60,000 events of the period are in rollups; what is read of events is the tail, by its block range."""
    _fill(world, batches=300, events=200)
    rollups.write(world.context)
    posts(world, [1, 2, 3])

    read = _records_read(world)

    assert shown(world)["items"][0]["quantity"] == str(3 + 60_000 + 6)
    # A block range holds some thousand records, and is read whole for the three of the tail in it.
    assert 3 <= read["usage_records"] < 12_000
    assert 0 < read["usage_rollups"] <= 31 * 24


def test_an_hour_that_is_read_from_its_events_costs_that_hour(world: WebWorld) -> None:
    _fill(world, batches=300, events=200)
    rollups.write(world.context)
    world.sql("UPDATE tenant.usage_records SET quantity = 2 WHERE event_id = 'f1'")  # its hour is stale

    assert shown(world)["items"][0]["quantity"] == str(3 + 60_001)
    assert _records_read(world)["usage_records"] < 12_000


def _fill(world: WebWorld, batches: int, events: int) -> None:
    """Acme's April, spread over its hours, in opened batches."""
    batch_id = "CAST('00000000-0000-7000-8000-' || lpad(to_hex(n / {}), 12, '0') AS uuid)"
    world.sql(
        f"""
        INSERT INTO ops.usage_inbox (
            id, product_id, body_digest, organization_ids, events, accepted, state, attempts, duplicates)
        SELECT {batch_id.format(1)}, i.product_id, '', ARRAY[i.organization_id], '[]', {events}, 'done', 1, 0
        FROM tenant.subscription_items i, generate_series(0, {batches - 1}) n
        WHERE i.subscription_id = :subscription_id
        """,
        subscription_id=world.acme.subscription_id,
    )
    world.sql(
        f"""
        INSERT INTO tenant.usage_records (
            organization_id, product_id, event_id, batch_id, batch_index, meter_id, quantity, occurred_at,
            subscription_id, item_id, late, state)
        SELECT i.organization_id, i.product_id, 'f' || n, {batch_id.format(events)}, n % {events}, m.id, 1,
               timestamptz '2026-04-01Z' + n * interval '25 seconds', i.subscription_id, i.id, false,
               'waiting'
        FROM tenant.subscription_items i, catalog.meters m, generate_series(0, {batches * events - 1}) n
        WHERE i.subscription_id = :subscription_id
        """,
        subscription_id=world.acme.subscription_id,
    )
    with world.database.owner.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").execute(text("VACUUM ANALYZE"))


def _records_read(world: WebWorld) -> dict[str, int]:
    """Rows that each table gave to the reading, those thrown away included."""
    with world.context.tenant(world.acme.organization_id) as unit:
        items: list[UUID] = list(
            unit.session.execute(text("SELECT id FROM tenant.subscription_items")).scalars()
        )
        window = UsedWindow(
            world.acme.organization_id,
            world.acme.subscription_id,
            items,
            NOW.replace(day=1, hour=0),
            NOW.replace(month=5, day=1, hour=0),
        )
        plans: list[dict[str, Any]] = []
        with _explaining(unit.session, plans):
            usage_rollups.read(unit.session, window)
    read: dict[str, int] = {}
    for plan in plans:
        _add_up(plan, read)
    return read


@contextmanager
def _explaining(session: Session, plans: list[dict[str, Any]]) -> Iterator[None]:
    """The plan of each statement that is executed, as it ran."""
    connection = session.connection()

    def explain(_conn: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        with cursor.connection.cursor() as own:
            own.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters)
            plans.append(own.fetchone()[0][0]["Plan"])

    event.listen(connection, "before_cursor_execute", explain)
    try:
        yield
    finally:
        event.remove(connection, "before_cursor_execute", explain)


def _add_up(node: dict[str, Any], read: dict[str, int]) -> None:
    if "Relation Name" in node:
        removed = sum(value for name, value in node.items() if name.startswith("Rows Removed by"))
        table = node["Relation Name"]
        read[table] = read.get(table, 0) + int((node["Actual Rows"] + removed) * node["Actual Loops"])
    for child in node.get("Plans", ()):
        _add_up(child, read)
