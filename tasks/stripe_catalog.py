"""The catalog at Stripe: products, prices, coupons and tax rates, each made once and remembered here."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import count
from typing import Any, Literal, cast
from uuid import UUID

from billing.errors import BillingError
from billing.keys import stripe_key
from gateway import requests
from gateway.requests import Request
from models import catalog_queries as queries
from models import intentions
from models.catalog import BundlePrice, Coupon, PlanPrice, Product
from models.catalog_queries import BundleListing, BundlePriceListing
from models.database import Session
from models.ops import StripeCall
from models.organizations import TaxRate
from tasks.context import Context
from tasks.stripe_calls import Unresolved, call

Found = dict[str, Any]


class AnotherAccount(BillingError):
    """The ids in this database belong to another Stripe account than the configured key."""

    code = "another_stripe_account"


@dataclass(slots=True)
class SyncReport:
    """What a sync did; in a dry run, what it would do.

    `created` and `updated` count writes at Stripe; `adopted` what was found there and only noted here.
    """

    created: int = 0
    adopted: int = 0
    updated: int = 0
    unchanged: int = 0

    def __str__(self) -> str:
        return (
            f"{self.created} created, {self.adopted} found at Stripe, {self.updated} updated, "
            f"{self.unchanged} unchanged"
        )


@dataclass(frozen=True, slots=True)
class _Wanted:
    """One row that must exist at Stripe. `column` keeps its id there."""

    label: str
    column: queries.StripeId
    row_id: UUID
    stripe_id: str | None
    request: Request


def sync(
    context: Context, *, dry_run: bool = False, progress: Callable[[str], None] | None = None
) -> SyncReport:
    """Make at Stripe what the catalog has and Stripe has not, and note the ids; a repeat does nothing.

    An object that stands at Stripe under our name with our figures is adopted, so a database that was
    restored does not double the catalog. Two syncs at once send the same keys and get the same objects.
    `progress` gets one line per change. A dry run reads Stripe and writes nowhere; it counts the prices
    and coupons of a product that has no id yet as created, though they may be found once it has one.
    Raises: GatewayError, Unresolved, AnotherAccount.
    """
    run = _Sync(context, dry_run, progress or (lambda _line: None))
    for read in (_products, _prices, _bundle_coupons, _coupons, _tax_rates):
        # Read after the step before it: prices and coupons name the products' ids.
        with context.database.system() as session:
            wanted = list(read(session))
        for each in wanted:
            run.settle(each)
        if read is _products:
            run.renew_products()
    return run.report


class _Sync:
    """One run: what it found at Stripe, and what it did."""

    def __init__(self, context: Context, dry_run: bool, progress: Callable[[str], None]) -> None:
        self.context = context
        self.dry_run = dry_run
        self.progress = progress
        self.report = SyncReport()
        self.listings: dict[tuple[str, str], list[Found]] = {}

    def settle(self, wanted: _Wanted) -> None:
        """Bring one row to Stripe unless it is there."""
        if wanted.stripe_id is not None:
            self.report.unchanged += 1
            return
        key, intention = self._intention(wanted)
        found = self._find(wanted.request) if intention is None else None
        if found is not None:
            self.report.adopted += 1
            self.progress(f"found {wanted.label}: {found['id']}")
        else:
            self.report.created += 1
            self.progress(f"creating {wanted.label}")
        if self.dry_run:
            return
        stripe_id = found["id"] if found is not None else self._make(wanted, key, intention)
        with self.context.database.system() as session:
            queries.give_stripe_id(session, wanted.column, wanted.row_id, stripe_id)

    def renew_products(self) -> None:
        """Give Stripe's products our present names and descriptions."""
        with self.context.database.system() as session:
            products = [product for product in queries.all_products(session) if product.stripe_product_id]
        if not products:
            return
        standing = {found["id"]: found for found in self.context.gateway.list("product")}
        for product in products:
            assert product.stripe_product_id is not None
            found = standing.get(product.stripe_product_id)
            if found is None:
                raise AnotherAccount(
                    f"product {product.code} is {product.stripe_product_id} here, and Stripe does not know it"
                )
            self._renew_product(product, found)

    def _renew_product(self, product: Product, found: Found) -> None:
        wanted = {"name": product.name, "description": product.description}
        changes = {name: value for name, value in wanted.items() if (found[name] or "") != value}
        if not changes:
            return
        self.report.updated += 1
        self.progress(f"updating product {product.code}: {', '.join(sorted(changes))}")
        if self.dry_run:
            return
        # `updated` is the state that we saw: going back to an old name later is another intention.
        key = stripe_key("product-update", product.id, found["updated"], *changes.values())
        call(self.context, requests.update_product(found["id"], **changes), key)

    def _intention(self, wanted: _Wanted) -> tuple[str, StripeCall | None]:
        """The key to use, and what was already said under it; a refused one is given up for the next."""
        with self.context.database.system() as session:
            for attempt in count(1):
                key = stripe_key(wanted.column.class_.__tablename__, wanted.row_id, attempt)
                intention = queries.intention_by_key(session, key)
                if intention is None or intention.state != "refused":
                    break
        return key, intention

    def _make(self, wanted: _Wanted, key: str, intention: StripeCall | None) -> str:
        if intention is None:
            return str(call(self.context, wanted.request, key)["id"])
        # A key is repeated with its own parameters: the row may have been edited since.
        request = Request(intention.operation, intention.object_id, intention.params)
        try:
            return str(call(self.context, request, key)["id"])
        except Unresolved:
            found = self._find(wanted.request)
            if found is None:
                raise
        with self.context.database.system() as session:
            intentions.settle(session, intention.id, "succeeded", self.context.wall(), reply=found)
        return str(found["id"])

    def _find(self, request: Request) -> Found | None:
        """The object at Stripe that is this row's already."""
        if request.params.get("product") == "":
            return None  # a dry run: without its product there is no price
        kind, filters, matches = _LOOKUPS[request.operation]
        params = filters(request.params)
        listing = (kind, repr(params))
        if listing not in self.listings:
            self.listings[listing] = list(self.context.gateway.list(kind, params))
        return next((found for found in self.listings[listing] if matches(request.params, found)), None)


