"""What of the catalog must stand at Stripe: the request that makes each object, and how to find it there."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, cast
from uuid import UUID

from gateway import requests
from gateway.requests import Request
from models import catalog_queries as queries
from models import sale_terms
from models.catalog import BundlePrice, Coupon, PlanPrice, Product, ProductPlan
from models.catalog_queries import BundleListing, BundlePriceListing
from models.database import Session
from models.organizations import TaxRate

Found = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Wanted:
    """One row that must exist at Stripe. `column` keeps its id there."""

    label: str
    column: queries.StripeId
    row_id: UUID
    stripe_id: str | None
    request: Request


def products(session: Session) -> Iterator[Wanted]:
    for product in queries.all_products(session):
        request = requests.create_product(
            product.code,
            product.name,
            product.description or None,
            unit_label="user" if product.billing_type == "per_user" else None,
        )
        label = f"product {product.code}"
        yield Wanted(label, Product.stripe_product_id, product.id, product.stripe_product_id, request)


def price_name(price: PlanPrice, plan: ProductPlan) -> str:
    """A price's lookup key at Stripe; each version of a plan has its own."""
    return f"{plan.code}:v{plan.version}:{price.currency.lower()}:{price.interval}"


def prices(session: Session) -> Iterator[Wanted]:
    for price, plan, product in queries.all_prices(session):
        name = price_name(price, plan)
        request = requests.create_price(
            product.stripe_product_id or "",
            price.currency,
            cast(Literal["month", "quarter", "year"], price.interval),
            price.amount_minor,
            lookup_key=name,
            nickname=f"{product.name} {plan.name}, {price.interval}",
        )
        yield Wanted(f"price {name}", PlanPrice.stripe_price_id, price.id, price.stripe_price_id, request)


def bundle_coupons(session: Session) -> Iterator[Wanted]:
    """A coupon takes off exactly what the members cost more; a bundle that saves nothing needs none."""
    for listing in queries.all_bundles(session):
        for entry in listing.prices:
            if entry.saving.minor > 0:
                yield _bundle_coupon(listing, entry)


def _bundle_coupon(listing: BundleListing, entry: BundlePriceListing) -> Wanted:
    price = entry.price
    name = f"{listing.bundle.code}:v{price.version}:{price.currency.lower()}:{price.interval}"
    request = requests.create_coupon(
        listing.bundle.name,
        amount_off_minor=entry.saving.minor,
        currency=price.currency,
        applies_to_products=[member.product.stripe_product_id or "" for member in listing.members],
        metadata={"bundle": name},
    )
    label = f"bundle coupon {name}"
    return Wanted(label, BundlePrice.stripe_coupon_id, price.id, price.stripe_coupon_id, request)


def coupons(session: Session) -> Iterator[Wanted]:
    for coupon in queries.all_coupons(session):
        request = requests.create_coupon(
            coupon.name,
            amount_off_minor=coupon.amount_off_minor,
            currency=coupon.currency,
            percent_off=None if coupon.percent_off is None else _plain(coupon.percent_off),
            duration=cast(Literal["forever", "once", "repeating"], coupon.duration),
            duration_in_months=coupon.duration_in_months,
            applies_to_products=[
                product.stripe_product_id or "" for product in sale_terms.covered(session, coupon.id)
            ],
            metadata={"coupon_code": coupon.code},
        )
        label = f"coupon {coupon.code}"
        yield Wanted(label, Coupon.stripe_coupon_id, coupon.id, coupon.stripe_coupon_id, request)


def tax_rates(session: Session) -> Iterator[Wanted]:
    for rate in queries.all_tax_rates(session):
        request = requests.create_tax_rate(rate.name, _plain(rate.percentage), rate.inclusive, rate.country)
        label = f"tax rate {rate.code}"
        yield Wanted(label, TaxRate.stripe_tax_rate_id, rate.id, rate.stripe_tax_rate_id, request)


def _plain(number: Decimal) -> str:
    """Without trailing zeros or an exponent: 15.0000 is 15."""
    return format(number.normalize(), "f")


def _is_product(params: Found, found: Found) -> bool:
    return bool(found["metadata"].get("product_code") == params["metadata"]["product_code"])


def _is_price(params: Found, found: Found) -> bool:
    """Same name and same figures: a price of the old amount under our name is not ours."""
    names = ("lookup_key", "product", "currency", "unit_amount", "tax_behavior")
    recurring = found["recurring"] or {}
    return all(found[name] == params[name] for name in names) and all(
        recurring.get(name) == value for name, value in params["recurring"].items()
    )


def _is_coupon(params: Found, found: Found) -> bool:
    names = ("amount_off", "currency", "duration", "duration_in_months")
    return (
        found["metadata"] == params["metadata"]
        and all(found[name] == params.get(name) for name in names)
        and _same_number(found["percent_off"], params.get("percent_off"))
        and _product_ids(found) == _product_ids(params)
    )


def _is_tax_rate(params: Found, found: Found) -> bool:
    names = ("display_name", "inclusive", "country")
    return all(found[name] == params.get(name) for name in names) and _same_number(
        found["percentage"], params["percentage"]
    )


def _product_ids(coupon: Found) -> set[str]:
    return set((coupon.get("applies_to") or {}).get("products", ()))


def _same_number(found: object, wanted: object) -> bool:
    if found is None or wanted is None:
        return found is wanted
    return Decimal(str(found)) == Decimal(str(wanted))


_Lookup = tuple[str, Callable[[Found], Found], Callable[[Found, Found], bool]]

# How to find at Stripe what a request would make: the kind, the list's filters, the comparison.
LOOKUPS: dict[str, _Lookup] = {
    "create_product": ("product", lambda _params: {}, _is_product),
    "create_price": (
        "price",
        lambda params: {"product": params["product"], "active": True},
        _is_price,
    ),
    "create_coupon": ("coupon", lambda _params: {"expand": ["data.applies_to"]}, _is_coupon),
    "create_tax_rate": ("tax_rate", lambda _params: {"active": True}, _is_tax_rate),
}
