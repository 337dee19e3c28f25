"""The JSON that comes in; the OpenAPI page is made from these types."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType

Name = Annotated[str, Meta(min_length=1, max_length=200)]
Reference = Annotated[str, Meta(min_length=1, max_length=255)]
CurrencyCode = Annotated[str, Meta(pattern="^[A-Z]{3}$")]
Instant = Annotated[datetime, Meta(tz=True)]
StripeId = Annotated[str, Meta(pattern="^[A-Za-z0-9_]{3,255}$")]
# Longer than any number that is meant; Python reads no more than 4,300 digits.
DecimalText = Annotated[str, Meta(pattern=r"^-?[0-9]+(\.[0-9]+)?$", max_length=60)]
Exemption = Literal["none", "exempt", "reverse"]


class Body(Struct, forbid_unknown_fields=True, kw_only=True):
    """A request body: a field that is not known is refused, since it would be ignored otherwise."""


class Address(Body):
    """A postal address, as Stripe knows it."""

    line1: Name | None = None
    line2: Name | None = None
    city: Name | None = None
    state: Name | None = None
    postal_code: Annotated[str, Meta(max_length=20)] | None = None
    country: Annotated[str, Meta(pattern="^[A-Z]{2}$")] | None = None


class NewOrganization(Body):
    slug: Annotated[str, Meta(pattern="^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
    name: Name
    email: Annotated[str, Meta(min_length=3, max_length=255)]
    currency: CurrencyCode | None = None
    external_id: Reference | None = None
    address: Address | None = None
    tax_rate: Name | None = None
    tax_exempt: Exemption = "none"
    test_clock: UUID | None = None


class OrganizationChanges(Body):
    name: Name | UnsetType = UNSET
    email: Annotated[str, Meta(min_length=3, max_length=255)] | UnsetType = UNSET
    address: Address | None | UnsetType = UNSET
    tax_rate: Name | None | UnsetType = UNSET
    tax_exempt: Exemption | UnsetType = UNSET


class NewCoupon(Body):
    """Either `percent_off` or `amount_off_minor` with its `currency`; off recurring charges, never usage.

    `duration` is once, repeating (with `duration_in_months`) or forever; no `products` (codes) means all.
    """

    code: Annotated[str, Meta(pattern="^[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?$")]
    name: Annotated[str, Meta(min_length=1, max_length=40)]
    percent_off: DecimalText | None = None
    amount_off_minor: Annotated[int, Meta(ge=1, le=100_000_000_000)] | None = None
    currency: CurrencyCode | None = None
    duration: Literal["once", "repeating", "forever"] = "once"
    duration_in_months: Annotated[int, Meta(ge=1, le=120)] | None = None
    products: Annotated[list[Name], Meta(max_length=50)] = []
    redeem_by: Instant | None = None
    max_redemptions: Annotated[int, Meta(ge=1, le=2_000_000_000)] | None = None


class Activation(Body):
    """False stops giving it out; who has it keeps it."""

    active: bool


class NewTaxRate(Body):
    """`percentage` "15" means 15 %; it never changes. Inclusive tax is contained in the prices."""

    code: Annotated[str, Meta(pattern="^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$")]
    name: Annotated[str, Meta(min_length=1, max_length=50)]
    percentage: DecimalText
    inclusive: bool = False
    country: Annotated[str, Meta(pattern="^[A-Z]{2}$")] | None = None


class NewCredit(Body):
    """Credit in the organization's currency; below zero takes unspent credit back."""

    amount_minor: Annotated[int, Meta(ge=-100_000_000_000, le=100_000_000_000)]
    reason: Annotated[str, Meta(min_length=1, max_length=300)]


class NewKey(Body):
    """Without `scopes` the key is good for all."""

    name: Annotated[str, Meta(min_length=1, max_length=100)]
    scopes: Annotated[list[Literal["read", "write"]], Meta(min_length=1, max_length=2)] | None = None
    expires_at: Instant | None = None


class Rotation(Body):
    """The old key works for `overlap_s` seconds more: a day, if nothing is said."""

    overlap_s: Annotated[int, Meta(ge=0, le=31_536_000)] = 86_400


