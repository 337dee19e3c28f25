"""From month to year and back: a longer interval begins at once, a shorter one when the longer is over."""

from typing import Any

import pytest

from cli.demo.api import ApiRefusal
from tests.scenarios.test_changes import amounts, changes, previews
from tests.scenarios.world import Customer, World


def periods(customer: Customer) -> list[tuple[str, str, str]]:
    """(kind, first day, last day) of what each invoice closes."""
    return [
        (each["kind"], each["period_start_at"][:10], each["period_end_at"][:10]) for each in customer.invoices
    ]


def shown(customer: Customer, subscription: str) -> dict[str, Any]:
    found: dict[str, Any] = customer.world.admin.get(f"/api/billing/subscriptions/{subscription}/")
    return found


def test_a_year_begins_at_once_with_what_is_left_of_the_month_back(world: World) -> None:
    ada = world.on("2026-04-01", "ada")
    ada.card()
    subscription = ada.subscribes("autoflow-starter")  # 35.00 a month, 350.00 a year
    ada.lives_until("2026-04-11")
    ada.uses("2026-04-10", 1_500)  # in April's terms: 500 above the 1,000 of a month, 2 cents each = 10.00

    # 20 of 30 days are left: -35.00 * 20/30 = -23.33, and the whole year 350.00: 326.67
    coming = previews(ada, subscription, interval="year", proration="prorate")
    assert coming["total_minor"] == 326_67
    changed = changes(ada, subscription, interval="year", proration="prorate")
    assert (changed["interval"], changed["current_period_end_at"]) == ("year", "2027-04-11T00:00:00Z")
    ada.rests()
    assert ("cycle", "paid", 326_67) in ada.totals
    ada.lives_until("2026-04-11T02:00")  # an hour for usage on its way, as at the end of every period

    assert sorted(ada.totals) == [
        ("adjustment", "paid", 10_00),
        ("cycle", "paid", 326_67),
        ("first", "paid", 35_00),
    ]
    (restart,) = [invoice for invoice in ada.invoices if invoice["kind"] == "cycle"]
    assert sorted(amounts(restart)) == [("proration", -23_33), ("recurring", 350_00)]
    ada.lives_until("2026-05-20")
    ada.uses("2026-05-19", 13_000)  # 12 x 1,000 are included in the year: 1,000 above = 20.00
    ada.lives_until("2027-04-11T02:00")

    assert ada.totals[-1] == ("cycle", "paid", 370_00)
    assert ada.charges == [("succeeded", amount) for amount in (35_00, 326_67, 10_00, 370_00)]
    world.holds(ada)


def test_months_begin_when_the_year_is_over(world: World) -> None:
    ada = world.on("2026-01-31", "ada")
    ada.card()
    subscription = ada.subscribes("autoflow-starter", interval="year")
    ada.lives_until("2026-06-10")
    ada.uses("2026-06-09", 12_500)  # 500 above the year's 12,000 at 2 cents = 10.00

    coming = previews(ada, subscription, interval="month", proration="next_period")
    assert coming["total_minor"] == 45_00  # the year's usage, and the first month 35.00
    assert changes(ada, subscription, interval="month", proration="next_period")["interval"] == "year"
    with pytest.raises(ApiRefusal, match="planned"):
        changes(ada, subscription, plan="autoflow-professional")
    ada.lives_until("2027-01-20")  # Stripe has been told on 31 December
    assert shown(ada, subscription)["current_period_start_at"] == "2026-01-31T00:00:00Z"
    world.holds(ada)

    ada.lives_until("2027-03-31T02:00")

    assert ada.totals == [
        ("first", "paid", 350_00),
        ("cycle", "paid", 45_00),
        ("cycle", "paid", 35_00),
        ("cycle", "paid", 35_00),
    ]
    # The month's end stays the anchor: 31 January, 28 February, 31 March
    assert periods(ada)[1:] == [
        ("cycle", "2026-01-31", "2027-01-31"),
        ("cycle", "2027-01-31", "2027-02-28"),
        ("cycle", "2027-02-28", "2027-03-31"),
    ]
    assert shown(ada, subscription)["interval"] == "month"
    world.holds(ada)


