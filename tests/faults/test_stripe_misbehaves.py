"""A Stripe that throttles, fails before and after the effect, hangs, and loses or repeats its webhooks."""

import json
import os
import urllib.request
from collections.abc import Iterator

import pytest

from tests.faults import season
from tests.faults.metronome import Metronome
from tests.faults.quarter import CHARGES, QUIET, a_quarter
from tests.scenarios.world import World

FAULTS = {
    "http_429": 0.05,
    "http_500_before": 0.05,
    "http_500_after": 0.05,
    "webhook_duplicate": 0.05,
    "webhook_reorder": 0.05,
    "webhook_delay": 0.05,
    "webhook_drop": 0.05,
    "seed": 4711,
}


@pytest.fixture
def misbehaving(world: World) -> Iterator[World]:
    """The local Stripe with each fault at 5 %."""
    misbehave(world)
    yield world
    behave(world)


def misbehave(world: World) -> None:
    world.patience_s = 300.0  # what has failed waits longer each time, and the machine may be slow
    address = world.stack.urls["sandbox"] + "/_sandbox/faults"
    body = json.dumps(FAULTS).encode()
    switched_on = urllib.request.Request(
        address, data=body, headers={"Content-Type": "application/json"}, method="POST"
    )
    urllib.request.urlopen(switched_on).close()


def behave(world: World) -> None:
    world.patience_s = World.patience_s
    address = world.stack.urls["sandbox"] + "/_sandbox/faults"
    urllib.request.urlopen(urllib.request.Request(address, method="DELETE")).close()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_quarter_ends_as_with_a_quiet_stripe(misbehaving: World) -> None:
    with Metronome(misbehaving):
        ada = a_quarter(misbehaving, "ada")

    behave(misbehaving)  # the proofs ask Stripe too
    assert ada.totals == QUIET
    assert ada.charges == CHARGES
    misbehaving.holds(ada)


# It draws its faults anew each time, and some draws need longer than a run of the whole suite has.
@pytest.mark.skipif("DUNLIN_SEASON" not in os.environ, reason="make season")
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_change_of_a_season_ends_as_with_a_quiet_stripe(world: World) -> None:
    quiet = season.a_season(world, "ada")
    expected = season.snapshot(quiet)
    misbehave(world)
    try:
        with Metronome(world):
            bob = season.a_season(world, "ada")
    finally:
        behave(world)  # the proofs ask Stripe too

    assert sorted(quiet.totals) == sorted(season.QUIET)
    found = season.snapshot(bob)
    for name, rows in expected.items():
        assert found[name] == rows, name
    world.holds(quiet, bob)
