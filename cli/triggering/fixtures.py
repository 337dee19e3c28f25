"""An event as Stripe would send it, in any API version that we know, about an object that is there.

For what the local Stripe never does by itself, and for the shapes of older versions. The object is the
organization's newest of its kind, so that what the event makes us fetch exists.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

from billing.errors import InvalidTerms, NotFound
from cli.triggering.scenes import SCENES, Stage
from gateway import webhooks
from models.base import new_id
from tasks.webhooks import accept_event

Shape = dict[str, Any]
CURRENT = "2026-10-28.endive"
_BEFORE_BASIL = ("2024-", "2025-01", "2025-02")


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


def post_fixture(stage: Stage, event_type: str, api_version: str) -> str:
    """Sign and hand an event of `api_version` to our own door. Returns its id.

    Raises: NotFound for a type that has no object here; InvalidTerms when no signing secret is set.
    """
    secrets = stage.context.settings.stripe_webhook_secrets
    if not secrets:
        raise InvalidTerms("is not set: nothing can be signed", field="STRIPE_WEBHOOK_SECRET")
    now = stage.context.wall()
    payload = event(event_type, api_version, _subject(stage, event_type), now)
    raw = json.dumps(payload).encode()
    accept_event(stage.context, raw, webhooks.sign(raw, secrets[0], now))
    return str(payload["id"])


def event(event_type: str, api_version: str, about: Shape, now: datetime) -> Shape:
    """The envelope around an object in the shape of `api_version`."""
    return {
        "id": f"evt_fixture_{new_id().hex}",
        "object": "event",
        "api_version": api_version,
        "created": int(now.timestamp()),
        "livemode": False,
        "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": None},
        "type": event_type,
        "data": {"object": aged(about, api_version)},
    }


def aged(about: Shape, api_version: str) -> Shape:
    """A current object as `api_version` showed it, as far as basil moved what an event is read for."""
    if not api_version.startswith(_BEFORE_BASIL):
        return about
    old = dict(about)
    if about["object"] == "invoice":
        details = (old.pop("parent", None) or {}).get("subscription_details") or {}
        old["subscription"] = details.get("subscription")
        old["paid"] = about.get("status") == "paid"
    if about["object"] == "subscription":
        items = [dict(item) for item in about["items"]["data"]]
        for name in ("current_period_start", "current_period_end"):
            old[name] = next((item[name] for item in items), None)
        old["items"] = {**about["items"], "data": [_without_period(item) for item in items]}
    return old


def _without_period(item: Shape) -> Shape:
    return {name: value for name, value in item.items() if not name.startswith("current_period_")}


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
