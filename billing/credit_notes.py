"""Credit notes: what of an issued invoice a note takes back, line by line, to the minor unit.

What a line comes to is credited in parts, and each part carries its share of the line's discount and tax.
The shares are cut from the whole line (rounded once, less what earlier notes took), never from the part:
so the notes that credit a line bit by bit come to exactly the line, and no note to more than is left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from billing.currencies import charge_step
from billing.errors import Conflict, InvalidTerms
from billing.money import Money, format_money, round_half_away


@dataclass(frozen=True, slots=True)
class Figures:
    """A line or a part of it, in minor units of one currency: `total` is what the customer pays for it.

    total = amount - discount + tax, or, where prices contain the tax, amount - discount.
    """

    amount: int = 0
    discount: int = 0
    tax: int = 0
    total: int = 0

    def __add__(self, other: Figures) -> Figures:
        return Figures(
            self.amount + other.amount,
            self.discount + other.discount,
            self.tax + other.tax,
            self.total + other.total,
        )

    def __neg__(self) -> Figures:
        return Figures(-self.amount, -self.discount, -self.tax, -self.total)

    def __sub__(self, other: Figures) -> Figures:
        return self + -other


@dataclass(frozen=True, slots=True, kw_only=True)
class Creditable:
    """A line of an issued invoice, and what notes have credited of it so far."""

    key: str
    quantity: Fraction
    charged: Figures
    credited: Figures = Figures()
    credited_quantity: Fraction = Fraction(0)

    @property
    def left(self) -> Figures:
        return self.charged - self.credited


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditedLine:
    """One line of a note: what it takes back; `quantity` 0 where an amount was asked for."""

    key: str
    figures: Figures
    quantity: Fraction = Fraction(0)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to credit of one line: an amount (tax included), a quantity, or neither: all that is left."""

    amount_minor: int | None = None
    quantity: Fraction | None = None


def whole(lines: Sequence[Creditable], currency: str, limit: int) -> list[CreditedLine]:
    """Everything that is left, at most `limit`. Raises: Conflict when there is nothing."""
    left = sum(line.left.total for line in lines)
    if min(left, limit) <= 0:
        raise Conflict("nothing is left to credit of this invoice")
    return by_amount(lines, currency, min(left, limit), limit)


def by_amount(lines: Sequence[Creditable], currency: str, amount: int, limit: int) -> list[CreditedLine]:
    """Credit `amount` of the invoice, over its lines in proportion to what is left of each.

    Lines that gave money back (below zero) take their part with their sign. Raises: InvalidTerms for no
    amount that can be charged; Conflict for more than is left of the invoice, or than `limit`.
    """
    _check(amount, currency, "amount_minor")
    left = sum(line.left.total for line in lines)
    _check_left(Money(amount, currency), Money(min(left, limit), currency), "of this invoice", "amount_minor")
    parts = _split(amount, [line.left.total for line in lines])
    return [_part(line, part) for line, part in zip(lines, parts, strict=True) if part]


def by_line(
    lines: Sequence[Creditable], currency: str, wanted: Mapping[str, Wanted], limit: int
) -> list[CreditedLine]:
    """Credit the named lines. Raises: InvalidTerms, Conflict naming the line's field."""
    known = {line.key: line for line in lines}
    credited = []
    for place, (key, want) in enumerate(wanted.items()):
        field = f"lines[{place}]"
        if key not in known:
            raise InvalidTerms("is no line of this invoice", field=f"{field}.line")
        credited.append(_wanted(known[key], currency, want, field))
    total = sum(line.figures.total for line in credited)
    left = min(sum(line.left.total for line in lines), limit)
    _check_left(Money(total, currency), Money(left, currency), "of this invoice", "lines")
    return credited


def _wanted(line: Creditable, currency: str, want: Wanted, field: str) -> CreditedLine:
    left = line.left.total
    if line.charged.total < 0:
        said = "this line gave money back: credit an amount of the invoice instead"
        raise Conflict(said, field=f"{field}.line")
    if left <= 0:
        raise Conflict("nothing is left to credit of this line", field=f"{field}.line")
    if want.quantity is not None:
        return _by_quantity(line, currency, want.quantity, f"{field}.quantity")
    if want.amount_minor is None:
        return _part(line, left)
    field = f"{field}.amount_minor"
    _check(want.amount_minor, currency, field)
    _check_left(Money(want.amount_minor, currency), Money(left, currency), "of this line", field)
    return _part(line, want.amount_minor)


