"""Usage POSTs that need no explanation: read and checked in a tenth of the time.

What this takes, `usage_door.checked` takes too, and makes the same records of it; whatever is less than
plain (an escape, an exponent, a repeated key, an unknown name, a test clock, anything wrong) is left to that
one, which says what is wrong with it. A test holds the two together.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from billing.metering import (
    MAX_AHEAD,
    MAX_BACK,
    MAX_PROPERTIES,
    MAX_PROPERTY_KEY,
    MAX_PROPERTY_TEXT,
    MAX_TEXT,
    QUANTITY_BOUND,
)
from models.usage_intake import Addressee, MeteredProduct
from tasks.context import Context
from tasks.usage_door import CheckedEvents, door

MAX_EVENTS = 5_000

_Text = Annotated[str, Meta(min_length=1, max_length=MAX_TEXT)]
_Key = Annotated[str, Meta(min_length=1, max_length=MAX_PROPERTY_KEY)]
_Word = Annotated[str, Meta(max_length=MAX_PROPERTY_TEXT)]
_Integer = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]

_Properties = Annotated[dict[_Key, _Word | _Integer | bool], Meta(max_length=MAX_PROPERTIES)]


class _Event(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    event_id: _Text
    organization: _Text
    product: _Text
    metric: _Text
    timestamp: str
    quantity: str | int | UnsetType = UNSET
    properties: (
        Annotated[dict[_Key, _Word | _Integer | bool], Meta(max_length=MAX_PROPERTIES)] | UnsetType
    ) = UNSET


class _Batch(msgspec.Struct, forbid_unknown_fields=True):
    events: Annotated[list[_Event], Meta(min_length=1, max_length=MAX_EVENTS)]


class _Record(msgspec.Struct, gc=False):
    """As `usage_door` writes an event for the inbox."""

    index: int
    organization_id: str
    event_id: str
    meter_id: str
    quantity: str
    occurred_at: str
    properties: dict[str, str | int | bool] | None


_ONE, _MANY = msgspec.json.Decoder(_Event), msgspec.json.Decoder(_Batch)
_ENCODER = msgspec.json.Encoder()
_QUANTITY = re.compile(r"-?[0-9]{1,12}(?:\.[0-9]{1,12})?")
# In UTC, to the microsecond at most: Postgres reads it just as it stands.
_INSTANT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-2][0-9]:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?(?:Z|\+00:00)"
)


class _NotPlain(Exception):
    """Left to the door that explains."""


def plain_events(context: Context, product_id: UUID, raw: bytes) -> CheckedEvents | None:
    """The checked events of a POST's body as they go into the inbox; None when it is not plain."""
    # An escape can hide anything; a space before a colon would spoil the count of keys below.
    if b"\\" in raw or any(space in raw for space in (b" :", b"\n:", b"\t:", b"\r:")):
        return None
    try:
        events = _MANY.decode(raw).events if b'"events"' in raw[:64] else [_ONE.decode(raw)]
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    wrapped = 1 if b'"events"' in raw[:64] else 0
    if raw.count(b'":') != wrapped + sum(map(_keys, events)):
        return None  # a key stands twice, and only one of the two was read
    known = door(context, product_id, {e.metric for e in events}, {e.organization for e in events})
    try:
        records = _records(events, known.product, known.organizations, context.wall())
    except _NotPlain:
        return None
    organization_ids = {known.organizations[event.organization].id for event in events}
    return CheckedEvents(sorted(organization_ids), _ENCODER.encode(records).decode(), len(records))


def _keys(event: _Event) -> int:
    properties = 0 if event.properties is UNSET else 1 + len(event.properties)
    return 5 + (event.quantity is not UNSET) + properties


def _records(
    events: list[_Event], product: MeteredProduct, organizations: Mapping[str, Addressee], now: datetime
) -> list[_Record]:
    code, earliest, latest = product.code, now - MAX_BACK, now + MAX_AHEAD
    meters = {metric: str(meter_id) for metric, meter_id in product.meters.items()}
    # An organization on a test clock has another now.
    ids = {name: str(found.id) for name, found in organizations.items() if found.frozen_at is None}
    records = []
    for index, event in enumerate(events):
        organization_id, meter_id = ids.get(event.organization), meters.get(event.metric)
        if organization_id is None or meter_id is None or event.product != code:
            raise _NotPlain
        if not earliest <= _instant(event.timestamp) <= latest:
            raise _NotPlain
        quantity, properties = event.quantity, event.properties
        records.append(
            _Record(
                index,
                organization_id,
                event.event_id,
                meter_id,
                "1" if quantity is UNSET else _quantity(quantity),
                event.timestamp,
                None if properties is UNSET or not properties else properties,
            )
        )
    return records


def _instant(text: str) -> datetime:
    if not _INSTANT.fullmatch(text):
        raise _NotPlain
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise _NotPlain from None


def _quantity(value: str | int) -> str:
    if isinstance(value, int):
        if not -QUANTITY_BOUND < value < QUANTITY_BOUND:
            raise _NotPlain
        return str(value)
    if not _QUANTITY.fullmatch(value):
        raise _NotPlain
    return value
