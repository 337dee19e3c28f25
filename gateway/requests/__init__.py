"""Pure builders of every request that Dunlin sends to Stripe.

Amounts are in minor units, instants in Unix seconds. Nothing here calls anything: a Request is stored in a
row, with its idempotency key, before StripeGateway.send.
"""

from gateway.requests.account import (
    advance_test_clock,
    create_test_clock,
    create_webhook_endpoint,
    delete_test_clock,
)
from gateway.requests.catalog import (
    archive_price,
    archive_product,
    archive_tax_rate,
    create_coupon,
    create_price,
    create_product,
    create_tax_rate,
    update_product,
)
from gateway.requests.customers import (
    attach_payment_method,
    confirm_setup_intent,
    create_balance_transaction,
    create_customer,
    create_setup_intent,
    detach_payment_method,
    set_default_payment_method,
    update_customer,
)
from gateway.requests.dashboard import close_dispute, delete_customer, void_credit_note
from gateway.requests.invoices import (
    OWNER,
    Line,
    add_lines,
    create_credit_note,
    create_invoice,
    create_refund,
    delete_invoice,
    finalize_invoice,
    mark_uncollectible,
    pay_invoice,
    pay_invoice_out_of_band,
    stop_collection,
    take_over_invoice,
    void_invoice,
)
from gateway.requests.request import Request
from gateway.requests.subscriptions import (
    SUBSCRIPTION_EXPANSIONS,
    Item,
    cancel_subscription,
    create_subscription,
    pause_subscription,
    preview_change,
    resume_subscription,
    update_subscription,
)

__all__ = [
    "OWNER",
    "SUBSCRIPTION_EXPANSIONS",
    "Item",
    "Line",
    "Request",
    "add_lines",
    "advance_test_clock",
    "archive_price",
    "archive_product",
    "archive_tax_rate",
    "attach_payment_method",
    "cancel_subscription",
    "close_dispute",
    "confirm_setup_intent",
    "create_balance_transaction",
    "create_coupon",
    "create_credit_note",
    "create_customer",
    "create_invoice",
    "create_price",
    "create_product",
    "create_refund",
    "create_setup_intent",
    "create_subscription",
    "create_tax_rate",
    "create_test_clock",
    "create_webhook_endpoint",
    "delete_customer",
    "delete_invoice",
    "delete_test_clock",
    "detach_payment_method",
    "finalize_invoice",
    "mark_uncollectible",
    "pause_subscription",
    "pay_invoice",
    "pay_invoice_out_of_band",
    "preview_change",
    "resume_subscription",
    "set_default_payment_method",
    "stop_collection",
    "take_over_invoice",
    "update_customer",
    "update_product",
    "update_subscription",
    "void_credit_note",
    "void_invoice",
]
