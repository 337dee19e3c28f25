"""What only people ask of Stripe, in its dashboard: for tests and `dunlin trigger`, never for billing."""

from gateway.requests.request import Request


def delete_customer(customer_id: str) -> Request:
    """Take a customer away for ever; its subscriptions end at once."""
    return Request("delete_customer", customer_id)


def pause_collection(subscription_id: str) -> Request:
    """Have a subscription's invoices made, and left as drafts."""
    return Request(
        "update_subscription", subscription_id, {"pause_collection": {"behavior": "keep_as_draft"}}
    )


def cancel_with_credit(subscription_id: str) -> Request:
    """End a subscription now; its unused time waits as a credit for an invoice."""
    return Request("cancel_subscription", subscription_id, {"invoice_now": False, "prorate": True})


def close_dispute(dispute_id: str) -> Request:
    """Accept a dispute: it is lost."""
    return Request("close_dispute", dispute_id)


def void_credit_note(credit_note_id: str) -> Request:
    """Take back the credit note of an open invoice."""
    return Request("void_credit_note", credit_note_id)
