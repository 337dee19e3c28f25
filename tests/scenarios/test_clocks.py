"""Clocks on their way: each on its own."""

from uuid import UUID, uuid4

from gateway import requests
from models.organizations import TestClock
from tasks import clocks
from tests.scenarios.world import World, at


def test_a_clock_that_is_gone_at_stripe_says_so_and_stops_no_other(world: World) -> None:
    lost, ada = world.on("2026-04-01", "lost"), world.on("2026-04-01", "ada")
    path = f"/api/billing/test_clocks/{lost.clock}/"
    stripe_id = str(clocks.get(world.context, UUID(lost.clock)).stripe_clock_id)
    world.context.gateway.send(requests.delete_test_clock(stripe_id), str(uuid4()))

    world.admin.post(f"{path}advance/", {"to": at("2026-04-02")}, str(uuid4()))
    ada.lives_until("2026-04-02")
    clocks.sweep(world.context)  # what beat has done every 15 seconds

    assert "No such test clock" in world.admin.get(path)["last_error"]
    with world.context.database.system() as session:
        clock = session.get_one(TestClock, UUID(lost.clock))
        clock.target_at = None  # nobody waits for it any more
