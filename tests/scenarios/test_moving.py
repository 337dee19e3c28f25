"""Subscribers of an old version are moved in bulk: named before, once each, and resumed after a failure."""

from typing import Any
from uuid import uuid4

import pytest
from click.testing import CliRunner

from cli.demo.api import ApiRefusal, patiently
from cli.main import main
from tasks import catalog
from tasks.stripe_catalog import sync
from tests.scenarios.world import Customer, World

NEBULA = """
[[tiers]]
code = "starter"
name = "Starter"
rank = 1

[[products]]
code = "nebula{n}"
name = "Nebula"
billing_type = "per_user"
base_charge = "per_seat"

[products.plans.starter]
prices = {{ USD = {{ month = {price}, year = {year} }} }}

[[products]]
code = "quasar{n}"
name = "Quasar"
billing_type = "flat"

[products.plans.starter]
prices = {{ USD = {{ month = 1000 }} }}

[[bundles]]
code = "sky{n}"
name = "Nebula and Quasar"
prices = {{ USD = {{ month = {bundle} }} }}
members = ["nebula{n}-starter", "quasar{n}-starter"]
"""


class Sky:
    """A catalog of its own for each story: versions stay."""

    def __init__(self, world: World) -> None:
        self.world, self.n = world, uuid4().hex[:6]
        self.plan, self.bundle = f"nebula{self.n}-starter", f"sky{self.n}"

    def sells(self, price: int, bundle: int = 25_00) -> None:
        text = NEBULA.format(n=self.n, price=price, year=10 * price, bundle=bundle)
        catalog.apply(self.world.context, text)
        sync(self.world.context)

    def moves(self, code: str, **order: Any) -> dict[str, Any]:
        path = f"/api/billing/plans/{code}/move/"
        answer: dict[str, Any] = self.world.admin.post(path, order, str(uuid4()))
        return answer


@pytest.fixture
def sky(world: World) -> Sky:
    made = Sky(world)
    made.sells(20_00)
    return made


def subscriber(world: World, name: str, **terms: Any) -> tuple[Customer, str]:
    customer = world.on("2026-04-01", name)
    customer.card()
    return customer, customer.subscribes(**terms)


def test_subscribers_move_at_their_periods_end_and_only_once(world: World, sky: Sky) -> None:
    ann, hers = subscriber(world, "ann", plan=sky.plan, quantity=3)
    bob, _ = subscriber(world, "bob", plan=sky.plan)
    sky.sells(30_00)

    rehearsed = sky.moves(sky.plan, dry_run=True)["items"]
    # 3 x 20.00 and 20.00 become 3 x 30.00 and 30.00
    assert [(each["organization"], each["old_minor"], each["new_minor"]) for each in rehearsed] == [
        (ann.slug, 60_00, 90_00),
        (bob.slug, 20_00, 30_00),
    ]
    # Who is busy for a moment is refused, and moved by a repeat.
    assert patiently(lambda: sky.moves(sky.plan, to=2)["begun"], lambda begun: begun == 2, 60) == 2
    sky.moves(sky.plan)  # what is under way is found, not begun again
    ann.rests()
    bob.rests()
    assert sky.moves(sky.plan)["items"] == []

    for customer in (ann, bob):
        customer.lives_until("2026-05-01T02:00")
    assert ann.totals == [("first", "paid", 60_00), ("cycle", "paid", 90_00)]
    assert bob.totals == [("first", "paid", 20_00), ("cycle", "paid", 30_00)]
    seen = world.admin.get(f"/api/billing/subscriptions/{hers}/")["items"]
    assert [(item["amount_minor"], item["ended_at"] is None) for item in seen] == [
        (20_00, False),
        (30_00, True),
    ]
    world.holds(ann, bob)


def test_one_organization_moves_now_with_its_proration(world: World, sky: Sky) -> None:
    ann, _ = subscriber(world, "ann", plan=sky.plan)
    bob, _ = subscriber(world, "bob", plan=sky.plan)
    sky.sells(30_00)
    ann.lives_until("2026-04-16")

    sky.moves(sky.plan, organizations=[ann.slug], proration="prorate")
    ann.rests()
    for customer in (ann, bob):
        customer.lives_until("2026-05-01T02:00")

    # 15 of 30 days: -20.00 / 2 + 30.00 / 2 = +5.00, and May: 30.00
    assert ann.totals[-1] == ("cycle", "paid", 35_00)
    assert bob.totals[-1] == ("cycle", "paid", 20_00)
    world.holds(ann, bob)


def test_who_cannot_be_moved_is_named_and_stops_nobody(world: World, sky: Sky) -> None:
    ann, hers = subscriber(world, "ann", plan=sky.plan)
    bob, _ = subscriber(world, "bob", bundle=sky.bundle)
    cleo, _ = subscriber(world, "cleo", plan=sky.plan)
    ann.cancels(hers, at_period_end=True)
    sky.sells(30_00)

    with pytest.raises(ApiRefusal, match="version 2 is sold"):
        sky.moves(sky.plan, to=1)
    with pytest.raises(ApiRefusal, match="404"):
        sky.moves("no-such-plan")
    answer = sky.moves(sky.plan)

    refusals = {each["organization"]: each["refusal"] for each in answer["items"]}
    assert answer["begun"] == 1
    assert "ends" in refusals[ann.slug]
    assert "bundle" in refusals[bob.slug]
    assert refusals[cleo.slug] is None
    cleo.lives_until("2026-05-01T02:00")
    assert cleo.totals[-1] == ("cycle", "paid", 30_00)
    world.holds(ann, bob, cleo)


def test_a_bundle_moves_with_its_members_and_its_saving(world: World, sky: Sky) -> None:
    bob, _ = subscriber(world, "bob", bundle=sky.bundle)  # 20.00 + 10.00 for 25.00
    sky.sells(30_00, bundle=34_00)  # 30.00 + 10.00 for 34.00

    (rehearsed,) = sky.moves(sky.bundle, dry_run=True)["items"]
    assert (rehearsed["old_minor"], rehearsed["new_minor"]) == (25_00, 34_00)
    assert sky.moves(sky.bundle, proration="prorate")["begun"] == 0
    assert sky.moves(sky.bundle)["begun"] == 1
    bob.rests()
    assert sky.moves(sky.bundle)["items"] == []
    bob.lives_until("2026-05-01T02:00")

    assert bob.totals == [("first", "paid", 25_00), ("cycle", "paid", 34_00)]
    assert bob.invoices[-1]["discount_minor"] == 6_00
    world.holds(bob)


def test_the_command_says_who_moves_follows_the_workers_and_can_be_repeated(
    world: World, sky: Sky, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, hers = subscriber(world, "ann", plan=sky.plan)
    sky.sells(30_00)
    for name, value in world.stack.environment.items():
        monkeypatch.setenv(name, value)

    def says(*words: str) -> tuple[int, str]:
        result = CliRunner().invoke(main, ["catalog", "move", sky.plan, *words])
        return result.exit_code, result.output

    code, rehearsed = says("--dry-run")
    assert code == 0
    assert f"{ann.slug} {hers}: version 1, $20.00 -> $30.00 a month (+$10.00)" in rehearsed
    code, moved = says()
    assert (code, "1 of 1 moved" in moved) == (0, True), moved
    assert says() == (0, "nobody to move\n")
    ann.lives_until("2026-05-01T02:00")
    assert ann.totals[-1] == ("cycle", "paid", 30_00)
    world.holds(ann)
