"""Only what Stripe signed, and signed now, is taken for Stripe's word."""

import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest

from gateway.errors import InvalidSignature
from gateway.webhooks import HANDLED_EVENTS, verify
from tests.contract import sdk

NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
SECRET = "whsec_one"
BODY = '{"id": "evt_1", "note": "crème brûlée"}'.encode()


def signed(body: bytes = BODY, secret: str = SECRET, at: datetime = NOW) -> str:
    """A header as Stripe's documentation describes it, made without Stripe's SDK."""
    seconds = int(at.timestamp())
    digest = hmac.new(secret.encode(), f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={seconds},v1={digest}"


def test_a_fresh_signature_passes() -> None:
    verify(BODY, signed(), [SECRET], NOW)


def test_either_of_two_secrets_passes_while_one_is_replaced() -> None:
    verify(BODY, signed(secret="whsec_old"), ["whsec_new", "whsec_old"], NOW)
    both = f"{signed(secret='whsec_gone')},{signed().split(',')[1]}"
    verify(BODY, both, [SECRET], NOW)


@pytest.mark.parametrize("seconds", [-300, 300])
def test_the_tolerance_is_inclusive_both_ways(seconds: int) -> None:
    verify(BODY, signed(at=NOW + timedelta(seconds=seconds)), [SECRET], NOW)


@pytest.mark.parametrize("seconds", [-301, 301, -86_400, 86_400])
def test_too_old_and_from_the_future_are_refused(seconds: int) -> None:
    with pytest.raises(InvalidSignature, match="too old, or from the future"):
        verify(BODY, signed(at=NOW + timedelta(seconds=seconds)), [SECRET], NOW)


def test_a_changed_body_is_refused() -> None:
    with pytest.raises(InvalidSignature, match="no signature matches"):
        verify(BODY + b" ", signed(), [SECRET], NOW)


def test_a_moved_time_is_refused() -> None:
    later = signed().replace(str(int(NOW.timestamp())), str(int(NOW.timestamp()) + 5))
    with pytest.raises(InvalidSignature, match="no signature matches"):
        verify(BODY, later, [SECRET], NOW)


def test_another_scheme_is_no_proof() -> None:
    with pytest.raises(InvalidSignature):
        verify(BODY, signed().replace("v1=", "v0="), [SECRET], NOW)


@pytest.mark.parametrize("secrets", [[], [""], ["  ", "\t"]])
def test_without_a_secret_nothing_passes(secrets: list[str]) -> None:
    for secret in ("", *secrets):
        with pytest.raises(InvalidSignature, match="no signing secret"):
            verify(BODY, signed(secret=secret), secrets, NOW)


def test_an_empty_secret_beside_a_real_one_opens_nothing() -> None:
    with pytest.raises(InvalidSignature, match="no signature matches"):
        verify(BODY, signed(secret=""), ["", SECRET], NOW)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "t=",
        "t=1",
        "v1=abc",
        "t=abc,v1=abc",
        "t=99999999999999999999,v1=a",
        "nonsense",
        ",,,",
        "t=-5,v1=a",
        "é=1",
    ],
)
def test_a_hostile_header_is_refused_and_raises_nothing_else(header: str) -> None:
    with pytest.raises(InvalidSignature):
        verify(BODY, header, [SECRET], NOW)


def test_two_times_in_one_header_are_refused() -> None:
    old = signed(at=NOW - timedelta(days=1))
    with pytest.raises(InvalidSignature, match="once"):
        verify(BODY, f"{old},t={int(NOW.timestamp())}", [SECRET], NOW)


def test_a_body_that_is_no_text_is_refused() -> None:
    body = b"\xff\xfe{}"
    with pytest.raises(InvalidSignature):
        verify(body, signed(body), [SECRET], NOW)


def test_what_we_subscribe_to_exists_and_is_sorted() -> None:
    event = sdk.resource("event")
    assert event is not None
    assert set(HANDLED_EVENTS) <= set(get_args(sdk.fields(event)["type"]))
    assert list(HANDLED_EVENTS) == sorted(set(HANDLED_EVENTS))
    assert "invoice.paid" in HANDLED_EVENTS
    assert "invoice.payment_succeeded" not in HANDLED_EVENTS
    assert json.dumps(HANDLED_EVENTS)
