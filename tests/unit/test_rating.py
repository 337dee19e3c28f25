"""Rating: the worked tables of billing/README.md, and the account that a charge gives of itself."""

from __future__ import annotations

import json
import re
from fractions import Fraction
from pathlib import Path

import pytest

import billing.rating
from billing.exact import exact_number
from billing.money import Money, format_money
from billing.rating import ChargeModel, ChargeTerms, RatingStep, Tier, adjustment, rate

README = Path(billing.rating.__file__).with_name("README.md")
WORKED_TABLE = re.compile(
    r"```json\n(?P<terms>[^`]*)```\n\| quantity \| charge \|\n\|---:\|---:\|\n(?P<rows>(?:\|.*\n)+)"
)
PROFESSIONAL = ChargeTerms(
    ChargeModel.graduated,
    "USD",
    included=Fraction(10_000),
    tiers=(Tier(Fraction(100_000), Fraction("1.5")), Tier(None, Fraction(1))),
)


def worked_tables() -> list[tuple[ChargeTerms, str, str]]:
    rows: list[tuple[ChargeTerms, str, str]] = []
    for table in WORKED_TABLE.finditer(README.read_text(encoding="utf-8")):
        terms = ChargeTerms.from_record(json.loads(table["terms"]))
        for row in table["rows"].splitlines():
            quantity, charge = row.strip("| ").split(" | ")
            rows.append((terms, quantity, charge))
    return rows


@pytest.mark.parametrize(("terms", "quantity", "charge"), worked_tables())
def test_the_readme_tells_the_truth(terms: ChargeTerms, quantity: str, charge: str) -> None:
    assert format_money(rate(exact_number(quantity), terms).amount) == charge


def test_the_readme_has_a_table_for_every_model() -> None:
    assert {terms.model for terms, _, _ in worked_tables()} == set(ChargeModel)
    assert len(worked_tables()) >= 50


def test_a_charge_shows_how_it_came_about() -> None:
    # 90,000 at 0.015 = 1,350.00; 20,001 at 0.01 = 200.01
    rating = rate(Fraction(120_001), PROFESSIONAL)
    assert rating.steps == (
        RatingStep("included", Fraction(10_000), Fraction(0), Fraction(0)),
        RatingStep("above 10,000 to 100,000", Fraction(90_000), Fraction("1.5"), Fraction(135_000)),
        RatingStep("above 100,000", Fraction(20_001), Fraction(1), Fraction(20_001)),
    )
    assert rating.quantity == 120_001 and rating.billable == 110_001
    assert rating.amount == Money(155_001, "USD") and rating.exact == 155_001


def test_steps_are_exact_and_only_their_sum_is_rounded() -> None:
    # 0.4 + 0.4 minor units: rounding each would give 0, rounding the sum gives 1.
    terms = ChargeTerms(
        ChargeModel.graduated,
        "USD",
        tiers=(Tier(Fraction(1), Fraction("0.4")), Tier(None, Fraction("0.4"))),
    )
    rating = rate(Fraction(2), terms)
    assert [step.amount for step in rating.steps] == [Fraction("0.4"), Fraction("0.4")]
    assert (rating.exact, rating.amount.minor) == (Fraction("0.8"), 1)


def test_a_minimum_and_a_maximum_are_steps_of_their_own() -> None:
    terms = ChargeTerms(
        ChargeModel.per_unit, "USD", unit_price=Fraction(2), minimum_minor=20_00, maximum_minor=100_00
    )
    raised, cut = rate(Fraction(100), terms).steps[-1], rate(Fraction(6000), terms).steps[-1]
    assert (raised.label, raised.amount) == ("raised to minimum", Fraction(18_00))
    assert (cut.label, cut.amount) == ("cut to maximum", Fraction(-20_00))
    for within in (1000, 2000, 5000):  # the bounds themselves need no step
        assert len(rate(Fraction(within), terms).steps) == 1


def test_usage_below_zero_is_priced_as_none_and_still_shown() -> None:
    rating = rate(Fraction(-5), PROFESSIONAL)
    assert rating.amount.minor == 0 and rating.quantity == -5 and rating.billable == 0


def test_labels_name_packages_shares_seats_and_open_tiers() -> None:
    def labels(terms: ChargeTerms, quantity: int) -> list[str]:
        return [step.label for step in rate(Fraction(quantity), terms).steps]

    one = Fraction(1)
    package = ChargeTerms(ChargeModel.package, "USD", unit_price=one, package_size=Fraction(1000), fixed=one)
    assert labels(package, 1) == ["fixed", "packages of 1,000"]
    assert labels(ChargeTerms(ChargeModel.percentage, "USD", share=Fraction("0.029")), 1) == ["2.9 %"]
    assert labels(ChargeTerms(ChargeModel.per_seat, "USD", unit_price=one), 1) == ["per seat"]
    assert labels(ChargeTerms(ChargeModel.flat, "USD", unit_price=one), 0) == ["flat"]
    open_tier = ChargeTerms(ChargeModel.volume, "USD", tiers=(Tier(None, one, one),))
    assert labels(open_tier, 1) == ["all units", "all units, flat"]
    halves = ChargeTerms(ChargeModel.stairstep, "USD", tiers=(Tier(Fraction("2.5"), flat=one), Tier(None)))
    assert labels(halves, 1) == ["up to 2.5"]
    assert labels(halves, 3) == ["above 2.5"]


def test_the_record_of_a_charge_is_json_and_exact() -> None:
    terms = ChargeTerms(ChargeModel.per_unit, "USD", unit_price=Fraction("1.5"))
    record = rate(Fraction(10, 3), terms).to_record()
    assert json.loads(json.dumps(record)) == record
    assert record == {
        "amount_minor": 5,
        "currency": "USD",
        "quantity": "10/3",
        "billable": "10/3",
        "steps": [{"label": "per unit", "quantity": "10/3", "unit_price": "1.5", "amount": "5"}],
        "exact": "5",
    }


def test_late_usage_is_charged_as_if_it_had_been_there() -> None:
    # Billed at 100,000: 1,350.00. With 500 late runs above the bound: + 5.00, not + 7.50.
    billed = rate(Fraction(100_000), PROFESSIONAL).amount
    assert adjustment(Fraction(100_500), billed, PROFESSIONAL) == Money(5_00, "USD")
    assert adjustment(Fraction(100_000), billed, PROFESSIONAL) == Money.zero("USD")


def test_a_deletion_credits_what_it_had_cost() -> None:
    billed = rate(Fraction(100_100), PROFESSIONAL).amount  # 1,351.00
    assert adjustment(Fraction(99_900), billed, PROFESSIONAL) == Money(-2_50, "USD")  # 1,348.50
