"""The envelope of a webhook."""

from gateway.errors import MalformedPayload, UnknownVersion
from gateway.translate.facts import EventEnvelope
from gateway.translate.shapes import Shape, inner, is_known_version, needed, needed_instant, reference, text


def event(payload: Shape) -> EventEnvelope:
    """What an event is about. Raises MalformedPayload, or UnknownVersion for shapes that we have not learnt.

    Any type is read, also one that nobody handles: storing it is the caller's promise to Stripe.
    """
    if payload.get("object") != "event":
        raise MalformedPayload("this is no snapshot event of Stripe", field="object")
    version = payload.get("api_version")
    if not is_known_version(version):
        raise UnknownVersion(version if isinstance(version, str) else None)
    about = inner(payload, "data", "object")
    if not about:
        raise MalformedPayload("the event carries no object", field="data.object")
    return EventEnvelope(
        id=needed(payload, "id"),
        type=needed(payload, "type"),
        api_version=str(version),
        livemode=bool(payload.get("livemode")),
        created_at=needed_instant(payload, "created"),
        object_id=text(about, "id"),
        object_type=str(needed(about, "object")),
        customer_id=_customer_id(payload, about),
        request_id=reference(payload.get("request")),
        raw_object=dict(about),
    )


def _customer_id(payload: Shape, about: Shape) -> str | None:
    if about.get("object") == "customer":
        return text(about, "id")
    # A detached payment method has lost its customer; what it was stands in the previous attributes.
    return reference(about.get("customer")) or reference(
        inner(payload, "data", "previous_attributes").get("customer")
    )