def test_a_planned_change_is_taken_back(world: World) -> None:
    ada = world.on("2026-04-01", "ada")
    ada.card()
    subscription = ada.subscribes("teamspace-starter", interval="quarter", quantity=2)  # 2 x 71.25 = 142.50
    changes(ada, subscription, interval="month", proration="next_period")

    changes(ada, subscription, interval="quarter")
    ada.lives_until("2026-07-01T02:00")

    assert ada.totals == [("first", "paid", 142_50), ("cycle", "paid", 142_50)]
    world.holds(ada)


def test_a_quarter_with_another_plan_seats_and_a_coupon_after_a_change(world: World) -> None:
    ada = world.on("2026-04-01", "ada", tax_rate="za-vat")
    ada.card()
    subscription = ada.subscribes("teamspace-starter", quantity=2)  # 50.00 and VAT = 57.50
    ada.lives_until("2026-04-11")
    changes(ada, subscription, quantity=4)  # waits: -33.33 (20/30 of 50.00), +66.67 (of 100.00)
    ada.lives_until("2026-04-21")

    # Professional is 40.00 x 3 less 5 % = 114.00 a quarter: 3 x 114.00 = 342.00; half of the 66.67 back:
    # -33.34 (half away from zero of 33.335). All that waits comes along: 342.00 - 33.33 + 66.67 - 33.34
    changes(ada, subscription, plan="teamspace-professional", quantity=3, interval="quarter")
    ada.rests()

    assert sorted(amounts(ada.invoices[-1])) == [
        ("proration", -33_34),
        ("proration", -33_33),
        ("proration", 66_67),
        ("seats", 342_00),
    ]
    ada.lives_until("2026-07-21T02:00")
    assert periods(ada)[1:] == [("cycle", "2026-04-01", "2026-04-21"), ("cycle", "2026-04-21", "2026-07-21")]
    assert ada.totals[-1] == ("cycle", "paid", 393_30)  # 342.00 and 15 %
    world.holds(ada)


def test_a_card_that_fails_leaves_the_month_as_it_was(world: World) -> None:
    finn = world.on("2026-04-01", "finn")
    finn.card()
    subscription = finn.subscribes("autoflow-starter")
    finn.card("pm_card_chargeCustomerFail")

    with pytest.raises(ApiRefusal, match="declined"):
        changes(finn, subscription, interval="year")
    finn.rests()

    assert shown(finn, subscription)["interval"] == "month"
    assert finn.totals == [("first", "paid", 35_00)]
    world.holds(finn)


def test_in_a_trial_the_first_period_is_of_the_new_interval(world: World) -> None:
    tia = world.on("2026-04-01", "tia")
    tia.card()
    subscription = tia.subscribes("autoflow-starter", trial_days=14)

    changes(tia, subscription, interval="year", proration="none")
    tia.lives_until("2026-04-15T02:00")

    assert tia.totals == [("first", "paid", 0), ("cycle", "paid", 350_00)]
    assert shown(tia, subscription)["current_period_end_at"] == "2027-04-15T00:00:00Z"
    world.holds(tia)


def test_what_cannot_be_is_refused_and_says_what_can(world: World) -> None:
    ada = world.on("2026-04-01", "ada")
    ada.card()
    monthly = ada.subscribes("autoflow-starter")
    yearly = ada.subscribes("teamspace-starter", interval="year")
    bea = world.on("2026-04-01", "bea")
    bea.card()
    bundle = bea.subscribes(bundle="starter")

    for customer, subscription, terms, says in (
        (ada, monthly, {"interval": "year", "proration": "next_period"}, "only `prorate`"),
        (ada, monthly, {"interval": "year", "proration": "none"}, "only `prorate`"),
        (ada, yearly, {"interval": "month"}, "only `next_period`"),
        (ada, monthly, {"interval": "week"}, "interval"),
        (ada, monthly, {"interval": "month"}, "already"),
        (bea, bundle, {"interval": "year"}, "several products"),
    ):
        with pytest.raises(ApiRefusal, match=says):
            changes(customer, subscription, **terms)
    ada.cancels(monthly, at_period_end=True)
    with pytest.raises(ApiRefusal, match="reactivate"):
        changes(ada, monthly, interval="year")
