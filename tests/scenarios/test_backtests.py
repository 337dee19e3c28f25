"""Backtests over what a running system has really invoiced: proven to the cent, and what a draft changes."""

from uuid import uuid4

from billing.backtests import CurrencyTally
from billing.calendar import calendar_period
from tasks import backtest, backtest_text
from tasks.backtest import Backtest, BacktestTerms
from tasks.catalog import export
from tests.scenarios.test_changes import changes
from tests.scenarios.world import Customer, World

SPRING = "2026-04..2026-06"


def measured(customer: Customer, text: str, period: str = SPRING) -> Backtest:
    """A backtest of one organization; what was invoiced must come out again by its own terms."""
    terms = BacktestTerms(period=calendar_period(period), organization_id=customer.id)
    found = backtest.run(customer.world.context, text, terms)
    assert found.proven, backtest_text.as_text(found, "draft")
    return found


def differences(tally: CurrencyTally) -> dict[tuple[str, str], int]:
    return {part: total.difference for part, total in tally.parts.items() if total.difference}


def test_a_draft_of_one_plan_reaches_into_every_change_of_a_month(world: World) -> None:
    ada = world.on("2026-04-01", "ada")
    ada.card()
    subscription = ada.subscribes("autoflow-starter")  # 35.00, 1,000 included, 2 cents each above
    ada.uses("2026-04-01", 700)
    ada.lives_until("2026-04-11")
    changes(ada, subscription, plan="autoflow-professional")  # 75.00, 10,000 included
    ada.uses("2026-04-11", 6_000, "sixes")
    ada.lives_until("2026-04-21")
    changes(ada, subscription, plan="autoflow-enterprise")  # 149.00, 50,000 included
    ada.uses("2026-04-21", 20_000)
    ada.lives_until("2026-05-01T02:00")
    ada.uses("2026-04-12", 2_500)  # comes when April is invoiced
    ada.corrects("sixes", 5_500, reason="the tail was counted twice")
    ada.lives_until("2026-06-01T02:00")
    text = export(world.context)

    unchanged = measured(ada, text)
    # Professional for 90.00 with 3,000 included, 0.02 each to 100,000.
    draft = text.replace("month = 7500,", "month = 9000,").replace(
        'included = "10000"\ntiers = [{ up_to = "100000", unit_price = "1.5" }',
        'included = "3000"\ntiers = [{ up_to = "100000", unit_price = "2" }',
    )
    found = measured(ada, draft)

    assert unchanged.tally.currencies["USD"].total.difference == 0
    assert unchanged.counts.periods == 2 and unchanged.counts.events == 4
    # Two changes: 90.00 instead of 75.00 for 20 of 30 days: +10.00; the half of that is given back: -5.00.
    # Held for 10 of 30 days: 8,000 runs, 3,333.33 were included and 66.67 bounds the tier, now 1,000:
    # (8,000 - 3,333.33) x 1.5 = 70.00; (8,000 - 1,000) x 2 = 140.00.
    assert differences(found.tally.currencies["USD"]) == {
        ("autoflow-professional", "changes"): 5_00,
        ("autoflow-professional", "workflow_runs"): 70_00,
    }
    world.holds(ada)


def test_trials_coupons_quarters_and_ends_come_out_as_invoiced(world: World) -> None:
    path = "/api/billing/coupons/"
    code = f"half-{uuid4().hex[:8]}"
    world.admin.post(path, {"code": code, "name": "Half", "percent_off": "50", "duration": "forever"}, code)
    ada = world.on("2026-04-01", "ada")
    bob = world.on("2026-04-01", "bob")
    cyn = world.on("2026-04-05", "cyn")
    for each in (ada, bob, cyn):
        each.card()
    ada.subscribes("autoflow-starter", trial_days=14, coupon=code)
    seats = cyn.subscribes("teamspace-starter", quantity=4, coupon=code)
    bob.subscribes("autoflow-starter", interval="quarter")
    ada.uses("2026-04-01", 5_000)
    bob.uses("2026-04-01", 3_100)
    cyn.lives_until("2026-04-20")
    changes(cyn, seats, quantity=6)
    cyn.lives_until("2026-05-20")
    cyn.cancels(seats, at_period_end=True)
    for each in (ada, bob, cyn):
        each.lives_until("2026-07-02T02:00")
    draft = export(world.context).replace("USD = { month = 3500", "USD = { month = 4500")
    draft = draft.replace("USD = { month = 2500", "USD = { month = 3000")

    # The trial stays free; 15 April and 15 May (to 15 June): +10.00 each. June is still open.
    assert differences(measured(ada, draft).tally.currencies["USD"]) == {
        ("autoflow-starter", "recurring"): 20_00
    }
    # The price of a quarter is another price.
    assert differences(measured(bob, draft).tally.currencies["USD"]) == {}
    # 4 x 5.00 and 6 x 5.00; of 4 seats half price for 15 of 30 days back: -5.00, of 6: +7.50.
    found = measured(cyn, draft)
    assert differences(found.tally.currencies["USD"]) == {
        ("teamspace-starter", "recurring"): 50_00,
        ("teamspace-starter", "changes"): 2_50,
    }
    assert (found.counts.periods, found.counts.still_open) == (2, 0)
    world.holds(ada, bob, cyn)
