"""Test clocks: time for a few customers, moved by hand."""

from .. import Doc
from ..engine.clock import start_advance
from ..errors import malformed
from ..forms import INT, STR
from ..ids import new_id
from ..pagination import page_of
from ..routing import LISTING, Call, Page, api
from ..times import DAY
from .common import deleted, require

_KIND = "test_helpers.test_clock"
_URL = "/v1/test_helpers/test_clocks"
_OWNED = [
    "customer",
    "subscription",
    "subscription_item",
    "invoice",
    "invoiceitem",
    "invoice_payment",
    "payment_intent",
    "charge",
    "refund",
    "dispute",
    "credit_note",
    "payment_method",
    "setup_intent",
    "setup_attempt",
    "discount",
    "customer_balance_transaction",
    "checkout.session",
    "billing_portal.session",
]


@api.on("POST", _URL, {"frozen_time": INT, "name": STR})
def create_test_clock(call: Call) -> Doc:
    require(call.params, "frozen_time")
    if call.params["frozen_time"] < 0:
        raise malformed("Invalid timestamp: must be a positive integer", param="frozen_time")
    now = call.world.wall()
    clock: Doc = {
        "id": new_id(_KIND),
        "object": _KIND,
        "created": now,
        "deletes_after": now + 30 * DAY,
        "frozen_time": call.params["frozen_time"],
        "livemode": False,
        "name": call.params.get("name"),
        "status": "ready",
        "status_details": {},
        "_now": call.params["frozen_time"],
    }
    call.world.tx.add(clock)
    call.world.emit("test_helpers.test_clock.created", clock)
    return clock


@api.on("GET", _URL + "/{id}")
def retrieve_test_clock(call: Call) -> Doc:
    return call.world.tx.get(_KIND, call.ids[0])


@api.on("GET", _URL, LISTING)
def list_test_clocks(call: Call) -> Page:
    return page_of(call, _KIND, _URL)


@api.on("DELETE", _URL + "/{id}")
def delete_test_clock(call: Call) -> Doc:
    """Deletes the clock's customers and all that is theirs; the events stay."""
    tx = call.world.tx
    clock = tx.get(_KIND, call.ids[0])
    for kind in _OWNED:
        for doc in tx.select(kind, clock=clock["id"]):
            tx.remove(doc)
    tx.clear_timers(clock["id"])
    call.world.emit("test_helpers.test_clock.deleted", clock)
    tx.remove(clock)
    return deleted(clock)


@api.on("POST", _URL + "/{id}/advance", {"frozen_time": INT})
def advance_test_clock(call: Call) -> Doc:
    """Answers `advancing` at once; the clock's own thread lives through the time."""
    require(call.params, "frozen_time")
    clock = call.world.tx.get(_KIND, call.ids[0])
    start_advance(call.world, clock, call.params["frozen_time"])
    return clock
