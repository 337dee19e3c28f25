"""The two doors: what is taken is stored before the 2xx; what is refused leaves nothing behind."""

import hashlib
import hmac
import io
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from werkzeug.test import TestResponse

from tests.integration.web_world import NOW, WEBHOOK_SECRET, WebWorld, web_world
from web.calls import KIB, MIB

TRACK = "/api/billing/usage/track/"
STRIPE = "/api/subscriptions/webhooks/stripe/"
EVENT: dict[str, Any] = {
    "event_id": "run-1",
    "organization": "acme",
    "product": "flow",
    "metric": "runs",
    "quantity": "3",
    "timestamp": "2026-04-20T10:15:00Z",
    "properties": {"workflow": "invoice-intake"},
}


@pytest.fixture(scope="module")
def world() -> Iterator[WebWorld]:
    with web_world("web_doors") as made:
        yield made


def _track(world: WebWorld, body: Any, **headers: str) -> TestResponse:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return world.call("POST", TRACK, "product", data=raw, content_type="application/json", headers=headers)


# -- usage -----------------------------------------------------------------------------------------


def test_one_event_is_a_batch_of_one(world: WebWorld) -> None:
    answer = _track(world, {**EVENT, "event_id": "single"})
    assert answer.status_code == 202
    assert answer.get_json()["accepted"] == 1
    stored = world.sql(
        "SELECT events, state FROM ops.usage_inbox WHERE id = :id", id=answer.get_json()["batch_id"]
    )
    assert stored[0][0][0]["event_id"] == "single"
    assert stored[0][1] == "queued"
    assert ("usage.drain", None) in world.bell.rung


def test_a_batch_is_accounted_for_from_its_first_moment(world: WebWorld) -> None:
    taken = _track(world, {"events": [{**EVENT, "event_id": f"many-{n}"} for n in range(20)]})
    seen = world.call("GET", f"/api/billing/usage/batches/{taken.get_json()['batch_id']}/", "product")
    assert seen.get_json() == {
        "batch_id": taken.get_json()["batch_id"],
        "accepted": 20,
        "rated": 0,
        "waiting": 20,
        "quarantined": 0,
        "duplicate": 0,
        "reasons": {},
    }


def test_a_repeat_of_the_key_is_the_same_batch(world: WebWorld) -> None:
    event = {**EVENT, "event_id": "keyed"}
    first = _track(world, event, **{"Idempotency-Key": "k-1"})
    before = world.rows()
    again = _track(world, event, **{"Idempotency-Key": "k-1"})
    other = _track(world, {**event, "quantity": "4"}, **{"Idempotency-Key": "k-1"})
    assert again.status_code == 202
    assert again.get_json() == first.get_json()
    assert other.status_code == 409
    assert world.rows() == before


def test_one_bad_event_refuses_the_batch_and_is_named(world: WebWorld) -> None:
    before = world.rows()
    events = [EVENT, {**EVENT, "quantity": "many"}, {**EVENT, "metric": "unheard-of"}]
    answer = _track(world, {"events": events})
    assert answer.status_code == 422
    named = [(error["index"], error["field"]) for error in answer.get_json()["errors"]]
    assert named == [(1, "quantity"), (2, "metric")]
    assert world.rows() == before


