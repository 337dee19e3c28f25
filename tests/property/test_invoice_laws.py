"""Laws of invoices, dunning and keys."""

from __future__ import annotations

from datetime import datetime, timedelta
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from billing.access import Access, UnpaidInvoice, decide
from billing.discounts import Discount
from billing.dunning import Decline, DunningPolicy, GiveUp, RetryAt, next_step
from billing.invoicing import DraftLine, LineKind, TaxTerms, build_invoice, differences
from billing.keys import MAX_KEY, line_key, stripe_key
from billing.money import Money
from billing.periods import Period
from tests.property.strategies import EPOCH, amounts, charges, instants

MONTH = Period(EPOCH, EPOCH + timedelta(days=31))
taxes = st.none() | st.builds(
    TaxTerms, st.fractions(0, 50, max_denominator=100), st.booleans(), st.just("VAT")
)


@st.composite
def invoice_lines(draw: st.DrawFn) -> list[DraftLine]:
    """Up to eight lines, charges and credits, some not discountable."""
    drawn = draw(st.lists(st.tuples(amounts, st.booleans()), max_size=8))
    return [
        DraftLine(
            key=line_key(LineKind.usage, number),
            kind=LineKind.usage,
            description="",
            amount=amount,
            quantity=Fraction(1),
            unit_price=None,
            period=MONTH,
            product="autoflow",
            discountable=discountable,
        )
        for number, (amount, discountable) in enumerate(drawn)
    ]


@given(invoice_lines(), charges, taxes, charges)
def test_invoices_add_up(
    lines: list[DraftLine], discount: Money, tax: TaxTerms | None, credit: Money
) -> None:
    draft = build_invoice(lines, "USD", [Discount("any", amount=discount)], tax, credit)
    zero = Money.zero("USD")
    assert draft.subtotal - draft.discount + draft.tax - draft.credit == draft.total
    assert draft.total >= zero
    assert draft.subtotal == Money.total((line.amount for line in lines), "USD")
    assert draft.discount == Money.total((line.discount or zero for line in draft.lines), "USD")
    assert draft.discount <= discount and draft.credit <= credit
    on_lines = Money.total((line.tax or zero for line in draft.lines), "USD")
    assert on_lines == draft.tax + draft.contained_tax
    assert differences(draft, draft.payable) is None


@given(invoice_lines(), charges)
def test_a_discount_never_turns_a_line_round(lines: list[DraftLine], discount: Money) -> None:
    for before, after in zip(
        lines,
        build_invoice(lines, "USD", [Discount("any", amount=discount)], None, Money.zero("USD")).lines,
        strict=True,
    ):
        if after.discount:
            assert before.discountable and Money.zero("USD") < after.discount <= before.amount


@given(invoice_lines(), charges, taxes)
def test_a_discount_is_used_in_full_where_there_is_room(
    lines: list[DraftLine], discount: Money, tax: TaxTerms | None
) -> None:
    room = sum(line.amount.minor for line in lines if line.discountable)
    draft = build_invoice(lines, "USD", [Discount("any", amount=discount)], tax, Money.zero("USD"))
    assert draft.discount.minor == max(0, min(discount.minor, room))


@given(charges, st.fractions(0, 50, max_denominator=100))
def test_inclusive_tax_is_the_exclusive_tax_of_what_remains(price: Money, percentage: Fraction) -> None:
    contained = TaxTerms(percentage, inclusive=True, name="VAT").of(price)
    added = TaxTerms(percentage, inclusive=False, name="VAT").of(price - contained)
    assert abs((contained - added).minor) <= 1


@given(st.integers(0, 12), instants)
def test_retries_ascend_and_end(attempts: int, failed_at: datetime) -> None:
    policy, soft = DunningPolicy(retry_attempts=attempts), Decline(None, None, None)
    steps = [next_step(policy, failed_at, done, soft) for done in range(attempts)]
    retries = [step.at for step in steps if isinstance(step, RetryAt)]
    assert len(retries) == attempts
    assert all(failed_at < at for at in retries) and retries == sorted(set(retries))
    assert isinstance(next_step(policy, failed_at, attempts, soft), GiveUp)


@given(
    st.lists(st.builds(UnpaidInvoice, instants), min_size=1),
    instants,
    st.timedeltas(timedelta(0), timedelta(days=400)),
)
def test_access_only_falls_while_nothing_is_paid(
    unpaid: list[UnpaidInvoice], now: datetime, later: timedelta
) -> None:
    falling = [Access.full, Access.grace, Access.suspended]
    first, second = (decide("active", unpaid, DunningPolicy(), at).access for at in (now, now + later))
    assert falling.index(first) <= falling.index(second)


@given(st.lists(st.text(), min_size=1, max_size=4), st.lists(st.text(), min_size=1, max_size=4))
def test_different_intentions_have_different_keys(one: list[str], other: list[str]) -> None:
    left, right = stripe_key("pay", *one), stripe_key("pay", *other)
    assert (left == right) == (one == other)
    assert len(left) <= MAX_KEY and left.isascii()
