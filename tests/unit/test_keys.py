"""Keys: the same intention, the same name; different ones never run together."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest

from billing.invoicing import LineKind
from billing.keys import line_id, line_key, stripe_key

INVOICE = UUID("0198a6f0-0000-7000-8000-000000000001")
ACME = UUID("0198a6f0-0000-7000-8000-00000000000a")
BOLT = UUID("0198a6f0-0000-7000-8000-00000000000b")


def test_a_key_names_operation_object_and_attempt() -> None:
    assert stripe_key("pay", INVOICE, 1) == f"pay:{INVOICE}:1"
    assert stripe_key("pay", INVOICE, 1) != stripe_key("pay", INVOICE, 2)


def test_parts_never_run_together() -> None:
    assert stripe_key("pay", "a:b", "c") != stripe_key("pay", "a", "b:c")
    assert stripe_key("pay", "a%3Ab") != stripe_key("pay", "a:b")
    assert stripe_key("pay", "a", "") != stripe_key("pay", "a")


def test_long_keys_are_cut_without_meeting() -> None:
    left, right = stripe_key("pay", "x" * 400 + "1"), stripe_key("pay", "x" * 400 + "2")
    assert len(left) == len(right) == 255
    assert left != right and left.startswith("pay:xxx")
    assert stripe_key("pay", "x" * 251) == "pay:" + "x" * 251


def test_keys_are_ascii_without_control_characters() -> None:
    key = stripe_key("pay", "Zoë\r\n", "💶")
    assert key.isascii() and key.isprintable()


def test_an_instant_has_one_name_in_every_zone() -> None:
    at = datetime(2026, 5, 1, 1, 0, tzinfo=UTC)
    assert line_key(LineKind.usage, at) == "usage:20260501T010000Z"
    assert line_key(LineKind.usage, at.astimezone(timezone(timedelta(hours=2)))) == "usage:20260501T010000Z"
    assert line_key(at + timedelta(microseconds=5)) == "20260501T010000.000005Z"


def test_line_ids_repeat_and_differ_between_organizations() -> None:
    assert line_id(ACME, INVOICE, "usage", "runs") == line_id(ACME, INVOICE, "usage", "runs")
    assert line_id(ACME, INVOICE, "usage") != line_id(BOLT, INVOICE, "usage")
    # Stored: an invoice computed again by a later version must find its rows.
    assert line_id(ACME, INVOICE, "usage") == UUID("88cf08c3-54fa-5373-95e9-3d787b770708")


def test_what_has_no_one_text_is_refused() -> None:
    with pytest.raises(TypeError, match="float"):
        stripe_key("pay", 0.1)
    with pytest.raises(ValueError, match="naive"):
        line_key(datetime(2026, 5, 1))  # noqa: DTZ001 - the point of the test
