"""The documented table of webhooks is the one that the code follows."""

import re
from pathlib import Path

from cli.triggering.scenes import SCENES
from gateway.webhooks import HANDLED_EVENTS
from tasks.observers import OBSERVERS

PAGE = (Path(__file__).parents[2] / "docs/webhooks.md").read_text()
ROWS = dict(re.findall(r"^\| `([a-z_.]+)` \| ([a-z_]+) \| .{4,} \|$", PAGE, re.MULTILINE))


def test_the_page_tells_of_every_event_that_we_ask_for_and_of_no_other() -> None:
    assert set(ROWS) == {*HANDLED_EVENTS, "invoice.payment_succeeded"}


def test_every_object_on_the_page_is_observed_and_none_is_forgotten() -> None:
    assert set(ROWS.values()) == set(OBSERVERS)


def test_every_event_that_can_be_played_is_on_the_page() -> None:
    assert set(SCENES) <= set(ROWS)
