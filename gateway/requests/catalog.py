"""Requests about what is sold: products, prices, coupons, tax rates."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from gateway.requests.request import Request, as_metadata, given, listed

_RECURRING: dict[str, dict[str, object]] = {
    "month": {"interval": "month", "interval_count": 1},
    # Stripe has no quarter.
    "quarter": {"interval": "month", "interval_count": 3},
    "year": {"interval": "year", "interval_count": 1},
}


def create_product(
    code: str, name: str, description: str | None = None, unit_label: str | None = None
) -> Request:
    """A product; our code stands in its metadata."""
    return Request(
        "create_product",
        params=given(
            name=name, description=description, unit_label=unit_label, metadata={"product_code": code}
        ),
    )


def update_product(product_id: str, **changes: Any) -> Request:
    """Change the named fields of a product; None leaves a field as it is."""
    return Request("update_product", product_id, given(**changes))


def archive_product(product_id: str) -> Request:
    """Stop selling a product. Stripe deletes only products that never had a price."""
    return update_product(product_id, active=False)


def create_price(
    product_id: str,
    currency: str,
    interval: Literal["month", "quarter", "year"],
    unit_amount_minor: int,
    *,
    lookup_key: str,
    nickname: str | None = None,
    metadata: Mapping[str, object] | None = None,
) -> Request:
    """A licensed recurring price in minor units, tax on top. Amount, currency and interval never change.

    The lookup key moves here from the price that had it, so that a new version of a plan takes over its name.
    """
    return Request(
        "create_price",
        params=given(
            product=product_id,
            currency=currency.lower(),
            recurring=_RECURRING[interval],
            unit_amount=unit_amount_minor,
            tax_behavior="exclusive",
            lookup_key=lookup_key,
            transfer_lookup_key=True,
            nickname=nickname,
            metadata=as_metadata(metadata),
        ),
    )


def archive_price(price_id: str) -> Request:
    """Stop selling at a price; who has it keeps it."""
    return Request("update_price", price_id, {"active": False})


def create_coupon(
    name: str,
    *,
    coupon_id: str | None = None,
    amount_off_minor: int | None = None,
    currency: str | None = None,
    percent_off: str | None = None,
    duration: Literal["forever", "once", "repeating"] = "forever",
    duration_in_months: int | None = None,
    applies_to_products: Sequence[str] = (),
    max_redemptions: int | None = None,
    redeem_by: int | None = None,
    metadata: Mapping[str, object] | None = None,
) -> Request:
    """A coupon: an amount off in one currency, or a percentage (decimal string), never both.

    Raises ValueError for neither, both, an amount without currency, or months without "repeating".
    Stripe keeps names to 40 characters; longer ones are cut.
    """
    if (amount_off_minor is None) == (percent_off is None):
        raise ValueError("a coupon has either amount_off_minor or percent_off")
    if (amount_off_minor is None) != (currency is None):
        raise ValueError("amount_off_minor and currency go together")
    if (duration == "repeating") != (duration_in_months is not None):
        raise ValueError('duration_in_months goes with duration "repeating"')
    products = listed(tuple(applies_to_products))
    return Request(
        "create_coupon",
        params=given(
            id=coupon_id,
            name=name[:40],
            amount_off=amount_off_minor,
            currency=currency.lower() if currency else None,
            percent_off=percent_off,
            duration=duration,
            duration_in_months=duration_in_months,
            applies_to={"products": products} if products else None,
            max_redemptions=max_redemptions,
            redeem_by=redeem_by,
            metadata=as_metadata(metadata),
        ),
    )


def create_tax_rate(
    name: str, percentage: str, inclusive: bool, country: str | None = None, tax_type: str | None = None
) -> Request:
    """A tax rate; `percentage` is a decimal string with at most 4 decimals.

    Neither it nor `inclusive` ever changes: archive the rate and make another.
    """
    return Request(
        "create_tax_rate",
        params=given(
            display_name=name,
            percentage=percentage,
            inclusive=inclusive,
            country=country,
            tax_type=tax_type,
        ),
    )


def archive_tax_rate(tax_rate_id: str) -> Request:
    """Stop using a tax rate for new invoices."""
    return Request("update_tax_rate", tax_rate_id, {"active": False})
