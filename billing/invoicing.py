"""Invoicing: charges become an invoice draft whose discounts, tax and totals add up to the minor unit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from fractions import Fraction

from billing import balance
from billing.discounts import Discount
from billing.errors import Conflict, CurrencyMismatch, InvalidTerms
from billing.exact import exact_text
from billing.money import Money, format_money
from billing.periods import Period

_NUMBER_DIGITS = 6


class LineKind(StrEnum):
    """What an invoice line charges for."""

    recurring = "recurring"
    seats = "seats"
    usage = "usage"
    minimum = "minimum"
    adjustment = "adjustment"
    proration = "proration"
    credit = "credit"


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftLine:
    """One charge or credit on an invoice.

    `key` names the line for ever: computing the invoice again finds the same one. `unit_price` is
    exact, in minor units, None where no single price applies. `discount` (>= 0) and `tax` are filled
    by `build_invoice`; a discount that a line brings along is kept, and the invoice's comes on top.
    """

    key: str
    kind: LineKind
    description: str
    amount: Money
    quantity: Fraction
    unit_price: Fraction | None
    period: Period
    product: str
    discountable: bool = True
    discount: Money | None = None
    tax: Money | None = None
    explanation: dict[str, object] = field(default_factory=dict)

    @property
    def net(self) -> Money:
        """The amount after discount."""
        return self.amount - self.discount if self.discount else self.amount


@dataclass(frozen=True, slots=True)
class TaxTerms:
    """One tax rate: `percentage` 15 means 15 %. An inclusive tax is contained in the prices."""

    percentage: Fraction
    inclusive: bool
    name: str

    def __post_init__(self) -> None:
        if self.percentage < 0:
            raise InvalidTerms("must not be negative", field="percentage")

    def of(self, net: Money) -> Money:
        """The tax on (exclusive) or within (inclusive) an amount, rounded once."""
        base = 100 + self.percentage if self.inclusive else Fraction(100)
        return net.scaled(Fraction(self.percentage, base))


@dataclass(frozen=True, slots=True)
class InvoiceDraft:
    """An invoice before it has a number: `subtotal - discount + tax - credit == total >= 0`.

    `tax` is what comes on top of the lines; tax that prices contain stands on the lines and in
    `contained_tax`. A negative `credit` is what an invoice below zero adds to the customer's balance,
    or a debt carried over that it takes in.
    """

    currency: str
    lines: tuple[DraftLine, ...]
    subtotal: Money
    discount: Money
    tax: Money
    credit: Money
    total: Money

    @property
    def payable(self) -> Money:
        """The total before credit is used; below zero when credits outweigh charges."""
        return self.total + self.credit

    @property
    def contained_tax(self) -> Money:
        """Tax that is part of the lines' amounts (inclusive rates)."""
        return Money.total((line.tax for line in self.lines if line.tax), self.currency) - self.tax


def build_invoice(
    lines: Iterable[DraftLine],
    currency: str,
    discounts: Sequence[Discount],
    tax: TaxTerms | None,
    credit: Money,
) -> InvoiceDraft:
    """Total the lines, in their sequence: give the discounts, tax what is left of each, use up credit.

    Args: discounts, each on what the ones before it left of the discountable lines that it covers; the
    balance that may pay for the invoice (below zero: a debt that it takes in).
    Raises: CurrencyMismatch; Conflict for a repeated key.
    """
    amounts = [("discount", each.amount) for each in discounts if each.amount is not None]
    for name, part in [*amounts, ("credit", credit)]:
        if part.currency != currency:
            raise CurrencyMismatch(f"{currency} invoice, {part.currency} {name}", field=name)
    discounted = list(lines)
    for number, discount in enumerate(discounts, start=1):
        discounted = _with_discount(discounted, discount, number)
    taxed = tuple(_with_tax(line, tax) for line in discounted)
    _check_keys(taxed)
    zero = Money.zero(currency)
    subtotal = Money.total((line.amount for line in taxed), currency)
    given = Money.total((line.discount or zero for line in taxed), currency)
    exclusive = tax is not None and not tax.inclusive
    added = Money.total((line.tax or zero for line in taxed), currency) if exclusive else zero
    payable = subtotal - given + added
    used = balance.used(credit, payable)
    return InvoiceDraft(currency, taxed, subtotal, given, added, used, payable - used)


def discount_codes(line: DraftLine) -> list[str]:
    """Which discounts lowered a line, in the sequence in which they did."""
    records = line.explanation.get("discounts", [])
    assert isinstance(records, list)
    return [str(record["code"]) for record in records]


def differences(expected: InvoiceDraft, actual_total: Money) -> str | None:
    """Say how a total that exists differs from `expected.payable`; None when they agree.

    Stripe's total, too, is the one before credit is used.
    """
    if expected.payable == actual_total:
        return None
    figures = f"expected {format_money(expected.payable)}, found {format_money(actual_total)}"
    if expected.currency != actual_total.currency:
        return f"The currencies differ: {figures}."
    gap = actual_total - expected.payable
    size, word = (gap, "much") if gap.minor > 0 else (-gap, "little")
    return f"The totals differ: {figures}, {format_money(size)} too {word}."


def next_number(prefix: str, sequence: int) -> str:
    """The invoice number of a place in an organization's gap-free sequence: `ACME-000042`."""
    if sequence < 1:
        raise ValueError(f"invoice numbers start at 1, not {sequence}")
    return f"{prefix}-{sequence:0{_NUMBER_DIGITS}d}"


def _with_discount(lines: Sequence[DraftLine], discount: Discount, number: int) -> list[DraftLine]:
    covered = [line for line in lines if line.discountable and discount.covers(line.product)]
    parts = iter(discount.split([line.net for line in covered]))
    return [
        _lowered(line, discount, number, next(parts))
        if line.discountable and discount.covers(line.product)
        else line
        for line in lines
    ]


def _lowered(line: DraftLine, discount: Discount, number: int, part: Money) -> DraftLine:
    if not part.minor:
        return line
    before = line.discount or Money.zero(part.currency)
    record = line.explanation.get("discounts", [])
    assert isinstance(record, list)
    return replace(
        line,
        discount=before + part,
        explanation={**line.explanation, "discounts": [*record, _discount_record(discount, number, part)]},
    )


def _discount_record(discount: Discount, number: int, part: Money) -> dict[str, object]:
    """The discount as it was, so that the split can be done again, and the line's part of it.

    `number` is its place among the invoice's discounts: each takes of what the ones before it left.
    """
    return {
        "number": number,
        "code": discount.code,
        "percent_off": None if discount.percent is None else exact_text(discount.percent),
        "amount_off_minor": None if discount.amount is None else discount.amount.minor,
        "products": None if discount.products is None else sorted(discount.products),
        "amount_minor": part.minor,
    }


def _with_tax(line: DraftLine, tax: TaxTerms | None) -> DraftLine:
    return replace(line, tax=tax.of(line.net)) if tax else line


def _check_keys(lines: Sequence[DraftLine]) -> None:
    keys = [line.key for line in lines]
    if len(set(keys)) != len(keys):
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise Conflict(f"two invoice lines are called {repeated}", field="key")
