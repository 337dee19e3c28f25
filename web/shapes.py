"""The JSON that goes out; the OpenAPI page is made from these types.

Amounts are integers in minor units beside a currency; unit prices and quantities are decimal strings.
"""

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from msgspec import UNSET, Struct, UnsetType


def plain(number: Decimal) -> str:
    """A decimal as people write it: no exponent, no trailing zeros."""
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


class FieldProblem(Struct, kw_only=True):
    """One field at fault; `index` is the event's place in its batch."""

    field: str
    message: str
    index: int | UnsetType = UNSET


class Problem(Struct, kw_only=True):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldProblem] | UnsetType = UNSET


class Received(Struct):
    received: bool


class AcceptedBatch(Struct):
    batch_id: UUID
    accepted: int


class BatchAccounts(Struct, kw_only=True):
    """accepted = rated + waiting + quarantined + duplicate, always; `reasons` counts the quarantined."""

    batch_id: UUID
    accepted: int
    rated: int
    waiting: int
    quarantined: int
    duplicate: int
    reasons: dict[str, int]


class Connection(Struct, kw_only=True):
    connected: bool
    account: str | None = None
    livemode: bool | None = None
    api_version: str | None = None
    latency_ms: int | None = None
    reason: str | None = None


class Product(Struct, kw_only=True):
    code: str
    name: str
    description: str
    icon: str
    color: str
    billing_type: str
    features: list[Any]


class Products(Struct):
    items: list[Product]
    next: str | None = None


class Price(Struct, kw_only=True):
    currency: str
    interval: str
    amount_minor: int


class UsageCharge(Struct, kw_only=True):
    """How a metric is charged: `terms` hold unit prices in minor units, as decimal strings.

    `filters` say which events count, by their properties. Where `terms` have `groups`, an event is
    charged by the terms of the first that it matches, and by those outside of them when none does.
    """

    metric: str
    name: str
    unit: str
    aggregation: str
    filters: dict[str, list[Any]]
    group_by: list[str]
    currency: str
    terms: dict[str, Any]


class Plan(Struct, kw_only=True):
    code: str
    name: str
    product: str
    tier: str
    version: int
    base_charge: str
    features: list[Any]
    limits: dict[str, Any]
    # What a checkout offers: TRIAL_PERIOD_DAYS, taken by `"trial": true`.
    trial_period_days: int
    prices: list[Price]
    usage: list[UsageCharge]


class Plans(Struct):
    items: list[Plan]
    next: str | None = None


class BundlePrice(Struct, kw_only=True):
    """`list_minor` is what the members cost one by one, at the listed quantities."""

    currency: str
    interval: str
    amount_minor: int
    list_minor: int
    saving_minor: int
    saving_percent: int


class BundleMember(Struct, kw_only=True):
    product: str
    plan: str
    name: str
    quantity: int


class Bundle(Struct, kw_only=True):
    code: str
    name: str
    description: str
    featured: bool
    trial_period_days: int
    members: list[BundleMember]
    prices: list[BundlePrice]


class Bundles(Struct):
    items: list[Bundle]
    next: str | None = None


class Organization(Struct, kw_only=True):
    id: UUID
    slug: str
    external_id: str | None
    name: str
    email: str
    currency: str
    address: dict[str, Any] | None
    tax_rate: str | None
    tax_exempt: str
    test_clock: UUID | None
    created_at: datetime


class Organizations(Struct):
    items: list[Organization]
    next: UUID | None = None


class Key(Struct, kw_only=True):
    """`key` is shown this once; a repeat of the request is answered with null in its place."""

    id: UUID
    kind: str
    name: str
    scopes: list[str]
    last_four: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    key: str | None | UnsetType = UNSET


class Keys(Struct, kw_only=True):
    """The keys as they are listed, without their texts."""

    items: list[Key]
    next: str | None = None


class SetupIntent(Struct, kw_only=True):
    id: str
    status: str
    client_secret: str | None


class PaymentMethod(Struct, kw_only=True):
    id: UUID
    stripe_id: str
    brand: str | None
    last_four: str | None
    exp_month: int | None
    exp_year: int | None
    is_default: bool


