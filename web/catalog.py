"""The public catalog: products, their plans, bundles and what they save."""

from collections import defaultdict
from collections.abc import Container
from datetime import timedelta

from billing.bundles import BundleMember, bundle_discount, saving_percent
from billing.errors import NotFound
from billing.money import Money
from models import reading
from models.catalog import BundlePrice
from models.reading import BundleListing, PlanListing
from web import shapes
from web.calls import PUBLIC, Answer, Call, Route

_FRESH = timedelta(minutes=1)
_CACHED = {"Cache-Control": f"public, max-age={_FRESH.seconds}"}


def products(call: Call) -> Answer:
    with call.context.database.system() as session:
        rows = reading.public_products(session)
    items = [
        shapes.Product(
            code=row.code,
            name=row.name,
            description=row.description,
            icon=row.icon,
            color=row.color,
            billing_type=row.billing_type,
            features=row.features,
        )
        for row in rows
    ]
    return Answer(shapes.Products(items), headers=_CACHED)


def plans(call: Call) -> Answer:
    code = call.path["code"]
    with call.context.database.system() as session:
        product = reading.product_by_code(session, code)
        if product is None or not product.is_public or product.status != "active":
            raise NotFound("no such product")
        found = reading.public_plans(session, code)
    currencies = call.context.settings.supported_currencies
    return Answer(shapes.Plans([_plan(listing, currencies) for listing in found]), headers=_CACHED)


def bundles(call: Call) -> Answer:
    with call.context.database.system() as session:
        found = reading.public_bundles(session)
    currencies = call.context.settings.supported_currencies
    return Answer(shapes.Bundles([_bundle(listing, currencies) for listing in found]), headers=_CACHED)


def _plan(listing: PlanListing, currencies: Container[str]) -> shapes.Plan:
    plan = listing.plan
    return shapes.Plan(
        code=plan.code,
        name=plan.name,
        product=listing.product.code,
        tier=listing.tier.code,
        version=plan.version,
        base_charge=plan.base_charge,
        features=plan.features,
        limits=plan.limits,
        prices=[
            shapes.Price(currency=price.currency, interval=price.interval, amount_minor=price.amount_minor)
            for price in listing.prices
            if price.currency in currencies
        ],
        usage=[
            shapes.UsageCharge(
                metric=meter.code,
                name=meter.name,
                unit=meter.unit,
                aggregation=meter.aggregation,
                currency=charge.currency,
                terms=charge.terms,
            )
            for charge, meter in listing.charges
            if charge.currency in currencies
        ],
    )


def _bundle(listing: BundleListing, currencies: Container[str]) -> shapes.Bundle:
    members = _list_prices(listing)
    return shapes.Bundle(
        code=listing.bundle.code,
        name=listing.bundle.name,
        description=listing.bundle.description,
        featured=listing.bundle.is_featured,
        members=[
            shapes.BundleMember(
                product=plan.product.code, plan=plan.plan.code, name=plan.plan.name, quantity=member.quantity
            )
            for member, plan in listing.members
        ],
        # A member without a price in a currency leaves that offer without a list price: not for sale.
        prices=[
            _bundle_price(price, members[price.currency, price.interval])
            for price in listing.prices
            if price.currency in currencies
            and len(members[price.currency, price.interval]) == len(listing.members)
        ],
    )


def _list_prices(listing: BundleListing) -> dict[tuple[str, str], list[BundleMember]]:
    found: dict[tuple[str, str], list[BundleMember]] = defaultdict(list)
    for member, plan in listing.members:
        for price in plan.prices:
            found[price.currency, price.interval].append(
                BundleMember(plan.plan.code, Money(price.amount_minor, price.currency), member.quantity)
            )
    return found


def _bundle_price(price: BundlePrice, members: list[BundleMember]) -> shapes.BundlePrice:
    offered = Money(price.amount_minor, price.currency)
    saving = bundle_discount(offered, members)
    listed = offered + saving
    return shapes.BundlePrice(
        currency=price.currency,
        interval=price.interval,
        amount_minor=offered.minor,
        list_minor=listed.minor,
        saving_minor=saving.minor,
        saving_percent=saving_percent(offered, listed),
    )


ROUTES = (
    Route(
        method="GET",
        path="/api/billing/products/",
        view=products,
        access=PUBLIC,
        summary="The products on offer",
        tag="Catalog",
        answer=shapes.Products,
    ),
    Route(
        method="GET",
        path="/api/billing/products/<code>/plans/",
        view=plans,
        access=PUBLIC,
        summary="A product's plans with their prices and usage charges",
        tag="Catalog",
        answer=shapes.Plans,
        refusals=(404,),
    ),
    Route(
        method="GET",
        path="/api/billing/bundles/",
        view=bundles,
        access=PUBLIC,
        summary="The bundles, their members, prices and savings",
        tag="Catalog",
        answer=shapes.Bundles,
    ),
)
