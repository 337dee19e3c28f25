"""The public catalog: products, their plans, bundles and what they save."""

from datetime import timedelta

from billing.errors import NotFound
from models import catalog_queries, reading
from models.catalog_queries import BundleListing, BundlePriceListing, PlanListing
from tasks.settings import Settings
from web import shapes
from web.calls import PUBLIC, Answer, Call, Route

_FRESH = timedelta(minutes=1)
_CACHED = {"Cache-Control": f"public, max-age={_FRESH.seconds}"}


def products(call: Call) -> Answer:
    with call.context.database.system() as session:
        rows = catalog_queries.public_products(session)
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
        found = catalog_queries.public_plans(session, code)
    settings = call.context.settings
    return Answer(shapes.Plans([_plan(listing, settings) for listing in found]), headers=_CACHED)


def bundles(call: Call) -> Answer:
    with call.context.database.system() as session:
        found = catalog_queries.public_bundles(session)
    settings = call.context.settings
    return Answer(shapes.Bundles([_bundle(listing, settings) for listing in found]), headers=_CACHED)


def _plan(listing: PlanListing, settings: Settings) -> shapes.Plan:
    plan, currencies = listing.plan, settings.supported_currencies
    return shapes.Plan(
        code=plan.code,
        name=plan.name,
        product=listing.product.code,
        tier=listing.tier.code,
        version=plan.version,
        base_charge=plan.base_charge,
        features=plan.features,
        limits=plan.limits,
        trial_period_days=settings.trial_period.days,
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
                filters=meter.filters,
                group_by=meter.group_by,
                currency=charge.currency,
                terms=charge.terms,
            )
            for meter, charge in listing.charges
            if charge.currency in currencies
        ],
    )


def _bundle(listing: BundleListing, settings: Settings) -> shapes.Bundle:
    currencies = settings.supported_currencies
    return shapes.Bundle(
        code=listing.bundle.code,
        name=listing.bundle.name,
        description=listing.bundle.description,
        featured=listing.bundle.is_featured,
        trial_period_days=settings.trial_period.days,
        members=[
            shapes.BundleMember(
                product=member.product.code,
                plan=member.plan.code,
                name=member.plan.name,
                quantity=member.quantity,
            )
            for member in listing.members
        ],
        prices=[_bundle_price(entry) for entry in listing.prices if entry.price.currency in currencies],
    )


def _bundle_price(entry: BundlePriceListing) -> shapes.BundlePrice:
    return shapes.BundlePrice(
        currency=entry.price.currency,
        interval=entry.price.interval,
        amount_minor=entry.price.amount_minor,
        list_minor=entry.list_price.minor,
        saving_minor=entry.saving.minor,
        saving_percent=entry.saving_percent,
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
