"""The same asked many times at one instant, under keys of its own each time: done once."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest

from cli.demo.api import Api
from cli.keys import issue_bound
from tests.scenarios.world import World


def statuses(world: World, path: str, terms: dict[str, Any], times: int = 8) -> list[int]:
    """What each of `times` requests is answered; nothing tells the door that they are one intention."""
    key = issue_bound(world.context, "admin", "clicks")
    body = json.dumps(terms).encode()

    def click(_: int) -> int:
        api = Api(world.stack.urls["web"], key)
        try:
            return api.send("POST", path, body, str(uuid4())).status
        finally:
            api.close()

    with ThreadPoolExecutor(times) as clicks:
        return sorted(clicks.map(click, range(times)))


def test_a_product_that_is_bought_many_times_at_once_is_bought_once(world: World) -> None:
    ada = world.on("2026-04-01", "ada")
    ada.card()
    terms = {"organization": ada.slug, "currency": "USD", "interval": "month", "plan": "teamspace-starter"}

    answers = statuses(world, "/api/billing/subscriptions/", terms)
    ada.rests()

    assert answers == [201, *[409] * 7]
    assert ada.charges == [("succeeded", 25_00)]
    assert ada.totals == [("first", "paid", 25_00)]
    world.holds(ada)


@pytest.mark.parametrize(
    ("path", "terms"),
    [
        (
            "organizations",
            {"slug": "twins", "name": "Twins", "email": "t@twins.test", "external_id": "twins"},
        ),
        ("coupons", {"code": "TWINS", "name": "Twins", "percent_off": "10"}),
        ("tax_rates", {"code": "twins", "name": "VAT", "percentage": "19"}),
    ],
)
def test_a_name_that_many_ask_for_at_once_is_given_once(
    world: World, path: str, terms: dict[str, Any]
) -> None:
    assert statuses(world, f"/api/billing/{path}/", terms) == [201, *[409] * 7]
