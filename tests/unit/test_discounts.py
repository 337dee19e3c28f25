"""Discounts and the ledger: splits to the minor unit, how long a coupon lasts, what is left of grants."""

from datetime import UTC, datetime
from fractions import Fraction

import pytest

from billing.balance import unspent, used
from billing.discounts import Discount, Duration, is_live
from billing.errors import InvalidTerms
from billing.money import Money


def usd(*minors: int) -> list[Money]:
    return [Money(minor, "USD") for minor in minors]


def at(day: str) -> datetime:
    return datetime.fromisoformat(day).replace(tzinfo=UTC)


def test_a_percentage_is_rounded_on_each_line() -> None:
    # 12.5 % of 35.00 = 4.375, of 0.04 = 0.005, both away from zero; a credit gives up nothing
    assert Discount("A", percent=Fraction("12.5")).split(usd(35_00, 4, -9_00)) == usd(4_38, 1, 0)


def test_an_amount_is_split_by_what_lines_still_cost_and_capped_there() -> None:
    # 10.00 over 1 : 1 : 1: 3.33 each, the odd cent to the first
    assert Discount("A", amount=usd(10_00)[0]).split(usd(20_00, 20_00, 20_00)) == usd(3_34, 3_33, 3_33)
    assert Discount("A", amount=usd(99_00)[0]).split(usd(20_00, 5_00)) == usd(20_00, 5_00)
    assert Discount("A", amount=usd(99_00)[0]).split([]) == []


def test_a_discount_is_of_one_kind_and_not_below_zero() -> None:
    for terms in ({}, {"percent": Fraction(1), "amount": usd(1)[0]}, {"percent": Fraction(101)}):
        with pytest.raises(InvalidTerms):
            Discount("A", **terms)


def test_months_are_counted_from_the_day_it_was_given() -> None:
    given = at("2026-01-31")

    def lives(day: str) -> bool:
        return is_live(Duration.repeating, 3, given, at(day), spent=False)

    assert [lives(day) for day in ("2026-01-31", "2026-03-31", "2026-04-29", "2026-04-30")] == [
        True,
        True,
        True,
        False,
    ]


def test_once_is_spent_and_forever_is_not() -> None:
    given = at("2026-01-31")
    for duration, spent, live in (
        (Duration.once, False, True),
        (Duration.once, True, False),
        (Duration.forever, True, True),
    ):
        assert is_live(duration, None, given, at("2036-01-31"), spent=spent) is live


def test_the_oldest_credit_is_spent_first_and_a_debt_waits_for_the_next() -> None:
    assert unspent([10, 5, -12]) == [0, 3, 0]
    assert unspent([10, -30]) == [0, -20]
    assert unspent([10, -30, 25]) == [0, 0, 5]
    assert unspent([]) == []


def test_an_invoice_uses_what_there_is_and_what_it_needs() -> None:
    balance, payable = usd(30, 20)
    assert used(balance, payable) == payable and used(payable, balance) == payable
    assert used(*usd(30, -5)) == usd(-5)[0]
    assert used(*usd(-30, 20)) == usd(-30)[0]
