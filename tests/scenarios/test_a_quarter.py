"""The four stories of the demo, one at a time, each told to its end."""

from collections.abc import Callable

from tests.scenarios.world import Customer, World

Golden = Callable[[str, str], None]


def test_a_month_of_usage_is_billed_with_the_next_month_in_advance(world: World, golden: Golden) -> None:
    ada = world.on("2026-04-01", "ada")
    ada.card()
    ada.subscribes("autoflow-professional")
    assert ada.totals == [("first", "paid", 75_00)]  # April in advance

    ada.uses("2026-04-01T00:00", 10_000)  # exactly the allowance
    ada.lives_until("2026-04-20")
    ada.uses("2026-04-19", 90_000)  # to 100,000: 90,000 at 1.5 cents = 1,350.00
    ada.uses("2026-04-20", 5_000)  # above: 5,000 at 1 cent = 50.00
    ada.lives_until("2026-05-01T02:00")

    # 1,350.00 + 50.00 of usage, and May in advance: 75.00
    assert ada.totals == [("first", "paid", 75_00), ("cycle", "paid", 1_475_00)]
    golden(ada.last_invoice, "month_of_usage.txt")
    assert ada.charges == [("succeeded", 75_00), ("succeeded", 1_475_00)]
    assert ada.access() == "full"
    world.holds(ada)


def test_a_month_that_ends_on_the_31st_comes_back_after_february(world: World) -> None:
    ada = world.on("2026-01-31", "ada")
    ada.card()
    ada.subscribes("autoflow-starter")

    ada.lives_until("2026-04-30T02:00")

    closed = [(each["period_start_at"][:10], each["period_end_at"][:10]) for each in ada.invoices[1:]]
    assert closed == [
        ("2026-01-31", "2026-02-28"),
        ("2026-02-28", "2026-03-31"),
        ("2026-03-31", "2026-04-30"),
    ]
    assert ada.totals[1:] == [("cycle", "paid", 35_00)] * 3
    world.holds(ada)


def test_a_bundle_in_rand_with_a_trial_and_vat(world: World, golden: Golden) -> None:
    kay = world.on("2026-04-01", "kay", currency="ZAR", tax_rate="za-vat")
    kay.card()
    kay.subscribes(bundle="starter", trial_days=14)
    assert kay.totals == [("first", "paid", 0)]
    kay.lives_until("2026-04-10")
    kay.uses("2026-04-09", 5_000)  # in the trial: metered, shown, free

    kay.lives_until("2026-04-15T02:00")

    golden(kay.last_invoice, "bundle_in_rand_after_trial.txt")
    assert kay.access() == "full"
    world.holds(kay)


def mails(customer: Customer) -> list[tuple[str, str]]:
    """(day, kind) of every mail, in sequence."""
    found: list[tuple[str, str]] = customer.rows(
        "SELECT to_char(created_at, 'YYYY-MM-DD'), kind FROM tenant.notifications "
        "WHERE channel = 'mail' ORDER BY created_at, id"
    )
    return found


def test_a_card_fails_is_retried_three_times_and_a_new_card_recovers(world: World) -> None:
    finn = world.on("2026-04-01", "finn")
    finn.card()
    finn.subscribes("autoflow-starter")
    finn.card("pm_card_chargeCustomerFail")

    finn.lives_until("2026-05-01T02:00")  # the draft closes at 01:00 and is declined
    assert finn.access() == "grace"
    finn.lives_until("2026-05-08T00:59")
    assert finn.access() == "grace"  # seven days after the first failure, less a minute
    finn.lives_until("2026-05-08T01:01")
    assert finn.access() == "suspended"
    finn.lives_until("2026-05-10")
    finn.card()
    finn.rests()

    assert finn.access() == "full"
    assert finn.dunning == [
        "2026-05-01 01:00 payment_failed",
        "2026-05-01 01:00 retry_planned",
        "2026-05-02 01:00 payment_failed",
        "2026-05-02 01:00 retry_planned",
        "2026-05-04 01:00 payment_failed",
        "2026-05-04 01:00 retry_planned",
        "2026-05-06 01:00 payment_failed",
        "2026-05-06 01:00 retries_exhausted",
        "2026-05-08 01:00 suspended",
        "2026-05-10 00:00 recovered",
    ]
    assert finn.charges == [("succeeded", 35_00), *[("failed", 35_00)] * 4, ("succeeded", 35_00)]
    assert [(day, kind) for day, kind in mails(finn) if day > "2026-04-30"] == [  # one for each happening
        ("2026-05-01", "invoice.finalized"),
        ("2026-05-01", "dunning.retry_planned"),
        ("2026-05-02", "dunning.retry_planned"),
        ("2026-05-04", "dunning.retry_planned"),
        ("2026-05-06", "dunning.retries_exhausted"),
        ("2026-05-08", "dunning.suspended"),
        ("2026-05-10", "dunning.recovered"),
    ]
    world.holds(finn)


