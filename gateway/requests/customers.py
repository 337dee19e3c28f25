"""Requests about customers and their payment methods."""

from collections.abc import Mapping
from typing import Any

from gateway.requests.request import Request, as_metadata, given


def create_customer(
    organization_id: str,
    name: str,
    email: str,
    test_clock: str | None = None,
    *,
    tax_exempt: str | None = None,
    address: Mapping[str, str] | None = None,
) -> Request:
    """A customer for an organization, whose id stands in the metadata so that a lost reply can be found.

    `tax_exempt` is "none", "exempt" or "reverse"; `address` has line1, city, country, postal_code and so on.
    """
    return Request(
        "create_customer",
        params=given(
            name=name,
            email=email,
            metadata={"organization_id": str(organization_id)},
            test_clock=test_clock,
            tax_exempt=tax_exempt,
            address=dict(address) if address else None,
        ),
    )


def update_customer(customer_id: str, **changes: Any) -> Request:
    """Change the named fields of a customer; None leaves a field as it is, "" clears it."""
    return Request("update_customer", customer_id, given(**changes))


def create_balance_transaction(
    customer_id: str,
    amount_minor: int,
    currency: str,
    *,
    description: str | None = None,
    metadata: Mapping[str, object] | None = None,
) -> Request:
    """Move a customer's balance: below zero is credit, which the next invoice to be finalized uses up."""
    return Request(
        "create_balance_transaction",
        customer_id,
        given(
            amount=amount_minor,
            currency=currency.lower(),
            description=description[:350] if description else None,
            metadata=as_metadata(metadata),
        ),
    )


def set_default_payment_method(customer_id: str, payment_method_id: str) -> Request:
    """Make a payment method the one that invoices are collected with; attaching alone does not."""
    return update_customer(customer_id, invoice_settings={"default_payment_method": payment_method_id})


def create_setup_intent(customer_id: str, metadata: Mapping[str, object] | None = None) -> Request:
    """Ask a customer for a payment method that can be charged later without them.

    No redirects: the card forms of the portal stay on their page.
    """
    return Request(
        "create_setup_intent",
        params=given(
            customer=customer_id,
            usage="off_session",
            automatic_payment_methods={"enabled": True, "allow_redirects": "never"},
            metadata=as_metadata(metadata),
        ),
    )


def confirm_setup_intent(setup_intent_id: str, payment_method_id: str) -> Request:
    """Save `payment_method_id` through a setup intent: what the browser does in production."""
    return Request("confirm_setup_intent", setup_intent_id, {"payment_method": payment_method_id})


def attach_payment_method(payment_method_id: str, customer_id: str) -> Request:
    """Give a payment method to a customer; it is not their default by that."""
    return Request("attach_payment_method", payment_method_id, {"customer": customer_id})


def detach_payment_method(payment_method_id: str) -> Request:
    """Take a payment method away from its customer, for ever: it cannot be attached again."""
    return Request("detach_payment_method", payment_method_id)
