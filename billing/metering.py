"""Metering: check a usage event at the door, and reduce facts of a period to one quantity."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from typing import Final, TypeVar

from billing.errors import InvalidUsage
from billing.periods import Period, exact_seconds

MAX_TEXT = 255
MAX_PROPERTIES = 50
MAX_PROPERTY_KEY = 64
MAX_PROPERTY_TEXT = 500
MAX_AHEAD = timedelta(minutes=5)
MAX_BACK = timedelta(days=400)
QUANTITY_BOUND = 10**12
QUANTITY_DECIMALS = 12

_MAX_QUANTITY_TEXT = 64
_MAX_REPORTED_UNKNOWN = 10
_INTEGER_BOUND = 2**63
_DECIMAL = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?")
_RFC_3339 = re.compile(
    r"(?P<local>[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2})"
    r"(?:\.(?P<fraction>[0-9]{1,9}))?(?P<zone>[Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_FIELDS = frozenset(("event_id", "organization", "product", "metric", "quantity", "timestamp", "properties"))
_ABSENT: Final = object()
_T = TypeVar("_T")


class Aggregation(StrEnum):
    """How the facts of a period become one quantity."""

    count = "count"  # type: ignore[assignment]  # str.count is of no use on a member
    sum = "sum"
    max = "max"
    min = "min"
    avg = "avg"
    unique = "unique"
    last = "last"
    time_weighted_sum = "time_weighted_sum"


@dataclass(frozen=True, slots=True)
class UsageFact:
    """One metered fact. `key` is its event's identity: facts of one key count once, "" is no identity."""

    quantity: Fraction
    at: datetime
    key: str = ""
    unique_value: str | None = None


@dataclass(frozen=True, slots=True)
class FieldError:
    """What is wrong with one field of one event; `index` is the event's place in its batch."""

    field: str
    message: str
    index: int | None = None


@dataclass(frozen=True, slots=True)
class UsageEvent:
    """A checked usage event, as a product reported it."""

    event_id: str
    organization: str
    product: str
    metric: str
    quantity: Decimal
    occurred_at: datetime
    properties: dict[str, object]


def aggregate(aggregation: Aggregation, facts: Iterable[UsageFact], period: Period) -> Fraction:
    """Reduce the facts whose instant lies in `period` to one quantity; their sequence is irrelevant.

    No fact at all gives 0. `unique` counts distinct `unique_value`s and ignores facts without one.
    `last` takes the latest instant (of equal instants the greatest key, then quantity).
    `time_weighted_sum` reads quantities as changes of a level and returns the level's mean over the
    period, sum(q * time left) / length; facts before the period carry over in full, so pass the
    history for a level that lives on and only the period's facts for one that restarts at zero.

    Raises: InvalidUsage when one key comes with two different contents.
    """
    distinct = _distinct(facts)
    if aggregation is Aggregation.time_weighted_sum:
        return _mean_level(distinct, period)
    return _REDUCERS[aggregation]([fact for fact in distinct if period.contains(fact.at)])


def matches(properties: Mapping[str, object], filters: Mapping[str, Sequence[object]]) -> bool:
    """Whether an event passes a meter's filters: each named property has one of the listed values."""
    for name, allowed in filters.items():
        value = properties.get(name)
        if not any(_same_value(value, each) for each in allowed):
            return False
    return True


def group_key(properties: Mapping[str, object], group_by: Sequence[str]) -> str:
    """Name the group of an event by the values of some properties; "" when a meter does not group.

    The key is a JSON object of exactly those names, null where the event lacks one, so groups that
    differ in value, type or presence never share a key.
    """
    if not group_by:
        return ""
    return json.dumps({name: properties.get(name) for name in sorted(group_by)}, separators=(",", ":"))


