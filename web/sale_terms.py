"""Coupons, tax rates, and organizations' credit."""

from decimal import Decimal
from uuid import uuid4

from models.organizations import TaxRate
from models.sale_terms import CouponListing
from tasks import balance, coupons, tax
from tasks.balance import LedgerEntry
from web import bodies, sale_shapes, shapes
from web.calls import ADMIN, ORGANIZATION, Answer, Call, Route


def add_coupon(call: Call) -> Answer:
    body: bodies.NewCoupon = call.body
    terms = coupons.CouponTerms(
        code=body.code,
        name=body.name,
        percent_off=None if body.percent_off is None else Decimal(body.percent_off),
        amount_off_minor=body.amount_off_minor,
        currency=body.currency,
        duration=body.duration,
        duration_in_months=body.duration_in_months,
        products=tuple(body.products),
        redeem_by_at=body.redeem_by,
        max_redemptions=body.max_redemptions,
        id=call.intention,
    )
    return Answer(_coupon(coupons.add(call.context, terms)), status=201)


def list_coupons(call: Call) -> Answer:
    return Answer(sale_shapes.Coupons([_coupon(listing) for listing in coupons.listed(call.context)]))


def activate_coupon(call: Call) -> Answer:
    body: bodies.Activation = call.body
    return Answer(_coupon(coupons.retire(call.context, call.path["code"], active=body.active)))


def add_tax_rate(call: Call) -> Answer:
    body: bodies.NewTaxRate = call.body
    terms = tax.RateTerms(
        code=body.code,
        name=body.name,
        percentage=Decimal(body.percentage),
        inclusive=body.inclusive,
        country=body.country,
        id=call.intention,
    )
    return Answer(_tax_rate(tax.add(call.context, terms)), status=201)


def list_tax_rates(call: Call) -> Answer:
    return Answer(sale_shapes.TaxRates([_tax_rate(rate) for rate in tax.rates(call.context)]))


def activate_tax_rate(call: Call) -> Answer:
    body: bodies.Activation = call.body
    return Answer(_tax_rate(tax.retire(call.context, call.path["code"], active=body.active)))


def grant_credit(call: Call) -> Answer:
    body: bodies.NewCredit = call.body
    organization_id = call.organization_id(call.path["id"])
    # A repeat that comes after the kept answer is gone finds the entry by its key.
    sent = call.headers.get("Idempotency-Key")
    key = f"{call.known().principal}:{sent}" if sent else str(uuid4())
    balance.grant(call.context, organization_id, body.amount_minor, body.reason, key)
    return Answer(_ledger(balance.ledger(call.context, organization_id)), status=201)


def show_credit(call: Call) -> Answer:
    return Answer(_ledger(balance.ledger(call.context, call.organization_id(call.path["id"]))))


def _coupon(listing: CouponListing) -> sale_shapes.Coupon:
    row = listing.coupon
    return sale_shapes.Coupon(
        code=row.code,
        name=row.name,
        percent_off=None if row.percent_off is None else shapes.plain(row.percent_off),
        amount_off_minor=row.amount_off_minor,
        currency=row.currency,
        duration=row.duration,
        duration_in_months=row.duration_in_months,
        products=list(listing.products),
        redeem_by=row.redeem_by_at,
        max_redemptions=row.max_redemptions,
        times_redeemed=row.times_redeemed,
        active=row.active,
    )


def _tax_rate(row: TaxRate) -> sale_shapes.TaxRate:
    return sale_shapes.TaxRate(
        code=row.code,
        name=row.name,
        percentage=shapes.plain(row.percentage),
        inclusive=row.inclusive,
        country=row.country,
        active=row.active,
    )


def _ledger(ledger: balance.Ledger) -> sale_shapes.Credit:
    entries = [_entry(each) for each in ledger.entries]
    return sale_shapes.Credit(currency=ledger.currency, balance_minor=ledger.balance_minor, items=entries)


def _entry(each: LedgerEntry) -> sale_shapes.CreditEntry:
    row = each.entry
    return sale_shapes.CreditEntry(
        id=row.id,
        amount_minor=row.amount_minor,
        currency=row.currency,
        reason=row.reason,
        invoice=row.invoice_id,
        invoice_number=each.invoice_number,
        unspent_minor=each.unspent_minor,
        created_at=row.created_at,
    )


_COUPONS = "/api/billing/coupons/"
_TAX_RATES = "/api/billing/tax_rates/"
_CREDIT = "/api/billing/organizations/<id>/credit/"

ROUTES = (
    Route(
        method="POST",
        path=_COUPONS,
        view=add_coupon,
        access=ADMIN,
        summary="Add a coupon, here and at Stripe; what it takes off never changes",
        tag="Coupons",
        body=bodies.NewCoupon,
        answer=sale_shapes.Coupon,
        status=201,
        refusals=(409,),
    ),
    Route(
        method="GET",
        path=_COUPONS,
        view=list_coupons,
        access=ADMIN,
        summary="All coupons, with how often each was redeemed",
        tag="Coupons",
        answer=sale_shapes.Coupons,
    ),
    Route(
        method="PATCH",
        path=_COUPONS + "<code>/",
        view=activate_coupon,
        access=ADMIN,
        summary="Stop giving out a coupon, or resume; subscriptions that have it keep it",
        tag="Coupons",
        body=bodies.Activation,
        answer=sale_shapes.Coupon,
        refusals=(404,),
    ),
    Route(
        method="POST",
        path=_TAX_RATES,
        view=add_tax_rate,
        access=ADMIN,
        summary="Add a tax rate, here and at Stripe; its percentage never changes",
        tag="Tax rates",
        body=bodies.NewTaxRate,
        answer=sale_shapes.TaxRate,
        status=201,
        refusals=(409,),
    ),
    Route(
        method="GET",
        path=_TAX_RATES,
        view=list_tax_rates,
        access=ADMIN,
        summary="All tax rates",
        tag="Tax rates",
        answer=sale_shapes.TaxRates,
    ),
    Route(
        method="PATCH",
        path=_TAX_RATES + "<code>/",
        view=activate_tax_rate,
        access=ADMIN,
        summary="Stop assigning a tax rate, or resume; organizations that have it keep it",
        tag="Tax rates",
        body=bodies.Activation,
        answer=sale_shapes.TaxRate,
        refusals=(404,),
    ),
    Route(
        method="POST",
        path=_CREDIT,
        view=grant_credit,
        access=ADMIN,
        summary="Give credit, with a reason; below zero takes unspent credit back",
        tag="Credit",
        body=bodies.NewCredit,
        answer=sale_shapes.Credit,
        status=201,
        refusals=(404, 409),
    ),
    Route(
        method="GET",
        path=_CREDIT,
        view=show_credit,
        access=ORGANIZATION,
        summary="The credit balance and its ledger",
        tag="Credit",
        answer=sale_shapes.Credit,
        refusals=(404,),
    ),
)