def _by_quantity(line: Creditable, currency: str, quantity: Fraction, field: str) -> CreditedLine:
    """A quantity's share of the whole line: the last unit takes what rounding left."""
    if quantity <= 0:
        raise InvalidTerms("must be more than nothing", field=field)
    done = line.credited_quantity + quantity
    if done > line.quantity:
        raise Conflict(f"only {_plain(line.quantity - line.credited_quantity)} is left of it", field=field)
    total = line.charged.total
    if done == line.quantity:
        part = line.left.total
    else:
        before, after = (
            Money(total, currency).scaled(Fraction(each, line.quantity)).minor
            for each in (line.credited_quantity, done)
        )
        part = min(after - before, line.left.total)
    if part <= 0:
        raise InvalidTerms("comes to nothing", field=field)
    return CreditedLine(key=line.key, figures=_part(line, part).figures, quantity=quantity)


def _part(line: Creditable, total: int) -> CreditedLine:
    """`total` of the line with its shares of discount and tax; the signs are the line's."""
    if line.charged.total < 0:
        mirrored = Creditable(
            key=line.key, quantity=line.quantity, charged=-line.charged, credited=-line.credited
        )
        return CreditedLine(key=line.key, figures=-_figures(mirrored, -total))
    return CreditedLine(key=line.key, figures=_figures(line, total))


def _figures(line: Creditable, total: int) -> Figures:
    charged, credited, left = line.charged, line.credited, line.left
    share = Fraction(credited.total + total, charged.total)
    discount = _within(round_half_away(charged.discount * share) - credited.discount, 0, left.discount)
    tax = round_half_away(charged.tax * share) - credited.tax
    if charged.total == charged.amount - charged.discount:  # the prices contain the tax, or there is none
        return Figures(total + discount, discount, _within(tax, 0, left.tax), total)
    # Neither more tax than the part comes to, nor so little that more is credited than the line's amount.
    tax = _within(tax, max(0, total + discount - left.amount), min(left.tax, total + discount))
    return Figures(total + discount - tax, discount, tax, total)


def _split(amount: int, left: Sequence[int]) -> list[int]:
    """`amount` in proportion to `left`, of which some may be below zero; largest remainders first."""
    whole_left = sum(left)
    exact = [Fraction(amount * each, whole_left) for each in left]
    parts = [each.numerator // each.denominator for each in exact]
    by_remainder = sorted(range(len(parts)), key=lambda index: parts[index] - exact[index])
    for index in by_remainder[: amount - sum(parts)]:
        parts[index] += 1
    return parts


def _within(number: int, least: int, most: int) -> int:
    return min(max(number, least), most)


def _check(amount: int, currency: str, field: str) -> None:
    if amount <= 0:
        raise InvalidTerms("must be more than nothing", field=field)
    if amount % charge_step(currency):
        raise InvalidTerms(f"must be a multiple of {charge_step(currency)}", field=field)


def _check_left(asked: Money, left: Money, of_what: str, field: str) -> None:
    if asked.minor <= 0:
        raise InvalidTerms("comes to nothing", field=field)
    if asked > left:
        shown = Money(max(left.minor, 0), left.currency)
        raise Conflict(f"only {format_money(shown)} is left to credit {of_what}", field=field)


def _plain(number: Fraction) -> str:
    if number.denominator == 1:
        return str(number.numerator)
    return str(round(number, 12))


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """Where a note's total goes, in minor units: the four add up to it."""

    reduces_due: int = 0
    refund: int = 0
    credit: int = 0
    out_of_band: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Paid:
    """How an invoice was paid: what cards brought and still have not got back, and credit that was used."""

    refundable: int
    credit_used: int


def settle(total: Money, way: str, paid: Paid) -> Settlement:
    """Settle a note of a paid invoice by `way`: refund, credit or out_of_band.

    A refund goes to the card first; what the customer's credit paid goes back to the credit. Raises:
    Conflict when more is to be refunded than came in.
    """
    if way == "credit":
        return Settlement(credit=total.minor)
    if way == "out_of_band":
        return Settlement(out_of_band=total.minor)
    refund = min(total.minor, paid.refundable)
    rest = total.minor - refund
    if rest > paid.credit_used or refund == 0:
        there = format_money(Money(paid.refundable, total.currency))
        raise Conflict(f"only {there} can be refunded; settle by credit or out_of_band", field="settlement")
    return Settlement(refund=refund, credit=rest)
