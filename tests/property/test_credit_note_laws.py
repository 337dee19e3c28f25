"""Laws of credit notes: never more than what is left, and the parts come to the whole."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from billing.credit_notes import (
    Creditable,
    CreditedLine,
    Figures,
    Paid,
    Wanted,
    by_amount,
    by_line,
    settle,
    whole,
)
from billing.errors import BillingError, Conflict
from billing.money import Money, round_half_away


@st.composite
def charged(draw: st.DrawFn, *, negative: bool = False) -> Figures:
    """What a line may have charged: discounted, taxed on top or within, or a credit of the invoice."""
    amount = draw(st.integers(1, 10**7))
    discount = draw(st.integers(0, amount - 1))
    net = amount - discount
    rate = draw(st.sampled_from((Fraction(0), Fraction(15, 100), Fraction(1, 3))))
    if draw(st.booleans()):
        tax = round_half_away(net * rate / (1 + rate))
        figures = Figures(amount, discount, tax, net)
    else:
        tax = round_half_away(net * rate)
        figures = Figures(amount, discount, tax, net + tax)
    return -figures if negative and draw(st.booleans()) else figures


@st.composite
def invoices(draw: st.DrawFn, *, negative: bool = False) -> list[Creditable]:
    count = draw(st.integers(1, 6))
    return [
        Creditable(
            key=str(number),
            quantity=draw(st.integers(1, 20).map(Fraction)),
            charged=draw(charged(negative=negative)),
        )
        for number in range(count)
    ]


def left_of(lines: list[Creditable]) -> int:
    return sum(line.left.total for line in lines)


def issued(lines: list[Creditable], note: list[CreditedLine]) -> list[Creditable]:
    """The lines once this note has credited its part, which is looked at on the way."""
    parts = {part.key: part for part in note}
    for part in note:
        line = next(line for line in lines if line.key == part.key)
        sign = 1 if line.charged.total > 0 else -1
        for name in ("amount", "discount", "tax", "total"):
            assert 0 <= sign * getattr(part.figures, name) <= sign * getattr(line.left, name)
        net = part.figures.amount - part.figures.discount
        within = line.charged.total == line.charged.amount - line.charged.discount
        assert part.figures.total == net + (0 if within else part.figures.tax)
    return [
        replace(
            line,
            credited=line.credited + parts[line.key].figures,
            credited_quantity=line.credited_quantity + parts[line.key].quantity,
        )
        if line.key in parts
        else line
        for line in lines
    ]


def some_note(data: st.DataObject, lines: list[Creditable]) -> list[CreditedLine]:
    """A note of any kind that may or may not be allowed."""
    line = data.draw(st.sampled_from(lines))
    limit = left_of(lines)
    match data.draw(st.sampled_from(("amount", "line", "quantity"))):
        case "amount":
            return by_amount(lines, "USD", data.draw(st.integers(1, 10**7)), limit)
        case "line":
            wanted = Wanted(amount_minor=data.draw(st.integers(1, 10**7)))
            return by_line(lines, "USD", {line.key: wanted}, limit)
        case _:
            wanted = Wanted(quantity=data.draw(st.fractions(0, 20, max_denominator=4)))
            return by_line(lines, "USD", {line.key: wanted}, limit)


@given(st.data(), invoices(), st.integers(0, 8))
def test_notes_of_any_kind_and_then_the_rest_come_to_exactly_the_invoice(
    data: st.DataObject, lines: list[Creditable], notes: int
) -> None:
    for _ in range(notes):
        try:
            lines = issued(lines, some_note(data, lines))
        except BillingError:
            continue
    if left_of(lines):
        lines = issued(lines, whole(lines, "USD", left_of(lines)))
    assert [line.credited for line in lines] == [line.charged for line in lines]
    with pytest.raises(Conflict):
        whole(lines, "USD", left_of(lines))


@given(st.data(), invoices(negative=True))
def test_an_invoice_with_credits_in_it_is_credited_with_them(
    data: st.DataObject, lines: list[Creditable]
) -> None:
    total = left_of(lines)
    assume(total > 0)
    first = data.draw(st.integers(1, total))
    lines = issued(lines, by_amount(lines, "USD", first, total))
    assert left_of(lines) == total - first
    if total > first:
        lines = issued(lines, whole(lines, "USD", total - first))
    assert [line.credited for line in lines] == [line.charged for line in lines]


@given(invoices(), st.integers(1, 10**8))
def test_never_more_than_is_left(lines: list[Creditable], amount: int) -> None:
    left = left_of(lines)
    if amount > left:
        with pytest.raises(Conflict, match="is left to credit"):
            by_amount(lines, "USD", amount, left)
        return
    note = by_amount(lines, "USD", amount, left)
    assert sum(part.figures.total for part in note) == amount
    with pytest.raises(Conflict, match="is left to credit"):
        by_amount(lines, "USD", amount, amount - 1)


@given(charged(), st.integers(1, 12))
def test_unit_by_unit_comes_to_the_line_and_the_tax_is_never_a_unit_off(figures: Figures, seats: int) -> None:
    assume(figures.total >= 2 * seats)
    lines = [Creditable(key="seats", quantity=Fraction(seats), charged=figures)]
    for _ in range(seats):
        note = by_line(lines, "USD", {"seats": Wanted(quantity=Fraction(1))}, left_of(lines))
        lines = issued(lines, note)
        share = Fraction(lines[0].credited.total, figures.total)
        assert abs(lines[0].credited.tax - figures.tax * share) <= 1
    assert lines[0].left == Figures()


@given(st.integers(1, 10**6), st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_settlement_adds_up_and_refunds_no_more_than_came_in(total: int, cards: int, credit: int) -> None:
    paid = Paid(refundable=cards, credit_used=credit)
    for way in ("credit", "out_of_band"):
        parts = settle(Money(total, "USD"), way, paid)
        assert (parts.credit + parts.out_of_band, parts.refund) == (total, 0)
    if cards and total <= cards + credit:
        parts = settle(Money(total, "USD"), "refund", paid)
        assert parts.refund + parts.credit == total
        assert parts.refund <= cards and parts.credit <= credit
    else:
        with pytest.raises(Conflict, match="can be refunded"):
            settle(Money(total, "USD"), "refund", paid)
