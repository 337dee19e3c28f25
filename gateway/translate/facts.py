"""What we take from Stripe's objects: the same shapes whatever the API version of the payload.

Amounts are integers in minor units beside an upper-case `currency`; instants are aware and UTC; every
reference is an id. Secrets are kept out of `repr`: they are for the customer's browser only, never stored.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class SubscriptionItemFacts:
    """One price on a subscription, with the period that is running."""

    id: str
    price_id: str
    product_id: str | None
    quantity: int
    period_start_at: datetime
    period_end_at: datetime
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class SubscriptionFacts:
    """A subscription. `status` is Stripe's; `cancel_at` and `cancel_at_period_end` both mean "will end".

    `items_complete` is false when the payload holds the first page of items only. `collection_paused` says
    that a person wants its invoices kept from being collected (Stripe's `pause_collection`).
    """

    id: str
    customer_id: str
    status: str
    items: tuple[SubscriptionItemFacts, ...]
    trial_start_at: datetime | None
    trial_end_at: datetime | None
    cancel_at: datetime | None
    cancel_at_period_end: bool
    cancelled_at: datetime | None
    ended_at: datetime | None
    anchor_at: datetime
    latest_invoice_id: str | None
    default_payment_method_id: str | None
    discount_ids: tuple[str, ...]
    metadata: dict[str, str]
    test_clock_id: str | None
    pending_setup_intent_id: str | None = None
    items_complete: bool = True
    collection_paused: bool = False

    @property
    def period_start_at(self) -> datetime | None:
        """Start of the period that ends first; items may have different intervals. None without items."""
        item = min(self.items, key=lambda item: item.period_end_at, default=None)
        return item.period_start_at if item else None

    @property
    def period_end_at(self) -> datetime | None:
        """End of the period that ends first. None without items."""
        return min((item.period_end_at for item in self.items), default=None)


@dataclass(frozen=True, slots=True)
class InvoiceLineFacts:
    """One line of an invoice. `tax_minor` holds inclusive tax too."""

    id: str
    amount_minor: int
    description: str | None
    quantity: int | None
    period_start_at: datetime
    period_end_at: datetime
    price_id: str | None
    product_id: str | None
    subscription_item_id: str | None
    proration: bool
    discount_minor: int
    tax_minor: int
    metadata: dict[str, str]
    # The invoice item that the line was made of; a subscription's own lines have none.
    invoice_item_id: str | None = None


@dataclass(frozen=True, slots=True)
class ProrationFacts:
    """What Stripe credits or charges for a change in mid-period, waiting or on an invoice.

    `id` is of the invoice item, which it keeps when it moves from waiting to an invoice's line.
    """

    id: str
    subscription_item_id: str | None
    price_id: str | None
    product_id: str | None
    quantity: int
    amount_minor: int
    currency: str
    description: str | None
    period_start_at: datetime
    period_end_at: datetime


@dataclass(frozen=True, slots=True)
class InvoiceFacts:
    """An invoice. `total = subtotal - discount + tax - tax_included`; the last is the tax within prices.

    `period_*` of a cycle invoice is the period that closed; its lines carry their own. `lines_complete` is
    false when the payload holds the first page of lines only: fetch the invoice before trusting their sum.
    `credited_minor` is what credit notes have taken off, before and after payment.
    """

    id: str
    customer_id: str
    subscription_id: str | None
    status: str
    billing_reason: str | None
    auto_advance: bool
    currency: str
    subtotal_minor: int
    discount_minor: int
    tax_minor: int
    tax_included_minor: int
    total_minor: int
    amount_due_minor: int
    amount_paid_minor: int
    amount_remaining_minor: int
    starting_balance_minor: int
    credited_minor: int
    number: str | None
    hosted_invoice_url: str | None
    period_start_at: datetime
    period_end_at: datetime
    created_at: datetime
    finalized_at: datetime | None
    paid_at: datetime | None
    voided_at: datetime | None
    metadata: dict[str, str]
    subscription_metadata: dict[str, str]
    lines: tuple[InvoiceLineFacts, ...]
    lines_complete: bool
    confirmation_secret: str | None = field(repr=False)
    # Why Stripe could not finalize it the last time it tried.
    finalization_error: str | None = None
    # The rates that tax everything on it; none for a customer that was exempt when it was made.
    tax_rate_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CustomerFacts:
    """A customer. `balance_minor` below zero is credit that the next invoice uses up."""

    id: str
    email: str | None
    balance_minor: int
    currency: str | None
    default_payment_method_id: str | None
    metadata: dict[str, str]
    deleted: bool


@dataclass(frozen=True, slots=True)
class PaymentMethodFacts:
    """A payment method; the card's fields are None for other types. Detached ones have no customer."""

    id: str
    customer_id: str | None
    type: str
    brand: str | None
    last4: str | None
    exp_month: int | None
    exp_year: int | None


@dataclass(frozen=True, slots=True)
class PaymentFacts:
    """One payment of an invoice (Stripe's invoice_payment). `status` is open, paid or canceled."""

    id: str
    invoice_id: str
    payment_intent_id: str | None
    status: str
    amount_paid_minor: int
    amount_requested_minor: int
    currency: str


@dataclass(frozen=True, slots=True)
class DeclineFacts:
    """Stripe's words for why a payment failed."""

    code: str | None
    decline_code: str | None
    advice_code: str | None


@dataclass(frozen=True, slots=True)
class PaymentIntentFacts:
    """A payment as the bank saw it; `decline` is about the last attempt."""

    id: str
    status: str
    amount_minor: int
    currency: str
    customer_id: str | None
    payment_method_id: str | None
    latest_charge_id: str | None
    decline: DeclineFacts | None

    @property
    def requires_action(self) -> bool:
        """Whether the customer has to authenticate."""
        return self.status == "requires_action"


@dataclass(frozen=True, slots=True)
class SetupIntentFacts:
    """An attempt to save a payment method."""

    id: str
    status: str
    customer_id: str | None
    payment_method_id: str | None
    metadata: dict[str, str]
    client_secret: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class ChargeFacts:
    """One try at a card by a payment intent, and how much of it went back."""

    id: str
    payment_intent_id: str | None
    refunded_minor: int
    disputed: bool = False


@dataclass(frozen=True, slots=True)
class RefundFacts:
    """Money given back. `status` is pending, succeeded, failed, canceled or requires_action."""

    id: str
    payment_intent_id: str | None
    charge_id: str | None
    amount_minor: int
    currency: str
    status: str | None
    failure_reason: str | None
    metadata: dict[str, str]


@dataclass(frozen=True, slots=True)
class CreditNoteFacts:
    """A correction of an issued invoice. `status` is issued or void.

    The total went four ways, which add up to it: it reduces what is due (before payment), is refunded,
    becomes credit (the customer's balance), or is given back out of band.
    """

    id: str
    invoice_id: str
    customer_id: str
    number: str | None
    status: str
    type: str
    total_minor: int
    currency: str
    reduces_due_minor: int
    refund_minor: int
    credit_minor: int
    out_of_band_minor: int
    reason: str | None
    metadata: dict[str, str]


@dataclass(frozen=True, slots=True)
class DisputeFacts:
    """A customer's complaint at their bank about a charge."""

    id: str
    charge_id: str
    payment_intent_id: str | None
    amount_minor: int
    currency: str
    reason: str
    status: str


@dataclass(frozen=True, slots=True)
class TestClockFacts:
    """A clock of Stripe's test mode. `status` is ready, advancing or internal_failure."""

    # Its name begins like a test class's; pytest must not collect it.
    __test__ = False

    id: str
    status: str
    frozen_at: datetime


@dataclass(frozen=True, slots=True)
class EventEnvelope:
    """A webhook's outside: what happened to which object, never what the object is now.

    `customer_id` is of the object, or of the customer that it was just taken from. `raw_object` is in the
    shape of `api_version`; use it to know what to fetch, or for what can never change, and the fetched object
    for everything else.
    """

    id: str
    type: str
    api_version: str
    livemode: bool
    created_at: datetime
    object_id: str | None
    object_type: str
    customer_id: str | None
    request_id: str | None
    raw_object: dict[str, Any]