def check_usage_event(raw: Mapping[str, object], now: datetime) -> UsageEvent | list[FieldError]:
    """Check one decoded usage event; every field at fault is named, not just the first.

    Args: `raw` as decoded from JSON with numbers as int or Decimal, never float; `now` aware UTC.
    Returns: the event with canonical quantity and UTC instant, or a non-empty list of errors.
    """
    errors = _unknown_fields(raw)

    def take(field: str, read: Callable[[object], _T], fallback: _T, *, required: bool = True) -> _T:
        value = raw.get(field, _ABSENT)
        if value is _ABSENT:
            if required:
                errors.append(FieldError(field, "is required"))
            return fallback
        try:
            return read(value)
        except InvalidUsage as refusal:
            errors.append(FieldError(refusal.field or field, str(refusal)))
            return fallback

    event = UsageEvent(
        event_id=take("event_id", _text, ""),
        organization=take("organization", _text, ""),
        product=take("product", _text, ""),
        metric=take("metric", _text, ""),
        quantity=take("quantity", parse_quantity, Decimal(1), required=False),
        occurred_at=take("timestamp", lambda value: _within_window(parse_instant(value), now), now),
        properties=take("properties", _properties, {}, required=False),
    )
    return errors or event


def parse_quantity(value: object) -> Decimal:
    """Read a quantity: finite, |q| < 10^12, at most 12 decimals; returned without trailing zeros.

    Args: decimal text (an exponent of up to 3 digits is allowed), an int or a Decimal. Floats and
    booleans are refused: a float has already lost what the sender wrote. Raises: InvalidUsage.
    """
    number = _number(value)
    if not number:
        return Decimal(0)
    if number.adjusted() >= len(str(QUANTITY_BOUND)) - 1:
        raise InvalidUsage("must be less than 10^12 in magnitude", field="quantity")
    sign, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)  # finite: _number refuses the rest
    trailing = next(i for i, digit in enumerate(reversed(digits)) if digit)
    if exponent + trailing < -QUANTITY_DECIMALS:
        raise InvalidUsage("must have at most 12 decimals", field="quantity")
    canonical = Decimal((sign, digits[: len(digits) - trailing], exponent + trailing))
    # 1E+3 and 1000 are one number and must have one text.
    return Decimal(format(canonical, "f"))


def parse_instant(value: object) -> datetime:
    """Read an RFC 3339 instant with its zone; returned in UTC, cut to the microsecond.

    Raises: InvalidUsage for anything else, a leap second among it.
    """
    found = _RFC_3339.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise InvalidUsage(
            "must be an RFC 3339 instant with a zone, such as 2026-11-22T10:15:00Z", field="timestamp"
        )
    micros = (found["fraction"] or "").ljust(6, "0")[:6]
    zone = "+00:00" if found["zone"] in "Zz" else found["zone"]
    try:
        return datetime.fromisoformat(f"{found['local'].upper()}.{micros}{zone}").astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidUsage("is not a real date, time and zone", field="timestamp") from None


def _distinct(facts: Iterable[UsageFact]) -> list[UsageFact]:
    anonymous: list[UsageFact] = []
    by_key: dict[str, UsageFact] = {}
    for fact in facts:
        if not fact.key:
            anonymous.append(fact)
        elif by_key.setdefault(fact.key, fact) != fact:
            raise InvalidUsage(f"usage event {fact.key} has two contents", field="event_id")
    return [*anonymous, *by_key.values()]


def _mean_level(facts: list[UsageFact], period: Period) -> Fraction:
    if not period.seconds:
        return Fraction(0)
    weighted = (
        fact.quantity * exact_seconds(period.end - max(fact.at, period.start))
        for fact in facts
        if fact.at < period.end
    )
    return Fraction(sum(weighted, Fraction(0)), period.seconds)


def _sum(facts: list[UsageFact]) -> Fraction:
    return sum((fact.quantity for fact in facts), Fraction(0))


