"""The quick reading of a usage POST takes less than the careful one, and makes the same of what it takes."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.orm import Session

from models.organizations import TestClock
from tasks.context import Context
from tasks.plain_usage import plain_events
from tasks.usage_door import RefusedUsage, checked
from tests.integration.factories import (
    Quarter,
    TestDatabase,
    acme_with_a_quarter,
    fresh_database,
    offline_context,
    organization,
)
from web import strict_json
from web.problems import BadRequest, InvalidFields
from web.usage import events_of

NOW = datetime(2026, 4, 20, 12, tzinfo=UTC)
EVENT = {
    "event_id": "run-1",
    "organization": "acme",
    "product": "flow",
    "metric": "runs",
    "quantity": "3",
    "timestamp": "2026-04-20T11:59:59.123Z",
    "properties": {"region": "eu", "retries": 2, "paid": True},
}


@pytest.fixture(scope="module")
def database() -> Iterator[TestDatabase]:
    with fresh_database("plain_usage") as made:
        yield made


@pytest.fixture(scope="module")
def acme(database: TestDatabase) -> Quarter:
    with Session(database.owner) as session, session.begin():
        clock = TestClock(name="a clock", frozen_at=NOW)
        session.add(clock)
        made = acme_with_a_quarter(session)
        session.flush()
        organization(session, "clocked").test_clock_id = clock.id
        return made


@pytest.fixture(scope="module")
def context(database: TestDatabase, acme: Quarter) -> Iterator[Context]:
    with offline_context(database, wall=NOW) as made:
        yield made


def quickly(context: Context, acme: Quarter, raw: bytes) -> list[dict[str, Any]] | None:
    found = plain_events(context, acme.product_id, raw)
    return None if found is None else records(found.records)


def carefully(context: Context, acme: Quarter, raw: bytes) -> list[dict[str, Any]] | None:
    """What the careful reading makes of it; None when it refuses."""
    try:
        return records(checked(context, acme.product_id, events_of(strict_json.decode(raw))).records)
    except (BadRequest, InvalidFields, RefusedUsage):
        return None


def records(text: str) -> list[dict[str, Any]]:
    """As Postgres reads them: a quantity by its value, an instant by its moment."""
    found: list[dict[str, Any]] = json.loads(text)
    for record in found:
        record["quantity"] = float(record["quantity"])
        record["occurred_at"] = datetime.fromisoformat(record["occurred_at"])
    return found


def test_what_is_plain_is_taken_as_the_careful_reading_takes_it(context: Context, acme: Quarter) -> None:
    for body in (EVENT, {"events": [EVENT, EVENT | {"event_id": "run-2", "quantity": 7}]}):
        raw = json.dumps(body).encode()
        assert quickly(context, acme, raw) == carefully(context, acme, raw) is not None


LEFT = {
    "an escape": rb'{"event_id": "\u0061", ' + json.dumps(EVENT).encode()[1:],
    "a key twice": b'{"event_id": "other", ' + json.dumps(EVENT).encode()[1:],
    "a property twice": json.dumps(EVENT).replace('{"region"', '{"region": "us", "region"').encode(),
    "an exponent": json.dumps(EVENT | {"quantity": "1e3"}).encode(),
    "a decimal number": json.dumps(EVENT | {"quantity": 1.5}).encode(),
    "another zone": json.dumps(EVENT | {"timestamp": "2026-04-20T13:00:00+02:00"}).encode(),
    "nanoseconds": json.dumps(EVENT | {"timestamp": "2026-04-20T11:00:00.123456789Z"}).encode(),
    "a test clock": json.dumps(EVENT | {"organization": "clocked"}).encode(),
    "a stranger": json.dumps(EVENT | {"organization": "nobody"}).encode(),
    "an unknown metric": json.dumps(EVENT | {"metric": "walks"}).encode(),
    "another product": json.dumps(EVENT | {"product": "other"}).encode(),
    "an unknown field": json.dumps(EVENT | {"colour": "red"}).encode(),
    "too long an id": json.dumps(EVENT | {"event_id": "x" * 256}).encode(),
    "too much": json.dumps(EVENT | {"quantity": str(10**12)}).encode(),
    "the future": json.dumps(EVENT | {"timestamp": "2026-04-20T12:05:00.000001Z"}).encode(),
    "no date": json.dumps(EVENT | {"timestamp": "2026-02-30T12:00:00Z"}).encode(),
    "a number of 65 bits": json.dumps(EVENT | {"properties": {"n": 2**63}}).encode(),
    "no events": b'{"events": []}',
    "bad UTF-8": json.dumps(EVENT).encode().replace(b"run-1", b"run-\xff"),
    "half a surrogate": json.dumps(EVENT).encode().replace(b"run-1", b"\xed\xa0\x80"),
    "a control character": json.dumps(EVENT).encode().replace(b"run-1", b"run\x00"),
    "no JSON": b"{",
}


@pytest.mark.parametrize("raw", LEFT.values(), ids=LEFT.keys())
def test_what_is_less_than_plain_is_left_to_the_careful_reading(
    context: Context, acme: Quarter, raw: bytes
) -> None:
    assert quickly(context, acme, raw) is None


texts = st.text(st.characters(codec="utf-8"), max_size=12)
values = st.one_of(texts, st.integers(), st.booleans(), st.none(), st.floats(allow_nan=False), st.just("eu"))
bodies = st.fixed_dictionaries(
    {},
    optional={
        "event_id": st.one_of(texts, st.just("run-1"), st.just("x" * 256)),
        "organization": st.sampled_from(["acme", "clocked", "nobody", "", 3]),
        "product": st.sampled_from(["flow", "other"]),
        "metric": st.sampled_from(["runs", "walks"]),
        "quantity": st.one_of(
            st.integers(),
            st.decimals(allow_nan=False).map(str),
            st.sampled_from(["1", "-0", "007", "1.", ".5"]),
        ),
        "timestamp": st.one_of(
            st.datetimes(datetime(2025, 1, 1), datetime(2027, 1, 1)).map(lambda at: at.isoformat() + "Z"),  # noqa: DTZ001
            st.sampled_from(["2026-04-20T24:00:00Z", "2026-04-20 12:00:00Z", "2026-04-20T12:00:60Z", "now"]),
        ),
        "properties": st.dictionaries(texts, values, max_size=4),
        "other": st.none(),
    },
).map(lambda changed: EVENT | changed)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(bodies, min_size=1, max_size=3), st.booleans(), st.booleans())
def test_the_two_readings_agree(
    context: Context, acme: Quarter, events: list[dict[str, Any]], alone: bool, ascii_only: bool
) -> None:
    raw = json.dumps(events[0] if alone else {"events": events}, ensure_ascii=ascii_only).encode()
    quick = quickly(context, acme, raw)
    assert quick is None or quick == carefully(context, acme, raw)
