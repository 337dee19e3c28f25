"""Bodies that two parsers could read differently, or that no column could hold, are refused at the door."""

from decimal import Decimal

import pytest

from billing.metering import FieldError
from web.problems import BadRequest, InvalidFields
from web.strict_json import MAX_DEPTH, decode

REFUSED = {
    "empty": b"",
    "no JSON": b"{event_id: 1}",
    "NaN": b'{"quantity": NaN}',
    "Infinity": b'{"quantity": Infinity}',
    "minus Infinity": b'{"quantity": -Infinity}',
    "a key twice": b'{"quantity": 1, "quantity": 2}',
    "a key twice, deep inside": b'{"a": [{"b": {"c": 1, "c": 1}}]}',
    "a number of 5,000 digits": b'{"quantity": ' + b"9" * 5_000 + b"}",
    "a fraction of 5,000 digits": b'{"quantity": 0.' + b"9" * 5_000 + b"}",
    "bad UTF-8": b'{"event_id": "\xff"}',
    "a surrogate in UTF-8": b'{"event_id": "\xed\xa0\x80"}',
    "a byte order mark": b"\xef\xbb\xbf{}",
    "two values": b"{} {}",
    "200,000 arrays deep": b"[" * 200_000,
    "200,000 objects deep": b'{"a":' * 200_000,
    "a few too deep": b"[" * (MAX_DEPTH + 2) + b"]" * (MAX_DEPTH + 2),
}


@pytest.mark.parametrize("body", REFUSED.values(), ids=REFUSED.keys())
def test_refused(body: bytes) -> None:
    with pytest.raises(BadRequest):
        decode(body)


def test_numbers_keep_what_the_sender_wrote() -> None:
    assert decode(b"[0.1, 1e2, 12345678901234567890, -0]") == [
        Decimal("0.1"),
        Decimal("1E+2"),
        12345678901234567890,
        0,
    ]


def test_escapes_of_what_can_be_stored_are_read() -> None:
    assert decode(b'{"name": "caf\\u00e9 \\ud83d\\ude00"}') == {"name": "café \U0001f600"}


def test_what_is_not_too_deep_is_read() -> None:
    assert decode(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH) is not None


@pytest.mark.parametrize(
    ("body", "field", "index"),
    [
        (b'{"event_id": "\\ud800"}', "event_id", None),
        (b'{"event_id": "a\\u0000b"}', "event_id", None),
        (b'{"address": {"city": "\\u0000"}}', "address.city", None),
        (b'{"scopes": ["read", "\\u0000"]}', "scopes[1]", None),
        (b'{"\\udfff": 1}', "\\udfff", None),
        (b'{"a": {"\\u0000": 1}}', "a.\\0", None),
        (b'{"events": [{}, {"event_id": "a\\u0000"}]}', "event_id", 1),
        (b'{"events": [{"properties": {"flow": "\\u0000"}}]}', "properties.flow", 0),
        (b'["\\u0000"]', "[0]", None),
    ],
)
def test_a_text_that_cannot_be_stored_is_named(body: bytes, field: str, index: int | None) -> None:
    with pytest.raises(InvalidFields) as refusal:
        decode(body)
    assert refusal.value.errors == [FieldError(field, "holds a NUL or a lone surrogate", index)]


def test_every_text_that_cannot_be_stored_is_named() -> None:
    with pytest.raises(InvalidFields) as refusal:
        decode(b'{"events": [{"event_id": "\\u0000", "metric": "\\u0000"}, {"product": "\\ud800"}]}')
    assert [(error.index, error.field) for error in refusal.value.errors] == [
        (0, "event_id"),
        (0, "metric"),
        (1, "product"),
    ]
