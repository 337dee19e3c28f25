"""What only people ask of Stripe, in its dashboard: for tests and `dunlin trigger`, never for billing."""

from gateway.requests.request import Request


def delete_customer(customer_id: str) -> Request:
    """Take a customer away for ever; its subscriptions end at once."""
    return Request("delete_customer", customer_id)


def close_dispute(dispute_id: str) -> Request:
    """Accept a dispute: it is lost."""
    return Request("close_dispute", dispute_id)


def void_credit_note(credit_note_id: str) -> Request:
    """Take back the credit note of an open invoice."""
    return Request("void_credit_note", credit_note_id)
