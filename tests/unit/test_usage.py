"""From events to charges: filters, groups, the part of a period that a plan was held."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

import billing.usage
from billing.groups import GroupedTerms, read_match
from billing.metering import Aggregation, UsageFact
from billing.money import format_money
from billing.periods import Period
from billing.usage import Counted, Holding, MeteredEvent, MeterRules, count_groups, held_share, rate_groups

APRIL = Period(datetime(2026, 4, 1, tzinfo=UTC), datetime(2026, 5, 1, tzinfo=UTC))
TERMS: dict[str, Any] = {"model": "per_unit", "currency": "USD", "unit_price": "2"}
PRICE = GroupedTerms.from_record(
    {**TERMS, "groups": [{"match": {"region": "eu"}, **TERMS, "unit_price": "3", "included": "4"}]}
)
RULES = MeterRules(Aggregation.sum, read_match({"status": ["ok", "slow"]}, field="filters"))


def event(key: str, quantity: int, day: int = 2, /, **properties: object) -> MeteredEvent:
    at = datetime(2026, 4, day, tzinfo=UTC)
    return MeteredEvent(UsageFact(Fraction(quantity), at, key), properties)


def test_events_are_filtered_then_split_then_counted_then_priced() -> None:
    events = [
        event("a", 5, region="eu", status="ok"),
        event("a", 5, region="eu", status="ok"),
        event("b", 2, region="eu", status="slow"),
        event("c", 7, region="eu", status="failed"),
        event("d", 1, region="us", status="ok"),
        event("e", 9),
        event("e", 9),
    ]
    counted = count_groups(RULES, PRICE, events, APRIL)

    assert counted == {1: Counted(Fraction(7), 2, 1), 0: Counted(Fraction(1), 1, 1)}
    rated = rate_groups(PRICE, counted)
    # 7 less 4 included at 3 cents; 1 at 2 cents
    assert [(each.number, each.rating.amount.minor) for each in rated] == [(1, 9), (0, 2)]


def test_a_group_of_excluded_events_alone_has_a_line_of_nothing() -> None:
    rated = rate_groups(PRICE, count_groups(RULES, PRICE, [event("c", 7, region="eu")], APRIL))

    assert [(each.number, each.counted, each.rating.amount.minor) for each in rated] == [
        (1, Counted(Fraction(0), 0, 1), 0)
    ]


def test_a_commitment_is_due_without_an_event_and_only_in_its_group() -> None:
    groups = [{"match": {"region": "eu"}, **TERMS, "minimum_minor": 500}]
    price = GroupedTerms.from_record({**TERMS, "groups": groups})

    assert [(each.number, each.rating.amount.minor) for each in rate_groups(price, {})] == [(1, 500)]


@pytest.mark.parametrize(
    ("held_from", "held_until", "share"),
    [
        ((3, 1), None, Fraction(1)),
        ((4, 16), None, Fraction(1, 2)),
        ((3, 1), (4, 11), Fraction(1, 3)),
        ((4, 11), (4, 21), Fraction(1, 3)),
        ((3, 1), (4, 1), Fraction(0)),
        ((5, 1), None, Fraction(0)),
    ],
)
def test_the_part_of_a_period_in_which_a_plan_was_held(
    held_from: tuple[int, int], held_until: tuple[int, int] | None, share: Fraction
) -> None:
    def on(day: tuple[int, int]) -> datetime:
        return datetime(2026, *day, tzinfo=UTC)

    assert held_share(APRIL, on(held_from), on(held_until) if held_until else None) == share


def test_each_groups_terms_are_made_those_of_the_period() -> None:
    quarter = Holding("quarter", Fraction(1, 2)).price(PRICE, Aggregation.sum)
    assert quarter.terms_of(1).included == 6  # 4 a month, three months, half of them held
    level = Holding("quarter", Fraction(1)).price(PRICE, Aggregation.max)
    assert [level.terms_of(1).included, level.terms_of(1).unit_price] == [Fraction(4), Fraction(9)]
    free = Holding("month", Fraction(1), in_trial=True).price(PRICE, Aggregation.sum)
    assert [free.terms_of(number).unit_price for number in free.numbers] == [0, 0]
    assert free.matches == PRICE.matches


README = Path(billing.usage.__file__).with_name("README.md")


def test_the_readme_tells_the_truth_about_groups() -> None:
    table = re.search(r"```json\n([^`]*groups[^`]*)```\n(?:\|.*\n)+", README.read_text(encoding="utf-8"))
    assert table is not None
    price = GroupedTerms.from_record(json.loads(table[1]))
    properties = ("eu xl", 5), ("eu large", 7), ("eu small", 20), ("uk", 1), ("us", 3), ("", 9)
    events = [
        event(f"{n}", quantity, **dict(zip(("region", "model"), words.split(), strict=False)))
        for n, (words, quantity) in enumerate(properties)
    ]
    counted = count_groups(MeterRules(Aggregation.sum, {}), price, events, APRIL)
    rows = [
        (price.name_of(each.number), format_money(each.rating.amount)) for each in rate_groups(price, counted)
    ]
    shown = [row.split("|")[2:4] for row in table[0].splitlines()[-3:]]
    assert rows == [(name.strip(), charge.split()[-1]) for name, charge in shown]