def _products(session: Session) -> Iterator[_Wanted]:
    for product in queries.all_products(session):
        request = requests.create_product(
            product.code,
            product.name,
            product.description or None,
            unit_label="user" if product.billing_type == "per_user" else None,
        )
        label = f"product {product.code}"
        yield _Wanted(label, Product.stripe_product_id, product.id, product.stripe_product_id, request)


def _prices(session: Session) -> Iterator[_Wanted]:
    for price, plan, product in queries.all_prices(session):
        name = f"{plan.code}:v{plan.version}:{price.currency.lower()}:{price.interval}"
        request = requests.create_price(
            product.stripe_product_id or "",
            price.currency,
            cast(Literal["month", "quarter", "year"], price.interval),
            price.amount_minor,
            lookup_key=name,
            nickname=f"{product.name} {plan.name}, {price.interval}",
        )
        yield _Wanted(f"price {name}", PlanPrice.stripe_price_id, price.id, price.stripe_price_id, request)


def _bundle_coupons(session: Session) -> Iterator[_Wanted]:
    """A coupon takes off exactly what the members cost more; a bundle that saves nothing needs none."""
    for listing in queries.all_bundles(session):
        for entry in listing.prices:
            if entry.saving.minor > 0:
                yield _bundle_coupon(listing, entry)


def _bundle_coupon(listing: BundleListing, entry: BundlePriceListing) -> _Wanted:
    price = entry.price
    name = f"{listing.bundle.code}:{price.currency.lower()}:{price.interval}"
    request = requests.create_coupon(
        listing.bundle.name,
        amount_off_minor=entry.saving.minor,
        currency=price.currency,
        applies_to_products=[member.product.stripe_product_id or "" for member in listing.members],
        metadata={"bundle": name},
    )
    label = f"bundle coupon {name}"
    return _Wanted(label, BundlePrice.stripe_coupon_id, price.id, price.stripe_coupon_id, request)


def _coupons(session: Session) -> Iterator[_Wanted]:
    for coupon in queries.all_coupons(session):
        request = requests.create_coupon(
            coupon.name,
            amount_off_minor=coupon.amount_off_minor,
            currency=coupon.currency,
            percent_off=None if coupon.percent_off is None else _plain(coupon.percent_off),
            duration=cast(Literal["forever", "once", "repeating"], coupon.duration),
            duration_in_months=coupon.duration_in_months,
            metadata={"coupon_code": coupon.code},
        )
        label = f"coupon {coupon.code}"
        yield _Wanted(label, Coupon.stripe_coupon_id, coupon.id, coupon.stripe_coupon_id, request)


def _tax_rates(session: Session) -> Iterator[_Wanted]:
    for rate in queries.all_tax_rates(session):
        request = requests.create_tax_rate(rate.name, _plain(rate.percentage), rate.inclusive, rate.country)
        label = f"tax rate {rate.code}"
        yield _Wanted(label, TaxRate.stripe_tax_rate_id, rate.id, rate.stripe_tax_rate_id, request)


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
_LOOKUPS: dict[str, _Lookup] = {
    "create_product": ("product", lambda _params: {"active": True}, _is_product),
    "create_price": (
        "price",
        lambda params: {"product": params["product"], "active": True},
        _is_price,
    ),
    "create_coupon": ("coupon", lambda _params: {"expand": ["data.applies_to"]}, _is_coupon),
    "create_tax_rate": ("tax_rate", lambda _params: {"active": True}, _is_tax_rate),
}
