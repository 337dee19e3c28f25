"""kill -9 in mid-quarter: one invoice a period, one charge an invoice, every cent as in a quiet run."""

import random
import signal
import threading
from contextlib import nullcontext

import pytest

from tests.faults.metronome import Metronome
from tests.faults.quarter import CHARGES, QUIET, a_quarter
from tests.scenarios.world import World

SEED = 20260415


class Killer:
    """Kills processes of the stack at random instants of a printed seed, `most` times in all.

    Bounded, because a process that is shot whenever it rises proves nothing about what it did.
    """

    def __init__(self, world: World, *victims: str, most: int = 5) -> None:
        self._world, self._victims, self._most = world, victims, most
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._kill, daemon=True)
        self._random = random.Random(SEED)
        self.kills = 0

    def __enter__(self) -> "Killer":
        print(f"SEED={SEED}")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _kill(self) -> None:
        while self.kills < self._most and not self._over.wait(self._random.uniform(0.2, 2.5)):
            victim = self._random.choice(self._victims)
            try:
                self._world.stack.kill(victim, signal.SIGKILL)
            except KeyError:
                continue  # it is down from the last time and on its way back
            self.kills += 1


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "victims",
    [("worker-billing", "worker-ingest"), ("valkey",), ("web", "beat")],
    ids=["workers", "broker", "web and beat"],
)
def test_a_quarter_ends_as_if_nobody_had_been_killed(world: World, victims: tuple[str, ...]) -> None:
    # Where beat itself is killed it is also beat that brings everything back.
    hurried = nullcontext() if "beat" in victims else Metronome(world)
    with hurried, Killer(world, *victims) as killer:
        ada = a_quarter(world, "ada")

    assert killer.kills > 0
    assert ada.totals == QUIET
    assert ada.charges == CHARGES
    world.holds(ada)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_decline_is_retried_no_more_often_when_workers_are_killed(world: World) -> None:
    finn = world.on("2026-04-01", "finn")
    finn.card()
    finn.subscribes("autoflow-starter")
    finn.card("pm_card_chargeCustomerFail")

    with Metronome(world), Killer(world, "worker-billing"):
        finn.lives_until("2026-05-09")

    assert finn.charges == [("succeeded", 35_00), *[("failed", 35_00)] * 4]
    assert finn.access() == "suspended"
    world.holds(finn)
