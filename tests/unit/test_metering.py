"""Metering: what a usage event may say, and what facts add up to."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest

from billing.errors import InvalidUsage
from billing.metering import (
    Aggregation,
    FieldError,
    UsageEvent,
    UsageFact,
    aggregate,
    check_usage_event,
    group_key,
    matches,
    parse_instant,
    parse_quantity,
)
from billing.periods import Period

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
NOVEMBER = Period(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))
RUN: dict[str, object] = {
    "event_id": "run-8f2c",
    "organization": "acme",
    "product": "autoflow",
    "metric": "workflow_runs",
    "quantity": "3",
    "timestamp": "2026-11-22T10:15:00Z",
    "properties": {"workflow": "invoice-intake", "region": "eu"},
}


def checked(**changes: object) -> UsageEvent:
    event = check_usage_event({**RUN, **changes}, NOW)
    assert isinstance(event, UsageEvent), event
    return event


def refused(**changes: object) -> list[FieldError]:
    errors = check_usage_event({**RUN, **changes}, NOW)
    assert isinstance(errors, list), errors
    return errors


def test_a_good_event_is_taken_as_it_is() -> None:
    assert checked() == UsageEvent(
        event_id="run-8f2c",
        organization="acme",
        product="autoflow",
        metric="workflow_runs",
        quantity=Decimal(3),
        occurred_at=datetime(2026, 11, 22, 10, 15, tzinfo=UTC),
        properties={"workflow": "invoice-intake", "region": "eu"},
    )


def test_quantity_and_properties_may_be_left_out() -> None:
    short = {name: value for name, value in RUN.items() if name not in ("quantity", "properties")}
    event = check_usage_event(short, NOW)
    assert isinstance(event, UsageEvent)
    assert (event.quantity, event.properties) == (Decimal(1), {})


def test_every_missing_and_unknown_field_is_named_at_once() -> None:
    errors = check_usage_event({"event_id": "", "colour": "red", "quantity": "x"}, NOW)
    assert isinstance(errors, list)
    assert {error.field for error in errors} == {
        "colour", "event_id", "organization", "product", "metric", "quantity", "timestamp",
    }  # fmt: skip
    assert FieldError("colour", "is not a known field") in errors
    assert FieldError("timestamp", "is required") in errors


def test_a_flood_of_unknown_fields_is_reported_in_part() -> None:
    assert len(refused(**{f"x{n}": 1 for n in range(1000)})) == 10
    (error,) = refused(**{"\ud800" * 1000: 1})
    assert len(error.field.encode("utf-8")) == 64


@pytest.mark.parametrize("field", ["event_id", "organization", "product", "metric"])
@pytest.mark.parametrize("value", ["", "x" * 256, "a\0b", "\ud800", 7, None, ["x"]])
def test_texts_have_1_to_255_storable_characters(field: str, value: object) -> None:
    assert [error.field for error in refused(**{field: value})] == [field]


def test_the_longest_and_strangest_texts_are_taken() -> None:
    assert checked(event_id="x", organization="x", product="x", metric="x").event_id == "x"
    assert checked(event_id="x" * 255).event_id == "x" * 255
    assert checked(event_id="💶 'quoted' \u202e").event_id == "💶 'quoted' \u202e"


@pytest.mark.parametrize(
    ("value", "quantity"),
    [
        ("3", "3"),
        ("3.000", "3"),
        (3, "3"),
        (Decimal("3.50"), "3.5"),
        ("-0.000000000001", "-0.000000000001"),
        ("999999999999.999999999999", "999999999999.999999999999"),
        ("1e3", "1000"),
        ("1E-7", "0.0000001"),
        ("0e999", "0"),
        ("-0.0", "0"),
        ("1.0000000000000000000", "1"),
        ("000123", "123"),
        ("0." + "0" * 62, "0"),
    ],
)
def test_a_quantity_has_one_form(value: object, quantity: str) -> None:
    assert format(parse_quantity(value), "f") == quantity


@pytest.mark.parametrize(
    "value",
    ["", " 1", "1,5", "1_0", "+1", ".5", "1.", "NaN", "Infinity", "-inf", "0x10", "１２", "1e12", "-1e999",
     "1000000000000", 10**12, -(10**12), "0.0000000000001", "0." + "0" * 63, 1.5, True, None, [],
     Decimal("NaN"), Decimal("Infinity"), Decimal("1e12"),
     pytest.param(10**4000, id="huge")],
)  # fmt: skip
def test_what_is_no_quantity_is_refused(value: object) -> None:
    with pytest.raises(InvalidUsage) as refusal:
        parse_quantity(value)
    assert refusal.value.field == "quantity"


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-11-22T10:15:00Z", "2026-11-22T10:15:00+00:00"),
        ("2026-11-22t10:15:00z", "2026-11-22T10:15:00+00:00"),
        ("2026-11-22 10:15:00+02:00", "2026-11-22T08:15:00+00:00"),
        ("2026-11-22T10:15:00.5-00:30", "2026-11-22T10:45:00.500000+00:00"),
        ("2026-11-22T10:15:00.123456789Z", "2026-11-22T10:15:00.123456+00:00"),
    ],
)
def test_instants_of_any_zone_become_utc(text: str, instant: str) -> None:
    assert parse_instant(text).isoformat() == instant


@pytest.mark.parametrize(
    "value",
    ["2026-11-22T10:15:00", "2026-11-22", "20261122T101500Z", "2026-W47-7T10:15:00Z", "2026-02-29T00:00:00Z",
     "2026-11-22T24:30:00Z", "2026-12-31T23:59:60Z", "2026-11-22T10:15Z", "0001-01-01T00:00:00+23:00",
     "2026-11-22T10:15:00+99:00", " 2026-11-22T10:15:00Z", "２026-11-22T10:15:00Z", 1763806500, None,
     NOW],
)  # fmt: skip
def test_what_is_no_instant_is_refused(value: object) -> None:
    with pytest.raises(InvalidUsage):
        parse_instant(value)
    assert [error.field for error in refused(timestamp=value)] == ["timestamp"]


def test_the_window_reaches_from_400_days_back_to_5_minutes_ahead() -> None:
    for at in (NOW + timedelta(minutes=5), NOW - timedelta(days=400)):
        assert checked(timestamp=at.isoformat()).occurred_at == at
    assert "5 minutes" in refused(timestamp=(NOW + timedelta(minutes=5, seconds=1)).isoformat())[0].message
    assert "400 days" in refused(timestamp=(NOW - timedelta(days=400, seconds=1)).isoformat())[0].message


@pytest.mark.parametrize(
    ("properties", "field"),
    [
        ([], "properties"),
        (None, "properties"),
        ({str(n): 1 for n in range(51)}, "properties"),
        ({"k" * 65: 1}, "properties"),
        ({"": 1}, "properties"),
        ({"a\0": 1}, "properties"),
        ({"a": None}, "properties.a"),
        ({"a": {"b": 1}}, "properties.a"),
        ({"a": [1]}, "properties.a"),
        ({"a": 1.5}, "properties.a"),
        ({"a": Decimal(1)}, "properties.a"),
        ({"a": 2**63}, "properties.a"),
        ({"a": "x" * 501}, "properties.a"),
        ({"a": "\udc00"}, "properties.a"),
    ],
)
def test_properties_are_flat_small_and_storable(properties: object, field: str) -> None:
    assert [error.field for error in refused(properties=properties)] == [field]


def test_properties_at_their_limits_are_taken() -> None:
    full: dict[str, object] = {f"{n}".rjust(64, "k"): "x" * 500 for n in range(47)}
    full |= {"low": -(2**63), "high": 2**63 - 1, "on": True}
    assert checked(properties=full).properties == full


def fact(quantity: int, day: int, key: str = "", unique_value: str | None = None) -> UsageFact:
    return UsageFact(Fraction(quantity), datetime(2026, 11, day, tzinfo=UTC), key, unique_value)


FACTS = [fact(10, 1, "a", "ann"), fact(2, 11, "b", "bob"), fact(6, 21, "c", "ann"), fact(4, 11, "d")]


@pytest.mark.parametrize(
    ("aggregation", "quantity"),
    [
        (Aggregation.count, 4),
        (Aggregation.sum, 22),
        (Aggregation.max, 10),
        (Aggregation.min, 2),
        (Aggregation.avg, Fraction(11, 2)),
        (Aggregation.unique, 2),
        (Aggregation.last, 6),
        # 10 for 30 days, (2 + 4) for 20, 6 for 10: (300 + 120 + 60) / 30
        (Aggregation.time_weighted_sum, 16),
    ],
)
def test_facts_of_a_month(aggregation: Aggregation, quantity: Fraction) -> None:
    assert aggregate(aggregation, FACTS, NOVEMBER) == quantity


@pytest.mark.parametrize("aggregation", Aggregation)
def test_no_facts_make_zero(aggregation: Aggregation) -> None:
    assert aggregate(aggregation, [], NOVEMBER) == 0


@pytest.mark.parametrize("aggregation", Aggregation)
def test_the_first_instant_counts_and_the_end_does_not(aggregation: Aggregation) -> None:
    first = UsageFact(Fraction(5), NOVEMBER.start, "first", "u")
    beyond = UsageFact(Fraction(7), NOVEMBER.end, "beyond", "v")
    expected = 1 if aggregation in (Aggregation.count, Aggregation.unique) else 5
    assert aggregate(aggregation, [first, beyond], NOVEMBER) == expected


def test_only_a_level_carries_over_from_before() -> None:
    october = UsageFact(Fraction(3), NOVEMBER.start - timedelta(days=9), "oct", "old")
    for aggregation in Aggregation:
        expected = 3 if aggregation is Aggregation.time_weighted_sum else 0
        assert aggregate(aggregation, [october], NOVEMBER) == expected


def test_a_level_that_falls_is_weighted_too() -> None:
    # 6 seats, 2 of them given back after 20 of 30 days: 6 - 2 * 10/30
    assert aggregate(Aggregation.time_weighted_sum, [fact(6, 1), fact(-2, 21)], NOVEMBER) == Fraction(16, 3)


def test_the_last_of_two_facts_of_one_instant_does_not_depend_on_the_sequence() -> None:
    left, right = fact(1, 5, "a"), fact(2, 5, "b")
    assert aggregate(Aggregation.last, [left, right], NOVEMBER) == 2
    assert aggregate(Aggregation.last, [right, left], NOVEMBER) == 2


def test_a_repeated_fact_counts_once_and_a_contradiction_is_refused() -> None:
    assert aggregate(Aggregation.sum, [*FACTS, *FACTS], NOVEMBER) == 22
    assert aggregate(Aggregation.sum, [fact(1, 2), fact(1, 2)], NOVEMBER) == 2
    with pytest.raises(InvalidUsage, match="two contents"):
        aggregate(Aggregation.sum, [FACTS[0], replace(FACTS[0], quantity=Fraction(11))], NOVEMBER)


def test_an_empty_period_has_no_mean() -> None:
    empty = Period(NOVEMBER.start, NOVEMBER.start)
    assert aggregate(Aggregation.time_weighted_sum, FACTS, empty) == 0


def test_filters_want_one_of_the_listed_values_of_each_property() -> None:
    eu = {"region": "eu", "tries": 1}
    assert matches(eu, {})
    assert matches(eu, {"region": ["us", "eu"], "tries": [1]})
    assert not matches(eu, {"region": ["us"]})
    assert not matches(eu, {"region": ["eu"], "tier": ["gold"]})
    assert not matches(eu, {"tries": [True]}), "true is not 1"


def test_groups_differ_when_their_values_types_or_presence_do() -> None:
    events: list[dict[str, object]] = [{"r": "eu"}, {"r": "us"}, {"r": 1}, {"r": "1"}, {"r": True}, {}]
    assert len({group_key(event, ["r"]) for event in events}) == len(events)
    assert group_key({"b": 1, "a": 2, "c": 3}, ["b", "a"]) == '{"a":2,"b":1}'
    assert group_key({"r": "eu"}, []) == ""