REFUSED_BODIES: dict[str, bytes] = {
    "nothing": b"",
    "a list": b"[]",
    "a text": b'"events"',
    "no events": b'{"events": []}',
    "events that are none": b'{"events": [1, null, "x"]}',
    "events and more": json.dumps({"events": [EVENT], "event_id": "x"}).encode(),
    "5,001 events": json.dumps({"events": [{"event_id": str(n)} for n in range(5_001)]}).encode(),
    "NaN": json.dumps({**EVENT, "quantity": float("nan")}).encode(),
    "Infinity": json.dumps({**EVENT, "quantity": float("inf")}).encode(),
    "1e400": json.dumps(EVENT).replace('"3"', "1e400").encode(),
    "5,000 digits": json.dumps(EVENT).replace('"3"', "9" * 5_000).encode(),
    "a key twice": json.dumps(EVENT).replace('"quantity"', '"metric": "runs", "quantity"').encode(),
    "NUL": json.dumps({**EVENT, "event_id": "a\0b"}).encode(),
    "NUL in a property": json.dumps({**EVENT, "properties": {"a": "\0"}}).encode(),
    "a lone surrogate": json.dumps({**EVENT, "event_id": "\ud800"}).encode(),
    "bad UTF-8": json.dumps(EVENT).encode().replace(b"run-1", b"\xff\xfe"),
    "too deep": b'{"properties":' * 200_000,
    "no zone": json.dumps({**EVENT, "timestamp": "2026-04-20T10:15:00"}).encode(),
    "infinity as a time": json.dumps({**EVENT, "timestamp": "infinity"}).encode(),
    "a leap second": json.dumps({**EVENT, "timestamp": "2016-12-31T23:59:60Z"}).encode(),
    "the year 294276": json.dumps({**EVENT, "timestamp": "294276-01-01T00:00:00Z"}).encode(),
    "six minutes ahead": json.dumps(
        {**EVENT, "timestamp": (NOW + timedelta(minutes=6)).isoformat()}
    ).encode(),
    "401 days back": json.dumps({**EVENT, "timestamp": (NOW - timedelta(days=401)).isoformat()}).encode(),
    "another product": json.dumps({**EVENT, "product": "other"}).encode(),
    "an unknown organization": json.dumps({**EVENT, "organization": "nobody"}).encode(),
    "an unknown field": json.dumps({**EVENT, "price": "1"}).encode(),
    "a quantity that is true": json.dumps({**EVENT, "quantity": True}).encode(),
}


@pytest.mark.parametrize("body", REFUSED_BODIES.values(), ids=REFUSED_BODIES.keys())
def test_bad_input_is_refused_and_nothing_is_written(world: WebWorld, body: bytes) -> None:
    before = world.rows()
    answer = _track(world, body)
    assert 400 <= answer.status_code < 500
    assert answer.mimetype == "application/problem+json"
    assert answer.get_json()["status"] == answer.status_code
    assert world.rows() == before


def test_a_text_that_no_column_holds_is_named_by_its_event_and_field(world: WebWorld) -> None:
    answer = _track(world, {"events": [EVENT, {**EVENT, "event_id": "a\0b", "properties": {"a": "\ud800"}}]})
    assert answer.status_code == 422
    named = [(error["index"], error["field"]) for error in answer.get_json()["errors"]]
    assert named == [(1, "event_id"), (1, "properties.a")]


def test_a_body_above_the_cap_is_refused_unread(world: WebWorld) -> None:
    padded = json.dumps(EVENT).encode().ljust(4 * MIB + 1)
    assert _track(world, padded).status_code == 413
    assert _track(world, padded[: 4 * MIB]).status_code == 202


def test_a_chunked_body_above_the_cap_is_not_cut_off_but_refused(world: WebWorld) -> None:
    padded = json.dumps({**EVENT, "event_id": "chunked"}).encode().ljust(5 * MIB)
    answer = world.call(
        "POST",
        TRACK,
        "product",
        content_type="application/json",
        environ_overrides={
            "wsgi.input": io.BytesIO(padded),
            "wsgi.input_terminated": True,
            "CONTENT_LENGTH": "",
        },
    )
    assert answer.status_code == 413


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Encoding": "gzip"}, 415),
        ({"Idempotency-Key": ""}, 422),
        ({"Idempotency-Key": "k" * 256}, 422),
        ({"Idempotency-Key": "with space"}, 422),
    ],
)
def test_headers_that_are_refused(world: WebWorld, headers: dict[str, str], status: int) -> None:
    before = world.rows()
    assert _track(world, EVENT, **headers).status_code == status
    assert world.rows() == before