def _last(facts: list[UsageFact]) -> Fraction:
    latest = max(facts, key=lambda fact: (fact.at, fact.key, fact.quantity), default=None)
    return latest.quantity if latest else Fraction(0)


_REDUCERS: Mapping[Aggregation, Callable[[list[UsageFact]], Fraction]] = {
    Aggregation.count: lambda facts: Fraction(len(facts)),
    Aggregation.sum: _sum,
    Aggregation.max: lambda facts: max((fact.quantity for fact in facts), default=Fraction(0)),
    Aggregation.min: lambda facts: min((fact.quantity for fact in facts), default=Fraction(0)),
    Aggregation.avg: lambda facts: Fraction(_sum(facts), len(facts) or 1),
    Aggregation.unique: lambda facts: Fraction(len({fact.unique_value for fact in facts} - {None})),
    Aggregation.last: _last,
}


def _same_value(left: object, right: object) -> bool:
    # True == 1 in Python, but not to the sender of a property.
    return type(left) is type(right) and left == right


def _unknown_fields(raw: Mapping[str, object]) -> list[FieldError]:
    unknown = [str(name) for name in raw if name not in _FIELDS]
    return [FieldError(_printable(name), "is not a known field") for name in unknown[:_MAX_REPORTED_UNKNOWN]]


def _printable(name: str) -> str:
    return name[:MAX_PROPERTY_KEY].encode("utf-8", "replace").decode("utf-8")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise InvalidUsage("must be text")
    if not 1 <= len(value) <= MAX_TEXT:
        raise InvalidUsage(f"must have 1 to {MAX_TEXT} characters")
    return _storable(value)


def _storable(text: str, *, field: str | None = None) -> str:
    """Refuse what PostgreSQL cannot store: NUL, and halves of surrogate pairs."""
    if "\0" in text:
        raise InvalidUsage("must not contain the NUL character", field=field)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidUsage("must be valid Unicode", field=field) from None
    return text


def _number(value: object) -> Decimal:
    if isinstance(value, str) and len(value) <= _MAX_QUANTITY_TEXT and _DECIMAL.fullmatch(value):
        return Decimal(value)
    if isinstance(value, int) and not isinstance(value, bool):
        if abs(value) >= QUANTITY_BOUND:
            raise InvalidUsage("must be less than 10^12 in magnitude", field="quantity")
        return Decimal(value)
    if isinstance(value, Decimal) and value.is_finite():
        return value
    raise InvalidUsage("must be a finite decimal number, best written as text", field="quantity")


def _within_window(at: datetime, now: datetime) -> datetime:
    if at > now + MAX_AHEAD:
        raise InvalidUsage("must be at most 5 minutes ahead of now")
    if at < now - MAX_BACK:
        raise InvalidUsage("must be at most 400 days back")
    return at


def _properties(value: object) -> dict[str, object]:
    if not isinstance(value, Mapping):
        raise InvalidUsage("must be an object")
    if len(value) > MAX_PROPERTIES:
        raise InvalidUsage(f"must have at most {MAX_PROPERTIES} keys")
    return {_property_key(key): _property_value(key, item) for key, item in value.items()}


def _property_key(key: object) -> str:
    if not isinstance(key, str) or not 1 <= len(key) <= MAX_PROPERTY_KEY:
        raise InvalidUsage(f"keys must have 1 to {MAX_PROPERTY_KEY} characters")
    return _storable(key)


def _property_value(key: str, value: object) -> str | int | bool:
    field = f"properties.{_printable(key)}"
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        if not -_INTEGER_BOUND <= value < _INTEGER_BOUND:
            raise InvalidUsage("must fit in 64 bits", field=field)
        return value
    if not isinstance(value, str):
        raise InvalidUsage("must be text, an integer, true or false", field=field)
    if len(value) > MAX_PROPERTY_TEXT:
        raise InvalidUsage(f"must have at most {MAX_PROPERTY_TEXT} characters", field=field)
    return _storable(value, field=field)