class NewPaymentMethod(Body):
    """`payment_method` is Stripe's id; card numbers are never sent here."""

    payment_method: StripeId


class NewSubscription(Body):
    """Either `plan` or `bundle`, by code.

    Charged from today on, unless there is a trial: `trial` takes the catalog's `trial_period_days`,
    `trial_days` names another length.
    """

    currency: CurrencyCode
    interval: Annotated[str, Meta(pattern="^(month|quarter|year)$")]
    plan: Name | None = None
    bundle: Name | None = None
    organization: Reference | None = None
    quantity: Annotated[int, Meta(ge=1, le=100_000)] = 1
    trial: bool = False
    trial_days: Annotated[int, Meta(ge=0, le=730)] | None = None
    coupon: Name | None = None
    payment_method: StripeId | None = None


class SubscriptionChange(Body):
    """What to change: `plan`, `quantity` and `interval`, or `remove` to take `product` out of a bundle.

    `product` names the item where the subscription has several. `prorate` charges and credits the
    difference on the next invoice, `none` changes now without, `next_period` at the period's end. A longer
    interval begins and is charged at once (`prorate`), a shorter one at the period's end (`next_period`).
    """

    plan: Name | None = None
    quantity: Annotated[int, Meta(ge=1, le=100_000)] | None = None
    product: Name | None = None
    remove: bool = False
    interval: Annotated[str, Meta(pattern="^(month|quarter|year)$")] | None = None
    proration: Annotated[str, Meta(pattern="^(prorate|next_period|none)$")] = "prorate"


class Preview(SubscriptionChange):
    """As a change; empty, the coming invoice as things stand."""


class BulkMove(Body):
    """Subscribers of all organizations, or of those named, go to the version that is sold now.

    `to` names that version, and another is refused. `dry_run` only says who, and the difference in price.
    """

    to: Annotated[int, Meta(ge=1)] | None = None
    organizations: Annotated[list[Reference], Meta(max_length=200)] = []
    proration: Annotated[str, Meta(pattern="^(prorate|next_period|none)$")] = "next_period"
    dry_run: bool = False


class Cancellation(Body):
    at_period_end: bool = True


class CreditedLine(Body):
    """Of one invoice line, by id: `amount_minor` of what it comes to (tax included), or `quantity` of it.

    Neither credits all that is left of the line.
    """

    line: UUID
    amount_minor: Annotated[int, Meta(ge=1, le=100_000_000_000)] | None = None
    quantity: DecimalText | None = None


class NewCreditNote(Body):
    """`lines`, or `amount_minor` of the whole (tax included), or neither: all that is left.

    No lines at all (`[]`) are refused: who has found none to credit does not mean everything.

    A paid invoice's note says where the money goes: `refund` (the card; what credit paid goes back to the
    credit), `credit` (the balance) or `out_of_band`. An open invoice's lowers what is due.
    """

    reason: Annotated[str, Meta(min_length=1, max_length=300)]
    lines: Annotated[list[CreditedLine], Meta(min_length=1, max_length=250)] | None = None
    amount_minor: Annotated[int, Meta(ge=1, le=100_000_000_000)] | None = None
    settlement: Literal["refund", "credit", "out_of_band", "reduces_due"] | None = None


class Closing(Body):
    """Nothing needs to be said."""


class PayNow(Body):
    """With the default card, with `payment_method` (our id of a card), or `out_of_band`: without a card."""

    payment_method: UUID | None = None
    out_of_band: bool = False


class NewTestClock(Body):
    name: Name
    at: Instant


class ClockAdvance(Body):
    to: Instant


class UsageEventBody(Body):
    """One usage event; `quantity` may also be a JSON number."""

    event_id: Reference
    organization: Reference
    product: Reference
    metric: Reference
    timestamp: Instant
    quantity: DecimalText = "1"
    properties: dict[str, str | int | bool] = {}


class UsageBatchBody(Body):
    events: Annotated[list[UsageEventBody], Meta(min_length=1, max_length=5_000)]


class UsageCorrection(Body):
    """What an event should have said: another `quantity` (also a JSON number), or, with `void`, nothing."""

    organization: Reference
    event_id: Reference
    reason: Annotated[str, Meta(min_length=1, max_length=300)]
    quantity: str | None = None
    void: bool = False
