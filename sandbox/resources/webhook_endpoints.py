"""Webhook endpoints: where events go."""

from .. import API_VERSION, Doc
from ..errors import invalid, malformed
from ..forms import BOOL, HASH, STR, Shape
from ..ids import new_id, random_token
from ..pagination import page_of
from ..routing import LISTING, Call, Page, api
from ..world import World
from .common import deleted, require, update_plain

_ENDPOINT: dict[str, Shape] = {"description": STR, "enabled_events": [STR], "metadata": HASH, "url": STR}


@api.on("POST", "/v1/webhook_endpoints", {**_ENDPOINT, "api_version": STR, "connect": BOOL})
def create_webhook_endpoint(call: Call) -> tuple[Doc, list[Doc]]:
    """The only reply that shows the secret."""
    require(call.params, "url", "enabled_events")
    if call.params.get("api_version") not in {None, API_VERSION}:
        raise invalid(f"The sandbox sends events in {API_VERSION} only.", param="api_version")
    _check_url(call.params["url"])
    endpoint = add_endpoint(call.world, call.params["url"], call.params["enabled_events"])
    endpoint["api_version"] = call.params.get("api_version")
    update_plain(endpoint, call.params, ["description"])
    shown = {key: value for key, value in endpoint.items() if not key.startswith("_")}
    return shown | {"secret": endpoint["_secret"]}, []


def add_endpoint(world: World, url: str, events: list[str], secret: str | None = None) -> Doc:
    """Store an endpoint with a fresh secret, or the given one."""
    return world.tx.add(
        {
            "id": new_id("webhook_endpoint"),
            "object": "webhook_endpoint",
            "api_version": API_VERSION,
            "application": None,
            "created": world.wall(),
            "description": None,
            "enabled_events": events,
            "livemode": False,
            "metadata": {},
            "status": "enabled",
            "url": url,
            "_secret": secret or f"whsec_{random_token(32)}",
        }
    )


def _check_url(url: str) -> None:
    if not url.startswith(("http://", "https://")):
        raise malformed("Invalid URL: An explicit scheme (such as https) must be provided.", param="url")


@api.on("GET", "/v1/webhook_endpoints/{id}")
def retrieve_webhook_endpoint(call: Call) -> Doc:
    return call.world.tx.get("webhook_endpoint", call.ids[0])


@api.on("POST", "/v1/webhook_endpoints/{id}", {**_ENDPOINT, "disabled": BOOL})
def update_webhook_endpoint(call: Call) -> Doc:
    endpoint = call.world.tx.get("webhook_endpoint", call.ids[0])
    if call.params.get("url"):
        _check_url(call.params["url"])
    update_plain(endpoint, call.params, ("description", "enabled_events", "url"))
    if "disabled" in call.params:
        endpoint["status"] = "disabled" if call.params["disabled"] else "enabled"
    return endpoint


@api.on("DELETE", "/v1/webhook_endpoints/{id}")
def delete_webhook_endpoint(call: Call) -> Doc:
    endpoint = call.world.tx.get("webhook_endpoint", call.ids[0])
    call.world.tx.remove(endpoint)
    call.world.tx.execute(
        "DELETE FROM deliveries WHERE endpoint = ? AND state != 'delivered'", (endpoint["id"],)
    )
    return deleted(endpoint)


@api.on("GET", "/v1/webhook_endpoints", LISTING)
def list_webhook_endpoints(call: Call) -> Page:
    return page_of(call, "webhook_endpoint", "/v1/webhook_endpoints")
