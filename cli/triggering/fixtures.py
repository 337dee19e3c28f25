"""An event as Stripe would send it, in any API version that we know, about an object that is there.

For what the local Stripe never does by itself, and for the shapes of older versions. The object is the
organization's newest of its kind, so that what the event makes us fetch exists. It goes the whole way:
an HTTP POST with a signature, to the web process that runs.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime

from billing.errors import BillingError, InvalidTerms, NotFound
from cli.local.http import post_json
from cli.triggering.aging import Links, Shape, aged
from cli.triggering.scenes import SCENES, Stage
from gateway import webhooks
from gateway.translate.shapes import is_known_version
from models.base import new_id

CURRENT = "2026-10-28.endive"
_PATH = "/api/subscriptions/webhooks/stripe/"


class NotTaken(BillingError):
    """The event was made and signed, and nobody took it."""

    code = "not_taken"


def _listed(kind: str) -> Callable[[Stage], Iterator[Shape]]:
    return lambda stage: stage.context.gateway.list(kind, {"customer": stage.customer_id})


def _of_payments(kind: str) -> Callable[[Stage], Iterator[Shape]]:
    def find(stage: Stage) -> Iterator[Shape]:
        for charge in stage.context.gateway.list("charge", {"customer": stage.customer_id}):
            yield from stage.context.gateway.list(kind, {"payment_intent": charge["payment_intent"]})

    return find


def _subscriptions(stage: Stage) -> Iterator[Shape]:
    return stage.context.gateway.list("subscription", {"customer": stage.customer_id, "status": "all"})


# Where the object of an event is found, and the scene that makes one: the longest prefix that fits.
_SUBJECTS: Mapping[str, tuple[Callable[[Stage], Iterator[Shape]], str]] = {
    "charge.dispute.": (_of_payments("dispute"), "charge.dispute.created"),
    "charge.": (_listed("charge"), "charge.refunded"),
    "credit_note.": (_listed("credit_note"), "credit_note.created"),
    "customer.subscription.": (_subscriptions, "customer.subscription.created"),
    "customer.": (
        lambda stage: iter([stage.context.gateway.fetch("customer", stage.customer_id)]),
        "customer.updated",
    ),
    "invoice.": (_listed("invoice"), "invoice.paid"),
    "payment_method.": (_listed("customer_payment_method"), "payment_method.attached"),
    "refund.": (_of_payments("refund"), "refund.created"),
    "setup_intent.": (_listed("setup_intent"), "setup_intent.succeeded"),
}


def post_fixture(stage: Stage, event_type: str, api_version: str, base_url: str | None = None) -> str:
    """Sign an event of `api_version` and POST it to the web process, as Stripe does. Returns its id.

    `base_url` is PUBLIC_URL if not given. Raises: NotFound for a type that has no object here; InvalidTerms
    when no signing secret is set; NotTaken when nothing answers there, or not with a 2xx.
    """
    if not is_known_version(api_version):
        raise InvalidTerms("is not a version whose shapes are known, such as 2024-06-20", field="api_version")
    secrets = stage.context.settings.stripe_webhook_secrets
    if not secrets:
        raise InvalidTerms("is not set: nothing can be signed", field="STRIPE_WEBHOOK_SECRET")
    now = stage.context.wall()
    about = _subject(stage, event_type)
    payload = event(event_type, api_version, aged(about, api_version, _links(stage, about)), now)
    raw = json.dumps(payload).encode()
    signature = webhooks.sign(raw, secrets[0], now)
    url = (base_url or stage.context.settings.public_url).rstrip("/") + _PATH
    refusal = post_json(url, raw, {"Stripe-Signature": signature})
    if refusal is not None:
        raise NotTaken(
            f"{url} did not take the event: {refusal}. Does the web process run there (`dunlin up`)?"
        )
    return str(payload["id"])


def event(event_type: str, api_version: str, about: Shape, now: datetime) -> Shape:
    """The envelope around an object that has the shape of `api_version`."""
    return {
        "id": f"evt_fixture_{new_id().hex}",
        "object": "event",
        "api_version": api_version,
        "created": int(now.timestamp()),
        "livemode": False,
        "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": None},
        "type": event_type,
        "data": {"object": about},
    }


def _links(stage: Stage, about: Shape) -> Links:
    """The invoice, intent and charge that belong together, which old versions named."""
    if about["object"] not in ("invoice", "charge", "payment_intent"):
        return Links()
    gateway = stage.context.gateway
    if about["object"] == "invoice":
        paid = next(gateway.list("invoice_payment", {"invoice": about["id"]}), None)
        intent_id = (paid or {}).get("payment", {}).get("payment_intent")
        intent = gateway.fetch("payment_intent", intent_id) if intent_id else {}
        return Links(about["id"], intent_id, intent.get("latest_charge"))
    intent_id = about["id"] if about["object"] == "payment_intent" else about.get("payment_intent")
    if intent_id is None:
        return Links(charge=about["id"])
    of_intent = {"payment[type]": "payment_intent", "payment[payment_intent]": intent_id}
    paid = next(gateway.list("invoice_payment", of_intent), None)
    return Links((paid or {}).get("invoice"), intent_id, about["id"])


def _subject(stage: Stage, event_type: str) -> Shape:
    """The organization's newest object that such an event is about; made by a scene when there is none."""
    prefix = max((each for each in _SUBJECTS if event_type.startswith(each)), key=len, default=None)
    if prefix is None:
        raise NotFound(f"{event_type} is no event that is read here")
    find, scene = _SUBJECTS[prefix]
    found = next(find(stage), None)
    if found is None:
        SCENES[scene](stage)
        found = next(find(stage), None)
    if found is None:
        raise NotFound(f"there is nothing that {event_type} could be about")
    return found