def test_another_type_of_body_is_refused(world: WebWorld) -> None:
    answer = world.call("POST", TRACK, "product", data=b"a=b", content_type="text/plain")
    assert answer.status_code == 415


# -- webhooks --------------------------------------------------------------------------------------


def _signed(payload: bytes, *, seconds: int = 0, secret: str = WEBHOOK_SECRET, version: str = "v1") -> str:
    at = int(NOW.timestamp()) + seconds
    digest = hmac.new(secret.encode(), f"{at}.".encode() + payload, hashlib.sha256).hexdigest()
    return f"t={at},{version}={digest}"


def _stripe_says(world: WebWorld, payload: bytes, signature: str | None) -> TestResponse:
    headers = {} if signature is None else {"Stripe-Signature": signature}
    return world.call("POST", STRIPE, data=payload, content_type="application/json", headers=headers)


def _payload(event_id: str) -> bytes:
    return json.dumps(
        {
            "id": event_id,
            "object": "event",
            "type": "invoice.paid",
            "api_version": "2026-10-28.endive",
            "created": int(NOW.timestamp()),
            "livemode": False,
            "pending_webhooks": 1,
            "request": None,
            "data": {"object": {"id": "in_1", "object": "invoice", "customer": "cus_acme"}},
        }
    ).encode()


def test_stripes_word_is_stored_before_the_answer(world: WebWorld) -> None:
    payload = _payload("evt_good")
    answer = _stripe_says(world, payload, _signed(payload))
    assert (answer.status_code, answer.get_json()) == (200, {"received": True})
    stored = world.sql("SELECT type, state, source FROM ops.webhook_inbox WHERE event_id = 'evt_good'")
    assert [tuple(row) for row in stored] == [("invoice.paid", "queued", "delivered")]
    assert ("webhooks.drain", None) in world.bell.rung


def test_said_twice_is_stored_once(world: WebWorld) -> None:
    payload = _payload("evt_twice")
    assert _stripe_says(world, payload, _signed(payload)).status_code == 200
    before = world.rows()
    assert _stripe_says(world, payload, _signed(payload, seconds=2)).status_code == 200
    assert world.rows() == before


PAYLOAD = _payload("evt_refused")
REFUSED_SIGNATURES: dict[str, str | None] = {
    "none": None,
    "empty": "",
    "nonsense": "t=now,v1=x",
    "another secret": _signed(PAYLOAD, secret="whsec_of_another"),
    "301 s old": _signed(PAYLOAD, seconds=-301),
    "301 s ahead": _signed(PAYLOAD, seconds=301),
    "of another payload": _signed(PAYLOAD + b" "),
    "an old scheme": _signed(PAYLOAD, version="v0"),
    "without a time": _signed(PAYLOAD).partition(",")[2],
    "not ASCII": _signed(PAYLOAD).partition(",")[0] + ",v1=é",
}


@pytest.mark.parametrize("signature", REFUSED_SIGNATURES.values(), ids=REFUSED_SIGNATURES.keys())
def test_what_stripe_did_not_sign_is_refused(world: WebWorld, signature: str | None) -> None:
    before = world.rows()
    answer = _stripe_says(world, PAYLOAD, signature)
    assert answer.status_code == 400
    assert answer.mimetype == "application/problem+json"
    assert world.rows() == before


@pytest.mark.parametrize("payload", [b"", b"[]", b"not JSON", b'{"id": 1}', b"{}"])
def test_a_signed_payload_that_is_no_event_is_refused(world: WebWorld, payload: bytes) -> None:
    before = world.rows()
    assert _stripe_says(world, payload, _signed(payload)).status_code == 400
    assert world.rows() == before


def test_too_large_a_webhook_is_refused(world: WebWorld) -> None:
    payload = _payload("evt_large").ljust(256 * KIB + 1)
    assert _stripe_says(world, payload, _signed(payload)).status_code == 413
