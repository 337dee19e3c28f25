"""Events, kept for replay."""

from .. import Doc
from ..errors import malformed
from ..forms import BOOL, STR
from ..routing import CREATED, LISTING, Call, Page, api

_COMPARISONS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_MAX_TYPES = 20


@api.on("GET", "/v1/events/{id}")
def retrieve_event(call: Call) -> Doc:
    return call.world.tx.get("event", call.ids[0])


@api.on(
    "GET",
    "/v1/events",
    {**LISTING, "created": CREATED, "delivery_success": BOOL, "type": STR, "types": [STR]},
)
def list_events(call: Call) -> Page:
    """Newest first, also those of test clocks. `delivery_success` false: an endpoint has not said 2xx."""
    params = call.params
    where, values = ["kind = 'event'"], list[object]()
    types = params.get("types") or ([params["type"]] if params.get("type") else [])
    if len(types) > _MAX_TYPES:
        raise malformed(f"You may pass up to {_MAX_TYPES} event types.", param="types")
    if types:
        where.append("(" + " OR ".join("json_extract(doc, '$.type') GLOB ?" for _ in types) + ")")
        values += types
    for word, at in (params.get("created") or {}).items():
        where.append(f"json_extract(doc, '$.created') {_COMPARISONS[word]} ?")
        values.append(at)
    if "delivery_success" in params:
        failed = "EXISTS (SELECT 1 FROM deliveries d WHERE d.event = objects.id AND d.state != 'delivered')"
        where.append(f"NOT {failed}" if params["delivery_success"] else failed)
    return Page("/v1/events", " AND ".join(where), values)