class PaymentMethods(Struct):
    items: list[PaymentMethod]
    next: str | None = None


class SubscriptionItem(Struct, kw_only=True):
    id: UUID
    product: str
    plan: str
    quantity: int
    amount_minor: int
    currency: str
    started_at: datetime
    ended_at: datetime | None


class Subscription(Struct, kw_only=True):
    """`client_secret` is there when the customer must act, such as authenticate a card."""

    id: UUID
    organization: UUID
    plan: str | None
    bundle: str | None
    status: str
    currency: str
    interval: str
    quantity: int
    discount_minor: int
    started_at: datetime
    trial_end_at: datetime | None
    current_period_start_at: datetime
    current_period_end_at: datetime
    cancel_at_period_end: bool
    cancelled_at: datetime | None
    ended_at: datetime | None
    items: list[SubscriptionItem]
    client_secret: str | None | UnsetType = UNSET


class Subscriptions(Struct):
    items: list[Subscription]
    next: UUID | None = None


class Invoice(Struct, kw_only=True):
    """total = subtotal - discount + tax - credit; due = total - reduced - paid,
    and nothing once it is void.

    `reduced_minor` is what credit notes took off before payment. Where prices contain the tax
    (`tax_inclusive`) the invoice's `tax_minor` is 0: the lines' say how much they contain.
    """

    id: UUID
    organization: UUID
    subscription: UUID
    number: str | None
    kind: str
    status: str
    currency: str
    subtotal_minor: int
    discount_minor: int
    tax_minor: int
    credit_minor: int
    total_minor: int
    paid_minor: int
    reduced_minor: int
    due_minor: int
    tax_name: str | None
    tax_percentage: str | None
    tax_inclusive: bool
    period_start_at: datetime
    period_end_at: datetime
    created_at: datetime
    finalized_at: datetime | None
    paid_at: datetime | None
    hosted_invoice_url: str | None


class Invoices(Struct):
    items: list[Invoice]
    next: UUID | None = None


class InvoiceLine(Struct, kw_only=True):
    id: UUID
    kind: str
    product: str
    metric: str | None
    description: str
    quantity: str
    unit_price: str | None
    currency: str
    amount_minor: int
    discount_minor: int
    tax_minor: int
    period_start_at: datetime
    period_end_at: datetime


class Payment(Struct, kw_only=True):
    id: UUID
    attempt: int
    status: str
    amount_minor: int
    currency: str
    decline_code: str | None
    attempted_at: datetime
    settled_at: datetime | None


class InvoicePreview(Struct, kw_only=True):
    """The coming invoice as it would be; nothing of it is written. `kind` is cycle, final or adjustment."""

    subscription: UUID
    kind: str
    currency: str
    subtotal_minor: int
    discount_minor: int
    tax_minor: int
    tax_name: str | None
    tax_percentage: str | None
    tax_inclusive: bool
    credit_minor: int
    total_minor: int
    period_start_at: datetime
    period_end_at: datetime
    lines: list[InvoiceLine]


class Access(Struct, kw_only=True):
    """access: full, grace, suspended or none; `until` ends a grace period."""

    access: str
    until: datetime | None
    features: Any
    limits: Any
    usage: dict[str, Any]


class TestClock(Struct, kw_only=True):
    """`target` is null again when the clock has arrived and everything due by then has been done."""

    id: UUID
    name: str
    at: datetime
    target: datetime | None
    last_error: str | None


class TestClocks(Struct):
    items: list[TestClock]
    next: UUID | None = None


class Health(Struct, kw_only=True):
    status: str
    database: str | UnsetType = UNSET
    work: str | UnsetType = UNSET


class Move(Struct, kw_only=True):
    """A subscription of a bulk move: its price of a period before and after, or why it stays."""

    organization: str
    subscription: UUID
    from_version: int
    currency: str | None
    interval: str | None
    old_minor: int
    new_minor: int
    refusal: str | None


class Moves(Struct, kw_only=True):
    """`begun` of the items are with the workers now; ask again to move who is left."""

    items: list[Move]
    begun: int
