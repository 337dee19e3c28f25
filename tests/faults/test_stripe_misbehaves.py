"""Whatever Stripe does wrong, everything ends as it does with a quiet one."""

from collections.abc import Callable

import pytest

from tests.faults import season
from tests.faults.misbehaving import misbehaving
from tests.faults.quarter import CHARGES, QUIET, a_quarter
from tests.scenarios import (
    test_coupons,
    test_dashboard,
    test_intervals,
    test_moving,
    test_pausing,
    test_taxes,
    test_trials,
)
from tests.scenarios.world import World

_PATIENCE_S = 900


@pytest.mark.slow
@pytest.mark.timeout(_PATIENCE_S)
def test_a_quarter(world: World) -> None:
    with misbehaving(world):
        ada = a_quarter(world, "ada")

    assert ada.totals == QUIET
    assert ada.charges == CHARGES
    world.holds(ada)


@pytest.mark.slow
@pytest.mark.timeout(_PATIENCE_S)
def test_every_change_of_a_season(world: World) -> None:
    quiet = season.a_season(world, "ada")
    expected = season.snapshot(quiet)
    with misbehaving(world):
        bob = season.a_season(world, "ada")

    assert sorted(quiet.totals) == sorted(season.QUIET)
    found = season.snapshot(bob)
    for name, rows in expected.items():
        assert found[name] == rows, name
    world.holds(quiet, bob)


def _subscribers_move(world: World) -> None:
    sky = test_moving.Sky(world)
    sky.sells(20_00)
    test_moving.test_subscribers_move_at_their_periods_end_and_only_once(world, sky)


# `pytest --misbehaving tests/scenarios` tells them all.
_STORIES: tuple[Callable[[World], None], ...] = (
    test_coupons.test_a_coupon_of_three_months_goes_on_and_ends_though_its_bundle_is_taken_apart,
    test_dashboard.test_a_product_that_a_person_adds_is_billed_metered_and_accessible_until_they_take_it_out,
    test_intervals.test_months_begin_when_the_year_is_over,
    _subscribers_move,
    test_pausing.test_a_pause_of_six_weeks_and_the_usage_before_it,
    test_taxes.test_a_new_rate_takes_effect_with_the_next_invoice,
    test_trials.test_a_trial_without_a_card_ends_in_grace_and_a_card_saves_it,
)


@pytest.mark.slow
@pytest.mark.timeout(_PATIENCE_S)
@pytest.mark.parametrize("story", _STORIES, ids=lambda story: story.__name__.removeprefix("test_"))
def test_a_story(world: World, story: Callable[[World], None]) -> None:
    """With every invoice, charge and mail that it expects of a quiet Stripe."""
    with misbehaving(world):
        story(world)
