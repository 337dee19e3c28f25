"""Which HTTP call each operation is: one page, so that a reader and the contract tests see all of it.

Calls go through the SDK's generic request instead of its 200 service methods: the name of an operation
is stored in a row before the call, and a stored name must find its route without a switch per name.
"""

import re
from dataclasses import dataclass

# Stripe's own ids, and the ones that we may choose (coupons); nothing that could lead to another path.
_ID = re.compile(r"[A-Za-z0-9_-]{1,255}")


@dataclass(frozen=True, slots=True)
class Route:
    """An HTTP method and a path; `{id}` stands for the id of the object acted upon."""

    method: str
    path: str

    def url(self, object_id: str | None) -> str:
        """The path with `object_id` in its place. Raises ValueError for an id that is missing or unsafe."""
        if "{id}" not in self.path:
            return self.path
        if not object_id or not _ID.fullmatch(object_id):
            raise ValueError(f"{self.path} needs an id of letters, digits, _ and -, got {object_id!r}")
        return self.path.replace("{id}", object_id)


OPERATIONS: dict[str, Route] = {
    "create_customer": Route("post", "/v1/customers"),
    "update_customer": Route("post", "/v1/customers/{id}"),
    "delete_customer": Route("delete", "/v1/customers/{id}"),
    "create_balance_transaction": Route("post", "/v1/customers/{id}/balance_transactions"),
    "create_product": Route("post", "/v1/products"),
    "update_product": Route("post", "/v1/products/{id}"),
    "create_price": Route("post", "/v1/prices"),
    "update_price": Route("post", "/v1/prices/{id}"),
    "create_coupon": Route("post", "/v1/coupons"),
    "create_tax_rate": Route("post", "/v1/tax_rates"),
    "update_tax_rate": Route("post", "/v1/tax_rates/{id}"),
    "create_setup_intent": Route("post", "/v1/setup_intents"),
    "confirm_setup_intent": Route("post", "/v1/setup_intents/{id}/confirm"),
    "attach_payment_method": Route("post", "/v1/payment_methods/{id}/attach"),
    "detach_payment_method": Route("post", "/v1/payment_methods/{id}/detach"),
    "create_subscription": Route("post", "/v1/subscriptions"),
    "update_subscription": Route("post", "/v1/subscriptions/{id}"),
    "cancel_subscription": Route("delete", "/v1/subscriptions/{id}"),
    "pause_subscription": Route("post", "/v1/subscriptions/{id}/pause"),
    "resume_subscription": Route("post", "/v1/subscriptions/{id}/resume"),
    "create_invoice": Route("post", "/v1/invoices"),
    "update_invoice": Route("post", "/v1/invoices/{id}"),
    "preview_invoice": Route("post", "/v1/invoices/create_preview"),
    "add_lines": Route("post", "/v1/invoices/{id}/add_lines"),
    "finalize_invoice": Route("post", "/v1/invoices/{id}/finalize"),
    "pay_invoice": Route("post", "/v1/invoices/{id}/pay"),
    "void_invoice": Route("post", "/v1/invoices/{id}/void"),
    "mark_uncollectible": Route("post", "/v1/invoices/{id}/mark_uncollectible"),
    "delete_invoice": Route("delete", "/v1/invoices/{id}"),
    "create_credit_note": Route("post", "/v1/credit_notes"),
    "void_credit_note": Route("post", "/v1/credit_notes/{id}/void"),
    "create_refund": Route("post", "/v1/refunds"),
    "close_dispute": Route("post", "/v1/disputes/{id}/close"),
    "create_test_clock": Route("post", "/v1/test_helpers/test_clocks"),
    "advance_test_clock": Route("post", "/v1/test_helpers/test_clocks/{id}/advance"),
    "delete_test_clock": Route("delete", "/v1/test_helpers/test_clocks/{id}"),
    "create_webhook_endpoint": Route("post", "/v1/webhook_endpoints"),
}

_COLLECTIONS: dict[str, str] = {
    "charge": "/v1/charges",
    "coupon": "/v1/coupons",
    "credit_note": "/v1/credit_notes",
    "customer": "/v1/customers",
    "dispute": "/v1/disputes",
    "event": "/v1/events",
    "invoice": "/v1/invoices",
    "invoice_item": "/v1/invoiceitems",
    "invoice_payment": "/v1/invoice_payments",
    "payment_intent": "/v1/payment_intents",
    "payment_method": "/v1/payment_methods",
    "price": "/v1/prices",
    "product": "/v1/products",
    "refund": "/v1/refunds",
    "setup_intent": "/v1/setup_intents",
    "subscription": "/v1/subscriptions",
    "subscription_item": "/v1/subscription_items",
    "tax_rate": "/v1/tax_rates",
    "test_clock": "/v1/test_helpers/test_clocks",
    "webhook_endpoint": "/v1/webhook_endpoints",
}

FETCHES: dict[str, Route] = {kind: Route("get", path + "/{id}") for kind, path in _COLLECTIONS.items()}
FETCHES["account"] = Route("get", "/v1/account")

LISTS: dict[str, Route] = {kind: Route("get", path) for kind, path in _COLLECTIONS.items()}

# Lists that live under a parent: the key names the parameter that carries the parent's id.
NESTED_LISTS: dict[str, tuple[str, Route]] = {
    "customer_payment_method": ("customer", Route("get", "/v1/customers/{id}/payment_methods")),
    "customer_balance_transaction": ("customer", Route("get", "/v1/customers/{id}/balance_transactions")),
    "invoice_line": ("invoice", Route("get", "/v1/invoices/{id}/lines")),
}
