"""The JSON of coupons, tax rates and credit that goes out; as in `shapes`."""

from datetime import datetime
from uuid import UUID

from msgspec import Struct


class Coupon(Struct, kw_only=True):
    """Either `percent_off` or `amount_off_minor`; `products` empty means all; inactive is not given out."""

    code: str
    name: str
    percent_off: str | None
    amount_off_minor: int | None
    currency: str | None
    duration: str
    duration_in_months: int | None
    products: list[str]
    redeem_by: datetime | None
    max_redemptions: int | None
    times_redeemed: int
    active: bool


class Coupons(Struct):
    items: list[Coupon]
    next: str | None = None


class TaxRate(Struct, kw_only=True):
    code: str
    name: str
    percentage: str
    inclusive: bool
    country: str | None
    active: bool


class TaxRates(Struct):
    items: list[TaxRate]
    next: str | None = None


class CreditEntry(Struct, kw_only=True):
    """One entry of the ledger, credit above zero; `unspent_minor` is what later invoices left of it."""

    id: UUID
    amount_minor: int
    currency: str
    reason: str
    invoice: UUID | None
    invoice_number: str | None
    unspent_minor: int
    created_at: datetime


class Credit(Struct, kw_only=True):
    """The credit balance, spent oldest first before a card is charged; `items` are the whole ledger."""

    currency: str
    balance_minor: int
    items: list[CreditEntry]
    next: str | None = None
