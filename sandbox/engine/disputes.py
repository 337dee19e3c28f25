"""Disputes: a bank takes a payment back, and what becomes of it."""

from .. import Doc
from ..errors import invalid
from ..ids import new_id
from ..times import DAY
from ..world import World, clock_of

_EVIDENCE = (
    "access_activity_log",
    "billing_address",
    "cancellation_policy",
    "cancellation_policy_disclosure",
    "cancellation_rebuttal",
    "customer_communication",
    "customer_email_address",
    "customer_name",
    "customer_purchase_ip",
    "customer_signature",
    "duplicate_charge_documentation",
    "duplicate_charge_explanation",
    "duplicate_charge_id",
    "product_description",
    "receipt",
    "refund_policy",
    "refund_policy_disclosure",
    "refund_refusal_explanation",
    "service_date",
    "service_documentation",
    "shipping_address",
    "shipping_carrier",
    "shipping_date",
    "shipping_documentation",
    "shipping_tracking_number",
    "uncategorized_file",
    "uncategorized_text",
)


def open_dispute(world: World, charge: Doc) -> Doc:
    """The cardholder disputes a charge as fraudulent."""
    now = world.now_of(charge)
    details = {
        "due_by": now + 7 * DAY,
        "enhanced_eligibility": {},
        "has_evidence": False,
        "past_due": False,
        "submission_count": 0,
        "submission_method": "not_submitted",
    }
    card = {
        "brand": "visa",
        "case_type": "chargeback",
        "network": "visa",
        "network_reason_code": "10.4",
    }
    dispute = world.tx.add(
        {
            "id": new_id("dispute"),
            "object": "dispute",
            "amount": charge["amount"],
            "balance_transactions": [],
            "charge": charge["id"],
            "created": now,
            "currency": charge["currency"],
            "enhanced_eligibility_types": [],
            "evidence": dict.fromkeys(_EVIDENCE) | {"enhanced_evidence": {}},
            "evidence_details": details,
            "is_charge_refundable": False,
            "livemode": False,
            "metadata": {},
            "payment_intent": charge["payment_intent"],
            "payment_method_details": {"card": card, "type": "card"},
            "reason": "fraudulent",
            "status": "needs_response",
            "_clock": clock_of(charge),
            "_parent": charge["id"],
        }
    )
    charge["disputed"] = True
    world.emit("charge.dispute.created", dispute)
    return dispute


def close_dispute(world: World, dispute: Doc, status: str) -> None:
    """End a dispute as `won` or `lost`. Raises: ApiError 400 when it is over already."""
    if dispute["status"] not in {"needs_response", "under_review"}:
        raise invalid("This dispute is already closed.", code="status_transition_invalid")
    dispute["status"] = status
    world.emit("charge.dispute.closed", dispute)
