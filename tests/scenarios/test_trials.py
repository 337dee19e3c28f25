"""Trials: reminded three days before, then charged, dunned or over."""

import pytest
from sqlalchemy import text

from cli.demo.api import ApiRefusal
from tests.scenarios.world import Customer, World


def mails(customer: Customer, kind: str) -> list[tuple[str, bool]]:
    """(day, whether there was a card) of each mail of a kind."""
    with customer.world.context.tenant(customer.id) as unit:
        rows = unit.session.execute(
            text(
                "SELECT to_char(created_at, 'YYYY-MM-DD'), (content ->> 'has_card')::boolean "
                "FROM tenant.notifications WHERE kind = :kind AND channel = 'mail' ORDER BY 1"
            ),
            {"kind": kind},
        )
        return [(row[0], row[1]) for row in rows]


def test_a_trial_with_a_card_is_reminded_once_and_goes_on(world: World) -> None:
    tia = world.on("2026-04-01", "tia")
    tia.card()
    with pytest.raises(ApiRefusal, match="trial_days"):
        tia.subscribes("autoflow-starter", trial=True, trial_days=7)
    tia.subscribes("autoflow-starter", trial=True)  # the 14 days that the catalog shows

    tia.lives_until("2026-04-15T02:00")

    assert mails(tia, "trial.ending") == [("2026-04-12", True)]
    assert tia.totals == [("first", "paid", 0), ("cycle", "paid", 35_00)]
    assert tia.access() == "full"
    world.holds(tia)


def test_a_trial_without_a_card_ends_in_grace_and_a_card_saves_it(world: World) -> None:
    tia = world.on("2026-04-01", "tia")
    tia.subscribes("autoflow-starter", trial_days=14)

    tia.lives_until("2026-04-15T02:00")
    assert mails(tia, "trial.ending") == [("2026-04-12", False)]
    assert (tia.access(), tia.totals[-1]) == ("grace", ("cycle", "open", 35_00))
    tia.lives_until("2026-04-23")
    assert tia.access() == "suspended"

    tia.card()
    tia.rests()
    assert (tia.access(), tia.totals[-1]) == ("full", ("cycle", "paid", 35_00))
    world.holds(tia)


def test_a_trial_that_is_cancelled_costs_nothing_and_is_not_reminded(world: World) -> None:
    tia = world.on("2026-04-01", "tia")
    tia.card()
    subscription = tia.subscribes("autoflow-starter", trial_days=14)
    tia.lives_until("2026-04-05")
    tia.uses("2026-04-04", 9_000)

    tia.cancels(subscription, at_period_end=False)
    tia.lives_until("2026-05-20")

    assert mails(tia, "trial.ending") == []
    assert {total for _, _, total in tia.totals} == {0}
    world.holds(tia)
