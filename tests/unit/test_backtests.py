"""What a past charge comes to under other terms, and how charges add up."""

from datetime import UTC, datetime
from fractions import Fraction

from billing.backtests import Comparison, Pricing, Tally, prorated_again
from billing.groups import Group, GroupedTerms
from billing.metering import Aggregation
from billing.money import Money
from billing.periods import Period
from billing.proration import ProratedPart, Side
from billing.rating import ChargeModel, ChargeTerms
from billing.usage import Counted, Holding

APRIL = Period(datetime(2026, 4, 1, tzinfo=UTC), datetime(2026, 5, 1, tzinfo=UTC))
ELEVENTH = datetime(2026, 4, 11, tzinfo=UTC)


def usd(minor: int) -> Money:
    return Money(minor, "USD")


def pricing(base_charge: str = "flat") -> Pricing:
    terms = ChargeTerms(ChargeModel.per_unit, "USD", unit_price=Fraction(2), included=Fraction(300))
    dear = Group({"region": ("eu",)}, ChargeTerms(ChargeModel.per_unit, "USD", unit_price=Fraction(9)))
    return Pricing(base_charge, usd(30_00), {"runs": GroupedTerms(terms, (dear,))})


def runs(holding: Holding, rest: int, eu: int = 0) -> Money:
    counted = {0: Counted(Fraction(rest), 1), 1: Counted(Fraction(eu), 1)}
    return pricing().usage("runs", Aggregation.sum, holding, counted)


def test_seats_count_where_the_plan_is_per_seat() -> None:
    assert pricing().recurring(4) == usd(30_00)
    assert pricing("per_seat").recurring(4) == usd(120_00)
    assert pricing("per_seat").recurring(4, in_trial=True) == usd(0)


def test_a_quarter_has_three_allowances_and_a_third_of_a_month_a_third_of_one() -> None:
    assert runs(Holding("month", Fraction(1)), 1_000) == usd(14_00)  # 700 x 2
    assert runs(Holding("quarter", Fraction(1)), 1_000) == usd(2_00)  # 100 x 2
    assert runs(Holding("month", Fraction(1, 3)), 1_000) == usd(18_00)  # 900 x 2


def test_each_group_has_its_price() -> None:
    assert runs(Holding("month", Fraction(1)), 1_000, eu=100) == usd(23_00)  # 14.00, and 100 x 9
    assert pricing().matches("runs") == [{"region": ["eu"]}]
    assert pricing().matches("bytes") == []


def test_a_trial_and_a_meter_without_a_charge_cost_nothing() -> None:
    assert runs(Holding("month", Fraction(1), in_trial=True), 1_000) == usd(0)
    counted = {0: Counted(Fraction(1_000), 1)}
    assert pricing().usage("bytes", Aggregation.sum, Holding("month", Fraction(1)), counted) == usd(0)


def part(side: Side, base: int, listed: int) -> ProratedPart:
    return ProratedPart(side, usd(base), usd(listed), APRIL, ELEVENTH)


def test_a_change_keeps_its_share_and_its_discounts_proportion() -> None:
    # 20 of 30 days are left.
    assert prorated_again(part(Side.remaining, 90_00, 90_00), usd(120_00)) == usd(80_00)
    assert prorated_again(part(Side.remaining, 45_00, 90_00), usd(120_00)) == usd(40_00)
    assert prorated_again(part(Side.remaining, 0, 0), usd(30_00)) == usd(20_00)
    assert prorated_again(part(Side.unused, 90_00, 90_00), usd(120_00)) == usd(-80_00)
    assert prorated_again(part(Side.unused, 90_00, 90_00), usd(120_00), usd(60_00)) == usd(-40_00)


def test_a_prorated_part_comes_back_from_its_record() -> None:
    whole = part(Side.unused, 100_00, 110_00)

    record = whole.to_record()

    assert whole.amount == usd(-66_67)
    assert (record["seconds_left"], record["seconds"], record["share"]) == (1_728_000, 2_592_000, "2/3")
    assert ProratedPart.from_record(record) == whole
    assert ProratedPart.from_record({"debited_minor": 1}) is None


def compared(organization: str, invoiced: int, again: int, draft: int) -> Comparison:
    return Comparison(
        organization=organization,
        plan="flow-pro",
        part="runs",
        place=organization,
        invoiced=usd(invoiced),
        again=usd(again),
        draft=usd(draft),
    )


def test_who_pays_most_more_comes_first_and_what_does_not_agree_is_kept() -> None:
    tally = Tally(most_kept=1)

    tally.add(
        [compared("a", 5, 5, 4), compared("b", 5, 5, 9), compared("c", 1, 2, 2), compared("d", 1, 2, 2)]
    )

    dollars = tally.currencies["USD"]
    assert [slug for slug, _ in dollars.ranked()] == ["b", "c", "d", "a"]
    assert dollars.counted() == (1, 1, 2)
    assert (dollars.total.invoiced, dollars.total.before, dollars.total.after) == (12, 14, 17)
    assert dollars.total.percent == Fraction(300, 14)
    assert (tally.compared, tally.disagreeing, [each.place for each in tally.deviations]) == (4, 2, ["c"])
