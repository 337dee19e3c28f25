"""A Stripe that throttles, fails before and after the effect, loses webhooks, repeats and mixes them up."""

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from tests.faults.metronome import Metronome
from tests.scenarios.world import World

# What stands for a person at Stripe, and asks the proofs' questions: faults by chance spare it.
PERSON = {"STRIPE_API_KEY": "sk_test_a_person"}
_FAULTS = {
    "http_429": 0.05,
    "http_500_before": 0.05,
    "http_500_after": 0.05,
    "webhook_duplicate": 0.05,
    "webhook_reorder": 0.05,
    "webhook_delay": 0.05,
    "webhook_drop": 0.05,
    "spared": PERSON["STRIPE_API_KEY"],
}
# What has failed waits longer each time, and the machine may be slow.
_PATIENCE_S = 300.0


@contextmanager
def misbehaving(world: World) -> Iterator[None]:
    """The local Stripe with each fault at 5 %, and beat in a hurry."""
    usual_s, world.patience_s = world.patience_s, _PATIENCE_S
    _tell(world, "POST", json.dumps(_FAULTS).encode())
    try:
        with Metronome(world):
            yield
    finally:
        world.patience_s = usual_s
        _tell(world, "DELETE", None)


def _tell(world: World, method: str, body: bytes | None) -> None:
    address = world.stack.urls["sandbox"] + "/_sandbox/faults"
    headers = {"Content-Type": "application/json"}
    urllib.request.urlopen(urllib.request.Request(address, body, headers, method=method)).close()
