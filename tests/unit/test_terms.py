"""Price terms: what is refused, and the record that old invoice lines hold."""

from __future__ import annotations

import json
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from billing.errors import InvalidTerms
from billing.terms import ChargeModel, ChargeTerms, Tier

OPEN = {"up_to": None, "unit_price": "1"}
STORED_SHAPE_1 = """{
  "shape": 1, "model": "graduated", "currency": "USD", "unit_price": "0", "included": "10000",
  "tiers": [{"up_to": "100000", "unit_price": "1.5", "flat": "0"},
            {"up_to": null, "unit_price": "1", "flat": "1/3"}],
  "package_size": null, "share": null, "fixed": "0", "minimum_minor": 500, "maximum_minor": null}"""


def test_records_of_the_first_shape_are_read_for_ever() -> None:
    terms = ChargeTerms.from_record(json.loads(STORED_SHAPE_1))
    assert terms == ChargeTerms(
        ChargeModel.graduated,
        "USD",
        included=Fraction(10_000),
        tiers=(Tier(Fraction(100_000), Fraction(3, 2)), Tier(None, Fraction(1), Fraction(1, 3))),
        minimum_minor=500,
    )
    assert terms.to_record() == json.loads(STORED_SHAPE_1)


def test_a_record_may_leave_out_what_it_does_not_use() -> None:
    short = ChargeTerms.from_record({"model": "per_unit", "currency": "ZAR", "unit_price": Decimal("0.02")})
    assert short == ChargeTerms(ChargeModel.per_unit, "ZAR", unit_price=Fraction(1, 50))


@pytest.mark.parametrize(
    ("record", "field"),
    [
        ({"shape": 2}, "shape"),
        ({"colour": "red"}, "colour"),
        ({"model": "auction"}, "model"),
        ({"model": None}, "model"),
        ({"currency": None}, "currency"),
        ({"unit_price": 0.02}, "unit_price"),
        ({"unit_price": "-1"}, "unit_price"),
        ({"included": "-1"}, "included"),
        ({"fixed": "x"}, "fixed"),
        ({"minimum_minor": "5"}, "minimum_minor"),
        ({"minimum_minor": -1}, "minimum_minor"),
        ({"minimum_minor": True}, "minimum_minor"),
        ({"minimum_minor": 2, "maximum_minor": 1}, "maximum_minor"),
        ({"package_size": "10"}, "package_size"),
        ({"model": "package"}, "package_size"),
        ({"model": "package", "package_size": "0"}, "package_size"),
        ({"share": "0.1"}, "share"),
        ({"model": "percentage", "unit_price": 0}, "share"),
        ({"model": "percentage", "share": "0.1"}, "unit_price"),
        ({"model": "flat", "included": 1}, "included"),
        ({"tiers": [OPEN]}, "tiers"),
        ({"tiers": "none"}, "tiers"),
        ({"model": "volume", "unit_price": 0}, "tiers"),
        ({"model": "volume", "tiers": [OPEN]}, "unit_price"),
        ({"model": "volume", "unit_price": 0, "tiers": [{"up_to": "5"}]}, "tiers"),
        ({"model": "volume", "unit_price": 0, "tiers": [OPEN, OPEN]}, "tiers"),
        ({"model": "volume", "unit_price": 0, "tiers": [{"up_to": 5}, {"up_to": 5}, OPEN]}, "tiers"),
        ({"model": "volume", "unit_price": 0, "tiers": [{"up_to": 0}, OPEN]}, "tiers"),
        ({"model": "volume", "unit_price": 0, "tiers": [{"up_to": -5}, OPEN]}, "tiers.0.up_to"),
        ({"model": "volume", "unit_price": 0, "tiers": [{"up_to": 5, "flat": -1}, OPEN]}, "tiers.0.flat"),
        ({"model": "volume", "unit_price": 0, "tiers": [{"upto": 5}, OPEN]}, "tiers.0"),
        ({"model": "volume", "unit_price": 0, "tiers": [5]}, "tiers.0"),
        ({"model": "volume", "unit_price": 0, "tiers": [{"up_to": 5, "flat": 0.5}, OPEN]}, "tiers.0.flat"),
        ({"model": "stairstep", "unit_price": 0, "tiers": [OPEN]}, "tiers"),
    ],
)
def test_terms_that_make_no_sense_are_refused_by_field(record: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidTerms) as refusal:
        ChargeTerms.from_record({"model": "per_unit", "currency": "USD", "unit_price": "1"} | record)
    assert refusal.value.field == field


@pytest.mark.parametrize("number", [0.5, Decimal("0.5"), "0.5"])
def test_a_number_that_is_not_exact_is_refused_in_code_too(number: Any) -> None:
    with pytest.raises(InvalidTerms) as refusal:
        ChargeTerms(ChargeModel.per_unit, "USD", unit_price=number)
    assert refusal.value.field == "unit_price"
    with pytest.raises(InvalidTerms):
        ChargeTerms(ChargeModel.volume, "USD", tiers=(Tier(None, number),))


def test_terms_for_half_a_period_halve_what_counts_over_the_whole_of_it() -> None:
    whole = ChargeTerms(
        ChargeModel.graduated,
        "USD",
        included=Fraction(1_000),
        tiers=(Tier(Fraction(5_000), Fraction(2)), Tier(None, Fraction(1))),
        minimum_minor=501,
    )
    half = whole.scaled(Fraction(1, 2))
    assert half.included == 500
    assert half.tiers == (Tier(Fraction(2_500), Fraction(2)), Tier(None, Fraction(1)))
    assert half.minimum_minor == 251  # 250.5, half away from zero
