"""Coupons: made here and at Stripe, put on a subscription when it is made, live for their time.

They lower recurring charges alone: usage is charged at its price. Redemptions are counted here, and
only here, in the transaction that makes the subscription.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from billing.discounts import Discount, Duration, is_live
from billing.errors import Conflict, InvalidTerms, NotFound
from billing.exact import exact_number
from billing.invoicing import InvoiceDraft, discount_codes
from billing.money import Money
from models import sale_queries, sale_terms
from models.base import new_id
from models.billing_queries import BilledItem
from models.catalog import Coupon, Product, SubscriptionBundle
from models.database import hold_names
from models.invoices import CouponRedemption, Invoice
from models.sale_terms import CouponListing
from models.subscriptions import ProductSubscription
from tasks import catalog_objects, stripe_catalog
from tasks.context import Context, TenantUnit, Unit

_CODE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?")
_CURRENCY = re.compile(r"[A-Z]{3}")
_MAX_MONTHS = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class CouponTerms:
    """A coupon to add: `percent_off` (at most 2 decimals) or `amount_off_minor` with its currency.

    `products` are codes; none means all. `redeem_by_at` and `max_redemptions` bound who may still get it.
    `id` is that of the coupon to make: a repeat finds it.
    """

    code: str
    name: str
    percent_off: Decimal | None = None
    amount_off_minor: int | None = None
    currency: str | None = None
    duration: str = "once"
    duration_in_months: int | None = None
    products: tuple[str, ...] = ()
    redeem_by_at: datetime | None = None
    max_redemptions: int | None = None
    id: UUID = field(default_factory=new_id)

    def check(self) -> None:
        """Raises InvalidTerms naming the field at fault."""
        for name, ok, rule in self._rules():
            if not ok:
                raise InvalidTerms(rule, field=name)

    def _rules(self) -> list[tuple[str, bool, str]]:
        percent, amount, months = self.percent_off, self.amount_off_minor, self.duration_in_months
        repeating = self.duration == Duration.repeating
        return [
            ("code", bool(_CODE.fullmatch(self.code)), "must be 1 to 63 letters, digits, inner - and _"),
            # Stripe cuts names there.
            ("name", 0 < len(self.name.strip()) <= 40, "must have 1 to 40 characters"),
            ("percent_off", (percent is None) != (amount is None), "either percent_off or amount_off_minor"),
            (
                "percent_off",
                percent is None or (0 < percent <= 100 and percent == round(percent, 2)),
                "must be above 0 and at most 100, with at most 2 decimals",
            ),
            ("amount_off_minor", amount is None or amount > 0, "must be above 0"),
            ("currency", (amount is None) == (self.currency is None), "goes with amount_off_minor"),
            ("currency", bool(_CURRENCY.fullmatch(self.currency or "USD")), "must be a currency's code"),
            ("duration", self.duration in set(Duration), f"must be one of {', '.join(Duration)}"),
            ("duration_in_months", repeating == (months is not None), "goes with the duration repeating"),
            (
                "duration_in_months",
                months is None or 1 <= months <= _MAX_MONTHS,
                f"must be 1 to {_MAX_MONTHS}",
            ),
            ("max_redemptions", self.max_redemptions is None or self.max_redemptions > 0, "must be above 0"),
        ]


def add(context: Context, terms: CouponTerms) -> CouponListing:
    """Add a coupon, here and at Stripe. What it takes off never changes: make another.

    Raises: InvalidTerms, Conflict for a code that is taken, GatewayError (`dunlin stripe sync` goes on).
    """
    terms.check()
    with context.system() as unit:
        hold_names(unit.session, "coupons")
        if unit.session.get(Coupon, terms.id) is None:
            _store(unit, terms)
    stripe_catalog.bring(context, catalog_objects.coupons)
    return find(context, terms.code)


def _store(unit: Unit, terms: CouponTerms) -> None:
    if sale_terms.coupon_by_code(unit.session, terms.code) is not None:
        raise Conflict("is taken", field="code")
    coupon = Coupon(
        id=terms.id,
        code=terms.code,
        name=terms.name.strip(),
        percent_off=terms.percent_off,
        amount_off_minor=terms.amount_off_minor,
        currency=terms.currency,
        duration=terms.duration,
        duration_in_months=terms.duration_in_months,
        active=True,
        redeem_by_at=terms.redeem_by_at,
        max_redemptions=terms.max_redemptions,
        times_redeemed=0,
    )
    sale_terms.add_coupon(unit.session, coupon, _products(unit, terms.products))


def listed(context: Context) -> list[CouponListing]:
    """All coupons, by code."""
    with context.system() as unit:
        return sale_terms.coupons(unit.session)


def find(context: Context, code: str) -> CouponListing:
    """A coupon by its code. Raises NotFound."""
    with context.system() as unit:
        coupon = sale_terms.coupon_by_code(unit.session, code)
        if coupon is None:
            raise NotFound("no such coupon")
        return sale_terms.listing(unit.session, coupon)


def retire(context: Context, code: str, *, active: bool) -> CouponListing:
    """Stop (or resume) giving out a coupon; subscriptions that have it keep it. Raises NotFound."""
    find(context, code)
    with context.system() as unit:
        coupon = sale_terms.coupon_by_code(unit.session, code)
        assert coupon is not None
        coupon.active = active
    return find(context, code)


def check(unit: TenantUnit, code: str, currency: str) -> Coupon:
    """The coupon of this code, when it may be redeemed now. Raises InvalidTerms saying why not."""
    coupon = sale_terms.coupon_by_code(unit.session, code)
    if coupon is None:
        raise InvalidTerms("no such coupon", field="coupon")
    if not coupon.active:
        raise InvalidTerms("is no longer given out", field="coupon")
    if coupon.redeem_by_at is not None and coupon.redeem_by_at < unit.now:
        raise InvalidTerms("was to be redeemed earlier", field="coupon")
    if coupon.max_redemptions is not None and coupon.times_redeemed >= coupon.max_redemptions:
        raise InvalidTerms("has been redeemed as often as it may be", field="coupon")
    if coupon.currency not in (None, currency):
        raise InvalidTerms(f"takes off an amount in {coupon.currency}", field="coupon")
    if coupon.stripe_coupon_id is None:
        raise Conflict("has not been synced to Stripe yet: run `dunlin stripe sync`", field="coupon")
    return coupon


def redeem(unit: TenantUnit, coupon: Coupon, subscription: ProductSubscription) -> None:
    """Put a coupon on a new subscription, counting it exactly once. Raises InvalidTerms: none is left."""
    if not sale_terms.redeem(unit.session, coupon.id, unit.now):
        raise InvalidTerms("has been redeemed as often as it may be", field="coupon")
    unit.session.add(
        CouponRedemption(
            organization_id=unit.organization.id,
            subscription_id=subscription.id,
            coupon_id=coupon.id,
            redeemed_at=unit.now,
        )
    )
    unit.session.flush()


def give_back(unit: TenantUnit, subscription: ProductSubscription) -> None:
    """The subscription has never begun: its coupons are there again, each once."""
    sale_terms.give_back(unit.session, subscription)


def discounts(
    unit: TenantUnit, subscription: ProductSubscription, items: Sequence[BilledItem], at: datetime
) -> list[Discount]:
    """What lowers the recurring lines of an invoice made at an instant, in Stripe's sequence.

    First the bundle's exact difference, then the coupon on what that left.
    """
    code = _bundle_code(unit, subscription) if subscription.discount_minor else ""
    given = bundle_discounts(code, subscription, items)
    return given + [_discount(coupon, products) for _, coupon, products in _live(unit, subscription, at)]


def bundle_discounts(
    code: str, subscription: ProductSubscription, items: Sequence[BilledItem]
) -> list[Discount]:
    """What the bundle takes off, as a discount; none for a subscription without one."""
    if not subscription.discount_minor:
        return []
    amount = Money(subscription.discount_minor, subscription.currency)
    return [Discount(code, amount=amount, products=_bundled(subscription, items))]


def stripe_discounts(unit: TenantUnit, subscription: ProductSubscription, at: datetime) -> list[str]:
    """The Stripe coupons of the same discounts, in the same sequence."""
    own = sale_queries.bundle_coupon(unit.session, subscription.bundle_price_id)
    live = [str(coupon.stripe_coupon_id) for _, coupon, _ in _live(unit, subscription, at)]
    return [*([own] if own else []), *live]


def spend(unit: TenantUnit, subscription: ProductSubscription, invoice: Invoice, built: InvoiceDraft) -> None:
    """A `once` coupon that lowered this invoice lowers no other."""
    lowered = {code for line in built.lines for code in discount_codes(line)}
    if not lowered:
        return
    for redemption, coupon, _ in sale_terms.redemptions(unit.session, subscription):
        unspent = redemption.spent_by_invoice_id is None
        if coupon.duration == Duration.once and unspent and coupon.code in lowered:
            redemption.spent_by_invoice_id = invoice.id
    unit.session.flush()


def _live(
    unit: TenantUnit, subscription: ProductSubscription, at: datetime
) -> list[tuple[CouponRedemption, Coupon, frozenset[UUID] | None]]:
    return [
        (redemption, coupon, products)
        for redemption, coupon, products in sale_terms.redemptions(unit.session, subscription)
        if is_live(
            Duration(coupon.duration),
            coupon.duration_in_months,
            subscription.started_at,
            at,
            spent=redemption.spent_by_invoice_id is not None,
        )
    ]


def _discount(coupon: Coupon, products: frozenset[UUID] | None) -> Discount:
    covered = None if products is None else frozenset(map(str, products))
    if coupon.percent_off is not None:
        return Discount(coupon.code, percent=exact_number(coupon.percent_off), products=covered)
    assert coupon.amount_off_minor is not None and coupon.currency is not None
    return Discount(coupon.code, amount=Money(coupon.amount_off_minor, coupon.currency), products=covered)


def _bundle_code(unit: TenantUnit, subscription: ProductSubscription) -> str:
    if subscription.bundle_id is None:
        return bundle_code(None)
    return bundle_code(unit.session.get_one(SubscriptionBundle, subscription.bundle_id))


def bundle_code(bundle: SubscriptionBundle | None) -> str:
    """What a bundle's discount is called on the lines that it lowers."""
    return "bundle" if bundle is None else f"bundle {bundle.code}"


def _bundled(subscription: ProductSubscription, items: Sequence[BilledItem]) -> frozenset[str]:
    """The products that were sold together; one that a person added at Stripe later is not among them."""
    return frozenset(
        str(each.product.id) for each in items if each.item.started_at <= subscription.started_at
    )


def _products(unit: Unit, codes: tuple[str, ...]) -> list[Product]:
    found = sale_terms.products_by_code(unit.session, codes)
    for code in codes:
        if code not in found:
            raise InvalidTerms(f"there is no product {code}", field="products")
    return list(found.values())
