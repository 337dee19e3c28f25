"""Prices per group: who belongs where, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from billing.errors import InvalidTerms
from billing.groups import REST, GroupedTerms, match_record, read_match
from billing.terms import ChargeTerms

PER_UNIT: dict[str, Any] = {"model": "per_unit", "currency": "USD", "unit_price": "1"}
BY_REGION_AND_MODEL = GroupedTerms.from_record(
    {
        **PER_UNIT,
        "groups": [
            {"match": {"region": "eu", "model": ["xl", "large"]}, "model": "per_unit", "unit_price": "9"},
            {"match": {"region": ["eu", "uk"]}, "model": "per_unit", "unit_price": "5", "included": "10"},
        ],
    }
)


@pytest.mark.parametrize(
    ("properties", "number"),
    [
        ({"region": "eu", "model": "large"}, 1),
        ({"region": "eu", "model": "small"}, 2),
        ({"region": "eu"}, 2),
        ({"region": "uk", "model": "large"}, 2),
        ({"region": "us"}, REST),
        ({}, REST),
        ({"region": True}, REST),
    ],
)
def test_an_event_belongs_to_the_first_group_that_it_matches(
    properties: dict[str, object], number: int
) -> None:
    assert BY_REGION_AND_MODEL.number_of(properties) == number


def test_each_group_has_its_own_terms_and_a_name() -> None:
    told = [
        (number, BY_REGION_AND_MODEL.name_of(number), int(BY_REGION_AND_MODEL.terms_of(number).unit_price))
        for number in BY_REGION_AND_MODEL.numbers
    ]
    assert told == [
        (1, "model large or xl, region eu", 9),
        (2, "region eu or uk", 5),
        (REST, "any other model and region", 1),
    ]
    assert GroupedTerms.from_record(PER_UNIT).name_of(REST) == ""


def test_a_record_comes_back_equal_and_without_groups_is_that_of_the_terms() -> None:
    stored = json.loads(json.dumps(BY_REGION_AND_MODEL.to_record()))
    assert GroupedTerms.from_record(stored) == BY_REGION_AND_MODEL
    plain = GroupedTerms.from_record(PER_UNIT)
    assert plain.to_record() == plain.rest.to_record()
    # Who knows no groups must not read a price with groups as one without.
    with pytest.raises(InvalidTerms):
        ChargeTerms.from_record(stored)


def test_equal_matches_have_equal_records() -> None:
    one = read_match({"b": ["y", "x", "y"], "a": 1}, field="match")
    other = read_match({"a": [1], "b": ("x", "y")}, field="match")
    assert match_record(one) == match_record(other) == {"a": [1], "b": ["x", "y"]}
    assert match_record(read_match({"a": [1, True, "1"]}, field="match")) == {"a": [True, 1, "1"]}


@pytest.mark.parametrize(
    ("groups", "field"),
    [
        ({"region": "eu"}, "groups"),
        (["eu"], "groups.0"),
        ([{"match": {}, **PER_UNIT}], "groups.0.match"),
        ([{"match": "eu", **PER_UNIT}], "groups.0.match"),
        ([{"match": {"region": []}, **PER_UNIT}], "groups.0.match.region"),
        ([{"match": {"region": None}, **PER_UNIT}], "groups.0.match.region"),
        ([{"match": {"region": 1.5}, **PER_UNIT}], "groups.0.match.region"),
        ([{"match": {"": "eu"}, **PER_UNIT}], "groups.0.match"),
        ([{"match": {"region": "eu"}, **PER_UNIT, "unit_price": "-1"}], "groups.0.unit_price"),
        ([{"match": {"region": "eu"}, **PER_UNIT, "currency": "ZAR"}], "groups.0.currency"),
        (
            [
                {"match": {"region": ["eu", "uk"]}, **PER_UNIT},
                {"match": {"region": "eu", "a": 1}, **PER_UNIT},
            ],
            "groups.1.match",
        ),
        ([{"match": {"region": str(n)}, **PER_UNIT} for n in range(51)], "groups"),
    ],
)
def test_what_makes_no_sense_is_refused_by_its_place(groups: object, field: str) -> None:
    with pytest.raises(InvalidTerms) as refusal:
        GroupedTerms.from_record({**PER_UNIT, "groups": groups})
    assert refusal.value.field == field


def test_one_is_not_true_when_groups_are_compared() -> None:
    groups = [{"match": {"a": 1}, **PER_UNIT}, {"match": {"a": True}, **PER_UNIT}]
    price = GroupedTerms.from_record({**PER_UNIT, "groups": groups})
    assert [price.number_of({"a": value}) for value in (1, True, "1")] == [1, 2, REST]
