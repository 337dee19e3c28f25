"""Invoicing: totals that add up, discounts and tax by line, credit used up."""

from __future__ import annotations

from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

import pytest

from billing.discounts import Discount
from billing.errors import Conflict, CurrencyMismatch, InvalidTerms
from billing.invoicing import (
    DraftLine,
    InvoiceDraft,
    LineKind,
    TaxTerms,
    build_invoice,
    differences,
    next_number,
)
from billing.money import Money
from billing.periods import Period

APRIL = Period(datetime(2026, 4, 1, tzinfo=UTC), datetime(2026, 5, 1, tzinfo=UTC))
VAT = TaxTerms(Fraction(15), inclusive=False, name="VAT")
VAT_INSIDE = TaxTerms(Fraction(15), inclusive=True, name="VAT")


def usd(minor: int) -> Money:
    return Money(minor, "USD")


def line(key: str, minor: int, **changes: Any) -> DraftLine:
    parts: dict[str, Any] = {
        "key": key,
        "kind": LineKind.recurring,
        "description": key,
        "amount": usd(minor),
        "quantity": Fraction(1),
        "unit_price": Fraction(minor),
        "period": APRIL,
        "product": "autoflow",
    }
    return DraftLine(**(parts | changes))


def build(
    lines: list[DraftLine], discount: int = 0, tax: TaxTerms | None = None, credit: int = 0
) -> InvoiceDraft:
    draft = build_invoice(lines, "USD", [Discount("WELCOME", amount=usd(discount))], tax, usd(credit))
    assert draft.subtotal - draft.discount + draft.tax - draft.credit == draft.total
    return draft


def figures(draft: InvoiceDraft) -> tuple[int, int, int, int, int]:
    amounts = (draft.subtotal, draft.discount, draft.tax, draft.credit, draft.total)
    subtotal, discount, tax, credit, total = (amount.minor for amount in amounts)
    return subtotal, discount, tax, credit, total


def of_lines(draft: InvoiceDraft, name: str) -> list[int | None]:
    amounts = [getattr(entry, name) for entry in draft.lines]
    return [None if amount is None else amount.minor for amount in amounts]


def test_a_plain_invoice_is_the_sum_of_its_lines() -> None:
    draft = build([line("base", 75_00), line("usage", 12_34)])
    assert figures(draft) == (87_34, 0, 0, 0, 87_34)
    assert of_lines(draft, "discount") == [None, None] and of_lines(draft, "tax") == [None, None]


def test_no_lines_make_an_empty_invoice() -> None:
    assert figures(build([], discount=5_00, tax=VAT, credit=5_00)) == (0, 0, 0, 0, 0)


def test_a_discount_is_split_by_amount_and_tax_is_on_what_is_left() -> None:
    # 10.00 over 75.00 and 25.00: 7.50 and 2.50; 15 % of 67.50 = 10.125 -> 10.13, of 22.50 = 3.375 -> 3.38
    draft = build([line("base", 75_00), line("seats", 25_00)], discount=10_00, tax=VAT)
    assert of_lines(draft, "discount") == [7_50, 2_50]
    assert of_lines(draft, "tax") == [10_13, 3_38]
    assert figures(draft) == (100_00, 10_00, 13_51, 0, 103_51)


def test_inclusive_tax_is_contained_and_changes_no_total() -> None:
    # 115.00 contains 115 * 15/115 = 15.00; 9.99 contains 1.3030.. -> 1.30
    draft = build([line("base", 115_00), line("usage", 9_99)], tax=VAT_INSIDE)
    assert of_lines(draft, "tax") == [15_00, 1_30]
    assert figures(draft) == (124_99, 0, 0, 0, 124_99)
    assert draft.contained_tax == usd(16_30)
    assert build([line("base", 100_00)], tax=VAT).contained_tax == usd(0)


def test_lines_that_take_no_discount_are_left_alone() -> None:
    draft = build([line("base", 30_00), line("usage", 70_00, discountable=False)], discount=50_00)
    assert of_lines(draft, "discount") == [30_00, None]
    assert figures(draft) == (100_00, 30_00, 0, 0, 70_00)


def test_a_discount_that_a_line_brings_along_is_kept() -> None:
    # 10.00 left on base, 30.00 on seats: 4.00 over 10 and 30 is 1.00 and 3.00
    draft = build([line("base", 40_00, discount=usd(30_00)), line("seats", 30_00)], discount=4_00)
    assert of_lines(draft, "discount") == [31_00, 3_00]
    assert figures(draft) == (70_00, 34_00, 0, 0, 36_00)


def test_a_credit_line_takes_no_discount_and_shrinks_what_there_is() -> None:
    lines = [line("back", -20_00, kind=LineKind.proration), line("charge", 60_00, kind=LineKind.proration)]
    draft = build(lines, discount=50_00, tax=VAT)
    assert of_lines(draft, "discount") == [None, 40_00]
    # 15 % of -20.00 and of 20.00
    assert of_lines(draft, "tax") == [-3_00, 3_00]
    assert figures(draft) == (40_00, 40_00, 0, 0, 0)


def test_credit_pays_at_most_the_invoice() -> None:
    assert figures(build([line("base", 30_00)], credit=10_00)) == (30_00, 0, 0, 10_00, 20_00)
    draft = build([line("base", 30_00)], credit=50_00)
    assert figures(draft) == (30_00, 0, 0, 30_00, 0)
    assert draft.payable == usd(30_00)


def test_an_invoice_below_zero_goes_to_the_balance() -> None:
    draft = build([line("back", -20_00), line("charge", 5_00)], credit=7_00)
    assert figures(draft) == (-15_00, 0, 0, -15_00, 0)
    assert draft.payable == usd(-15_00)


def test_a_debt_carried_over_is_taken_in() -> None:
    assert figures(build([line("base", 35_00)], credit=-30)) == (35_00, 0, 0, -30, 35_30)


def test_parts_of_another_currency_negatives_and_repeated_lines_are_refused() -> None:
    rand = Money(1, "ZAR")
    with pytest.raises(CurrencyMismatch):
        build([line("base", 1, amount=rand)])
    with pytest.raises(CurrencyMismatch):
        build_invoice([], "USD", [Discount("WELCOME", amount=rand)], None, usd(0))
    with pytest.raises(CurrencyMismatch):
        build_invoice([], "USD", [], None, rand)
    with pytest.raises(InvalidTerms) as refusal:
        build([], discount=-1)
    assert refusal.value.field == "discount"
    with pytest.raises(InvalidTerms):
        TaxTerms(Fraction(-1), inclusive=False, name="VAT")
    with pytest.raises(Conflict, match="base"):
        build([line("usage", 1), line("base", 1), line("base", 2)])


def test_differences_are_said_in_a_sentence() -> None:
    draft = build([line("base", 1_234_50)])
    assert differences(draft, usd(1_234_50)) is None
    assert differences(draft, usd(1_234_51)) == (
        "The totals differ: expected $1,234.50, found $1,234.51, $0.01 too much."
    )
    assert differences(draft, usd(0)) == (
        "The totals differ: expected $1,234.50, found $0.00, $1,234.50 too little."
    )
    assert differences(draft, Money(1_234_50, "ZAR")) == (
        "The currencies differ: expected $1,234.50, found R 1 234,50."
    )


def test_invoice_numbers() -> None:
    assert next_number("ACME", 1) == "ACME-000001"
    assert next_number("ACME", 42) == "ACME-000042"
    assert next_number("ACME", 1_234_567) == "ACME-1234567"
    with pytest.raises(ValueError, match="start at 1"):
        next_number("ACME", 0)
