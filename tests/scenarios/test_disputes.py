"""A customer complains at their bank: staff see it, access stays, and nobody is charged again."""

from typing import Any

from cli.demo.api import patiently
from gateway import requests
from tests.scenarios.test_credit import say
from tests.scenarios.test_dashboard import Person
from tests.scenarios.test_webhooks import rows_of
from tests.scenarios.world import Customer, World


def disputes(customer: Customer) -> list[Any]:
    statement = "SELECT status, amount_minor FROM tenant.disputes"
    return rows_of(customer.world, customer.id, statement)


def test_a_dispute_is_shown_and_reconciled_and_touches_neither_access_nor_the_next_charges(
    world: World,
) -> None:
    una = world.on("2026-04-01", "una")
    una.card("pm_card_createDispute")
    una.subscribes("autoflow-starter")
    opened = patiently(lambda: disputes(una), bool, 30.0)
    assert opened == [("needs_response", 35_00)]
    assert una.access() == "full"
    world.holds(una)

    una.card("pm_card_visa")  # a new card collects what is open: the disputed invoice is not
    una.rests()
    assert una.charges == [("succeeded", 35_00)]

    (dispute,) = rows_of(world, una.id, "SELECT stripe_dispute_id FROM tenant.disputes")
    say(una, requests.close_dispute(dispute[0]))
    assert patiently(lambda: disputes(una), lambda found: found == [("lost", 35_00)], 30.0)
    una.lives_until("2026-05-01T02:00")

    assert una.access() == "full"
    assert una.dunning == []
    assert una.totals == [("first", "paid", 35_00), ("cycle", "paid", 35_00)]
    assert una.charges == [("succeeded", 35_00), ("succeeded", 35_00)]
    told = rows_of(world, una.id, "SELECT DISTINCT kind FROM tenant.notifications WHERE kind LIKE 'dispute%'")
    assert sorted(kind for (kind,) in told) == ["dispute.closed", "dispute.opened"]
    assert Person(una).subscription["status"] == "active"
    world.holds(una)
