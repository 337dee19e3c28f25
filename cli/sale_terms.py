"""Coupons, tax rates and credit as the commands read and show them."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from billing.errors import InvalidTerms
from billing.money import Money, format_money
from models.organizations import TaxRate
from models.sale_terms import CouponListing
from tasks.balance import Ledger
from tasks.coupons import CouponTerms


def decimal(text: str, field: str) -> Decimal:
    """A decimal number. Raises InvalidTerms naming the field."""
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite():
        raise InvalidTerms("must be a decimal number", field=field)
    return number


def coupon_terms(code: str, name: str, options: Mapping[str, Any]) -> CouponTerms:
    """The terms of `dunlin coupons add`."""
    percent, last_day = options["percent_off"], options["redeem_by"]
    currency = options["currency"]
    return CouponTerms(
        code=code,
        name=name,
        percent_off=None if percent is None else decimal(percent, "percent_off"),
        amount_off_minor=options["amount_off"],
        currency=currency.upper() if currency else None,
        duration=options["duration"],
        duration_in_months=options["months"],
        products=tuple(options["products"]),
        redeem_by_at=None if last_day is None else _end_of(last_day),
        max_redemptions=options["max_redemptions"],
    )


def coupon_text(listing: CouponListing) -> str:
    """One coupon on one line."""
    coupon = listing.coupon
    if coupon.amount_off_minor is not None and coupon.currency is not None:
        off = format_money(Money(coupon.amount_off_minor, coupon.currency))
    else:
        off = f"{_plain(coupon.percent_off or Decimal(0))} %"
    months = f" {coupon.duration_in_months} months" if coupon.duration_in_months else ""
    limit = f" of {coupon.max_redemptions}" if coupon.max_redemptions else ""
    covers = ", ".join(listing.products) or "all products"
    state = "" if coupon.active else ", retired"
    return (
        f"{coupon.code}  {off} off {covers}, {coupon.duration}{months}, "
        f"redeemed {coupon.times_redeemed}{limit}{state}"
    )


def rate_text(rate: TaxRate) -> str:
    """One tax rate on one line."""
    kind = "in the prices" if rate.inclusive else "on top"
    return f"{rate.code}  {rate.name} {_plain(rate.percentage)} % {kind}{'' if rate.active else ', retired'}"


def ledger_lines(ledger: Ledger) -> Iterator[str]:
    """The balance, then every entry, oldest first."""
    yield f"balance {format_money(Money(ledger.balance_minor, ledger.currency))}"
    for each in ledger.entries:
        entry = each.entry
        amount, left = (
            format_money(Money(minor, ledger.currency)) for minor in (entry.amount_minor, each.unspent_minor)
        )
        about = f" ({each.invoice_number})" if each.invoice_number else ""
        yield f"{entry.created_at:%Y-%m-%d}  {amount:>14}  {left:>14} left  {entry.reason}{about}"


def _end_of(day: datetime) -> datetime:
    return day.replace(tzinfo=UTC) + timedelta(days=1) - datetime.resolution


def _plain(number: Decimal) -> str:
    return format(number.normalize(), "f")
