"""Proof that Stripe sent a webhook, and the list of what we ask Stripe to send."""

import re
from collections.abc import Sequence
from datetime import datetime

import stripe

from gateway.errors import InvalidSignature

# The smallest set that tells us everything. Not in it, on purpose: invoice.payment_succeeded and
# charge.succeeded say what invoice.paid says, and two words for one fact race each other.
HANDLED_EVENTS: tuple[str, ...] = (
    "charge.dispute.closed",
    "charge.dispute.created",
    "charge.dispute.updated",
    "charge.refunded",
    "credit_note.created",
    "credit_note.updated",
    "credit_note.voided",
    "customer.deleted",
    "customer.subscription.created",
    "customer.subscription.deleted",
    "customer.subscription.paused",
    "customer.subscription.resumed",
    "customer.subscription.trial_will_end",
    "customer.subscription.updated",
    "customer.updated",
    "invoice.created",
    "invoice.deleted",
    "invoice.finalization_failed",
    "invoice.finalized",
    "invoice.marked_uncollectible",
    "invoice.paid",
    "invoice.payment_action_required",
    "invoice.payment_failed",
    "invoice.updated",
    "invoice.voided",
    "payment_method.attached",
    "payment_method.automatically_updated",
    "payment_method.detached",
    "refund.created",
    "refund.failed",
    "refund.updated",
    "setup_intent.succeeded",
)

_SIGNED_AT = re.compile(r"(?:^|,)\s*t=(\d{1,12})(?:,|$)")


def verify(
    payload: bytes, header: str, secrets: Sequence[str], now: datetime, tolerance_s: int = 300
) -> None:
    """Return if `payload` was signed with one of `secrets` within `tolerance_s` of `now`, either way.

    `header` is Stripe-Signature as received; several secrets serve while one is being replaced.
    Raises InvalidSignature for everything else. The SDK checks the HMAC; the time is checked here, since
    the SDK lets signatures of the future pass and reads the wall clock itself.
    """
    usable = [secret for secret in secrets if secret.strip()]
    if not usable:
        raise InvalidSignature("no signing secret is configured")
    instants = _SIGNED_AT.findall(header or "")
    if len(instants) != 1:
        raise InvalidSignature("the signature header does not say once when it was made")
    if abs(int(now.timestamp()) - int(instants[0])) > tolerance_s:
        raise InvalidSignature("the signature is too old, or from the future")
    if not any(_signed(payload, header, secret) for secret in usable):
        raise InvalidSignature("no signature matches")


def sign(payload: bytes, secret: str, now: datetime) -> str:
    """The Stripe-Signature header that Stripe would send with `payload` at `now`."""
    header: str = stripe.WebhookSignature.generate_signature_header(
        payload.decode(), secret, int(now.timestamp())
    )
    return header


def _signed(payload: bytes, header: str, secret: str) -> bool:
    try:
        return bool(stripe.WebhookSignature.verify_header(payload, header, secret))
    except Exception:  # noqa: BLE001
        # Whatever a hostile header or body makes the SDK raise, it is not a proof.
        return False
