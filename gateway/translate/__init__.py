"""Stripe's JSON, of any API version from 2024 on, as frozen facts of one shape.

Every function takes a plain dict and raises MalformedPayload for one that lacks what all versions have.
"""

from gateway.errors import MalformedPayload, UnknownVersion
from gateway.translate.events import event
from gateway.translate.facts import (
    ChargeFacts,
    CreditNoteFacts,
    CustomerFacts,
    DeclineFacts,
    DisputeFacts,
    EventEnvelope,
    InvoiceFacts,
    InvoiceLineFacts,
    PaymentFacts,
    PaymentIntentFacts,
    PaymentMethodFacts,
    ProrationFacts,
    RefundFacts,
    SetupIntentFacts,
    SubscriptionFacts,
    SubscriptionItemFacts,
    TestClockFacts,
)
from gateway.translate.invoices import (
    invoice,
    invoice_line,
    payment,
    payments_of,
    prorations_of,
    waiting_proration,
)
from gateway.translate.payments import (
    charge,
    credit_note,
    dispute,
    payment_intent,
    refund,
    setup_intent,
    test_clock,
)
from gateway.translate.shapes import is_known_version, reference
from gateway.translate.subscriptions import (
    customer,
    discounts,
    payment_method,
    subscription,
    subscription_item,
)

__all__ = [
    "ChargeFacts",
    "CreditNoteFacts",
    "CustomerFacts",
    "DeclineFacts",
    "DisputeFacts",
    "EventEnvelope",
    "InvoiceFacts",
    "InvoiceLineFacts",
    "MalformedPayload",
    "PaymentFacts",
    "PaymentIntentFacts",
    "PaymentMethodFacts",
    "ProrationFacts",
    "RefundFacts",
    "SetupIntentFacts",
    "SubscriptionFacts",
    "SubscriptionItemFacts",
    "TestClockFacts",
    "UnknownVersion",
    "charge",
    "credit_note",
    "customer",
    "discounts",
    "dispute",
    "event",
    "invoice",
    "invoice_line",
    "is_known_version",
    "payment",
    "payment_intent",
    "payment_method",
    "payments_of",
    "prorations_of",
    "reference",
    "refund",
    "setup_intent",
    "subscription",
    "subscription_item",
    "test_clock",
    "waiting_proration",
]
