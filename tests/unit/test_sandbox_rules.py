"""The sandbox's arithmetic: month ends, shares of a period, tiers, splits, signatures."""

import hashlib
import hmac
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction

import pytest

from sandbox import Doc
from sandbox.delivery import signature
from sandbox.engine.pricing import charges, plain, rounded
from sandbox.engine.proration import share_left
from sandbox.engine.totals import allocate
from sandbox.times import boundary, period_at
from sandbox.world import difference


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def day(moment: int) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d")


@pytest.mark.parametrize(
    ("anchor", "interval", "count", "days"),
    [
        ("2026-01-31", "month", 1, ["2026-01-31", "2026-02-28", "2026-03-31", "2026-04-30", "2026-05-31"]),
        ("2028-01-30", "month", 1, ["2028-01-30", "2028-02-29", "2028-03-30"]),
        ("2025-11-30", "month", 3, ["2025-11-30", "2026-02-28", "2026-05-30"]),
        ("2028-02-29", "year", 1, ["2028-02-29", "2029-02-28", "2030-02-28", "2031-02-28", "2032-02-29"]),
        ("2026-03-01", "week", 2, ["2026-03-01", "2026-03-15", "2026-03-29"]),
    ],
)
def test_boundaries_count_from_the_original_anchor(
    anchor: str, interval: str, count: int, days: list[str]
) -> None:
    assert [day(boundary(at(anchor), interval, count, nth)) for nth in range(len(days))] == days


@pytest.mark.parametrize("interval", ["day", "week", "month", "year"])
@pytest.mark.parametrize("anchor", ["2024-02-29 23:59:59", "2025-01-31 00:00:00"])
def test_every_moment_lies_in_exactly_one_period(anchor: str, interval: str) -> None:
    for hours in range(-20_000, 40_000, 997):
        moment = at(anchor) + hours * 3600
        start, end = period_at(at(anchor), interval, 1, moment)
        assert start <= moment < end
        assert period_at(at(anchor), interval, 1, start) == (start, end)
        assert period_at(at(anchor), interval, 1, end)[0] == end


def test_shares_are_exact_and_clamped() -> None:
    april = (at("2026-04-01"), at("2026-05-01"))
    assert share_left(april, at("2026-04-11")) == Fraction(20, 30)
    assert share_left(april, at("2026-04-30 23:59:59")) == Fraction(1, 30 * 86_400)
    assert share_left(april, at("2026-03-01")) == 1
    assert share_left(april, at("2026-06-01")) == 0


@pytest.mark.parametrize(
    ("value", "whole"),
    [
        (Fraction(5, 2), 3),
        (Fraction(-5, 2), -3),
        (Fraction(249, 100), 2),
        (Fraction(-1, 3), 0),
        (Fraction(0), 0),
    ],
)
def test_halves_go_away_from_zero(value: Fraction, whole: int) -> None:
    assert rounded(value) == whole


@pytest.mark.parametrize(
    ("text", "shown"), [("3000", "3000"), ("1.250", "1.25"), ("1.25E-7", "0.000000125"), ("100.0", "100")]
)
def test_decimals_are_written_plainly(text: str, shown: str) -> None:
    assert plain(Decimal(text)) == shown


def test_a_split_gives_the_odd_units_to_the_largest_remainders() -> None:
    assert allocate(1000, [1, 1, 1]) == [334, 333, 333]
    assert allocate(100, [50, 25, 25]) == [50, 25, 25]
    assert allocate(10, [6, 5, 4]) == [4, 3, 3]
    assert allocate(5, [0, 0]) == [0, 0]


def price(**terms: object) -> Doc:
    bare: Doc = {
        "currency": "usd",
        "unit_amount_decimal": None,
        "_tiers": None,
        "_currency_options": {},
        "tax_behavior": "exclusive",
        "billing_scheme": "per_unit",
        "tiers_mode": None,
        "transform_quantity": None,
    }
    return bare | terms


def tiered(mode: str) -> Doc:
    rows = [(10, "500", "0"), (20, "400", "100"), (None, "300.5", None)]
    tiers = [
        {"up_to": up, "unit_amount_decimal": unit, "flat_amount_decimal": flat} for up, unit, flat in rows
    ]
    return price(billing_scheme="tiered", tiers_mode=mode, _tiers=tiers)


@pytest.mark.parametrize(
    ("quantity", "graduated", "volume"),
    [(0, 0, 0), (1, 500, 500), (10, 5000, 5000), (11, 5500, 4500), (21, 9401, 6311)],
)
def test_tiers(quantity: int, graduated: int, volume: int) -> None:
    assert sum(charge.amount for charge in charges(tiered("graduated"), quantity, "usd")) == graduated
    assert [charge.amount for charge in charges(tiered("volume"), quantity, "usd")] == [volume]


def test_packages_round_as_told() -> None:
    for direction, amounts in (("up", [0, 700, 700, 1400]), ("down", [0, 0, 700, 700])):
        terms = price(unit_amount_decimal="700", transform_quantity={"divide_by": 5, "round": direction})
        assert [charges(terms, quantity, "usd")[0].amount for quantity in (0, 4, 5, 6)] == amounts


def test_a_fraction_of_a_cent_is_rounded_once_for_the_line() -> None:
    assert charges(price(unit_amount_decimal="0.015"), 100, "usd")[0].amount == 2
    assert charges(price(unit_amount_decimal="0.015"), 1, "usd")[0].amount == 0


def test_a_signature_for_each_secret() -> None:
    marks = signature(b'{"id":1}', ("whsec_a", "whsec_b"), 1700000000).split(",")
    expected = [
        hmac.new(s, b'1700000000.{"id":1}', hashlib.sha256).hexdigest() for s in (b"whsec_a", b"whsec_b")
    ]
    assert marks == ["t=1700000000", *(f"v1={mark}" for mark in expected)]


def test_previous_attributes_hold_only_what_changed() -> None:
    before = {"a": 1, "b": {"x": 1, "y": 2}, "c": [1], "d": None, "same": {"deep": [1]}}
    after = {"a": 2, "b": {"x": 1, "y": 3}, "c": [1, 2], "d": None, "same": {"deep": [1]}, "new": 5}
    assert difference(before, after) == {"a": 1, "b": {"y": 2}, "c": [1], "new": None}
    assert difference(before, before) == {}
