"""An invoice that is made anew of its stored lines is the same, whatever its discounts and tax."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from billing.discounts import Discount
from billing.invoicing import DraftLine, InvoiceDraft, TaxTerms, build_invoice
from billing.money import Money
from billing.rebuilding import Stored, gaps, rebuilt
from tests.property.strategies import charges
from tests.property.test_invoice_laws import invoice_lines, taxes

PRODUCTS = ("autoflow", "teamspace", "buildeasy")
products = st.none() | st.frozensets(st.sampled_from(PRODUCTS), min_size=1)
percents = st.builds(
    lambda percent, covered: Discount("", percent=percent, products=covered),
    st.fractions(0, 100, max_denominator=100),
    products,
)
fixed = st.builds(lambda amount, covered: Discount("", amount=amount, products=covered), charges, products)


@st.composite
def invoices(draw: st.DrawFn) -> tuple[list[DraftLine], list[Discount], TaxTerms | None]:
    lines = [replace(line, product=draw(st.sampled_from(PRODUCTS))) for line in draw(invoice_lines())]
    drawn = draw(st.lists(percents | fixed, max_size=4))
    return lines, [replace(each, code=f"d{n}") for n, each in enumerate(drawn)], draw(taxes)


def stored(draft: InvoiceDraft) -> Stored:
    return Stored(
        draft.subtotal.minor,
        draft.discount.minor,
        draft.tax.minor,
        draft.payable.minor,
        {line.key: line.discount.minor if line.discount else 0 for line in draft.lines},
        {line.key: line.tax.minor if line.tax else 0 for line in draft.lines},
    )


def again(draft: InvoiceDraft, lines: list[DraftLine], tax: TaxTerms | None) -> InvoiceDraft:
    records = [line.explanation.get("discounts", []) for line in draft.lines]
    return rebuilt(lines, "USD", records, tax)  # type: ignore[arg-type]


@given(invoices())
def test_an_invoice_comes_out_of_its_lines_again(
    made: tuple[list[DraftLine], list[Discount], TaxTerms | None],
) -> None:
    lines, discounts, tax = made
    draft = build_invoice(lines, "USD", discounts, tax, Money.zero("USD"))

    assert gaps(again(draft, lines, tax), stored(draft)) == {}


@given(invoices(), st.sampled_from(("subtotal", "discount", "tax", "payable")), st.integers(1, 9))
def test_a_figure_that_is_not_that_of_the_lines_is_named(
    made: tuple[list[DraftLine], list[Discount], TaxTerms | None], figure: str, gap: int
) -> None:
    lines, discounts, tax = made
    draft = build_invoice(lines, "USD", discounts, tax, Money.zero("USD"))
    right = stored(draft)
    wrong = replace(right, **{figure: getattr(right, figure) - gap})

    assert gaps(again(draft, lines, tax), wrong) == {figure: gap}