def test_cancelling_in_mid_period_bills_the_last_usage_once(world: World, golden: Golden) -> None:
    bea = world.on("2026-04-01", "bea")
    bea.card()
    subscription = bea.subscribes("autoflow-professional")
    bea.lives_until("2026-04-12")
    bea.uses("2026-04-11", 12_000)  # 2,000 above the allowance at 1.5 cents = 30.00

    bea.cancels(subscription, at_period_end=False)
    bea.lives_until("2026-06-02")

    assert bea.totals == [("first", "paid", 75_00), ("final", "paid", 30_00)]
    golden(bea.last_invoice, "cancelled_in_mid_period.txt")
    assert bea.access() == "none"
    world.holds(bea)


def test_cancelling_at_period_end_bills_the_whole_period_and_nothing_after(world: World) -> None:
    bea = world.on("2026-04-01", "bea")
    bea.card()
    subscription = bea.subscribes("autoflow-professional")
    bea.lives_until("2026-04-12")
    bea.uses("2026-04-11", 12_000)  # 30.00

    bea.cancels(subscription, at_period_end=True)
    assert bea.access() == "full"
    bea.lives_until("2026-06-02")

    assert bea.totals == [("first", "paid", 75_00), ("final", "paid", 30_00)]
    assert bea.access() == "none"
    world.holds(bea)


def test_a_late_event_is_adjusted_on_the_next_invoice(world: World, golden: Golden) -> None:
    lou = world.on("2026-04-01", "lou")
    lou.card()
    lou.subscribes("autoflow-starter")
    lou.lives_until("2026-04-20")
    lou.uses("2026-04-19", 900)  # within the allowance of 1,000
    lou.lives_until("2026-05-03")
    late = lou.uses("2026-04-30", 300)  # April is closed: 1,200 in all, 200 at 2 cents = 4.00

    lou.lives_until("2026-06-01T02:00")

    assert late["waiting"] == 1
    assert lou.totals == [("first", "paid", 35_00), ("cycle", "paid", 35_00), ("cycle", "paid", 39_00)]
    golden(lou.last_invoice, "late_event.txt")
    world.holds(lou)


def test_usage_before_there_is_a_subscription_waits_in_quarantine_and_is_billed(world: World) -> None:
    quinn = world.on("2026-04-01", "quinn")
    early = quinn.uses("2026-03-31", 10)
    quinn.card()
    quinn.lives_until("2026-04-02")
    on_time = quinn.uses("2026-04-02", 1_500)  # 500 above the allowance at 2 cents = 10.00
    assert (early["quarantined"], on_time["quarantined"]) == (1, 1)

    quinn.subscribes("autoflow-starter")  # from 2 April 00:00 on
    quinn.lives_until("2026-05-02T02:00")

    assert quinn.totals == [("first", "paid", 35_00), ("cycle", "paid", 45_00)]
    world.holds(quinn)


def test_the_same_event_twice_is_billed_once_and_another_content_is_kept_apart(world: World) -> None:
    dan = world.on("2026-04-01", "dan")
    dan.card()
    dan.subscribes("autoflow-starter")
    dan.uses("2026-04-01", 1_100, event_id=f"{dan.slug}-x")  # 100 above the allowance = 2.00
    again = dan.uses("2026-04-01", 1_100, event_id=f"{dan.slug}-x")
    other = dan.uses("2026-04-01", 9_999, event_id=f"{dan.slug}-x")

    dan.lives_until("2026-05-01T02:00")

    assert (again["duplicate"], other["quarantined"]) == (1, 1)
    assert dan.totals[-1] == ("cycle", "paid", 37_00)
    world.holds(dan)


def test_a_new_card_after_a_cancellation_charges_nothing_that_was_given_up(world: World) -> None:
    finn = world.on("2026-04-01", "finn")
    finn.card()
    subscription = finn.subscribes("autoflow-starter")
    finn.card("pm_card_chargeCustomerFail")
    finn.lives_until("2026-05-01T02:00")
    finn.cancels(subscription, at_period_end=False)
    finn.rests()

    finn.card()
    finn.lives_until("2026-05-20")

    assert finn.charges == [("succeeded", 35_00), ("failed", 35_00)]
    assert finn.dunning[-1].endswith("stopped")
    world.holds(finn)


def test_a_new_card_that_fails_too_is_retried_a_day_apart(world: World) -> None:
    finn = world.on("2026-04-01", "finn")
    finn.card()
    finn.subscribes("autoflow-starter")
    finn.card("pm_card_authenticationRequired")  # a hard decline off session: never retried
    finn.lives_until("2026-05-05")
    assert finn.charges[1:] == [("failed", 35_00)]

    finn.card("pm_card_chargeCustomerFail")  # soft: tried at once, then on the 6th, 7th and 8th
    finn.lives_until("2026-05-12")

    failed = [step for step in finn.dunning if step.endswith("payment_failed")]
    assert [step[:10] for step in failed[1:]] == ["2026-05-05", "2026-05-06", "2026-05-07", "2026-05-08"]
    world.holds(finn)
