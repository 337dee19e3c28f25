"""Buying: once, however often somebody clicks."""

import json
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

from cli.demo.api import Api
from cli.keys import issue_bound
from tests.scenarios.world import World


def test_a_product_that_is_bought_many_times_at_once_is_bought_once(world: World) -> None:
    ada = world.on("2026-04-01", "ada")
    ada.card()
    key = issue_bound(world.context, "admin", "clicks")
    terms = {"organization": ada.slug, "currency": "USD", "interval": "month", "plan": "teamspace-starter"}
    path, body = "/api/billing/subscriptions/", json.dumps(terms).encode()

    def click(_: int) -> int:
        api = Api(world.stack.urls["web"], key)
        try:
            # Each click has a key of its own: nothing tells the door that they are one intention.
            return api.send("POST", path, body, str(uuid4())).status
        finally:
            api.close()

    with ThreadPoolExecutor(8) as clicks:
        statuses = sorted(clicks.map(click, range(8)))
    ada.rests()

    assert statuses == [201, *[409] * 7]
    assert ada.charges == [("succeeded", 25_00)]
    assert ada.totals == [("first", "paid", 25_00)]
    world.holds(ada)
