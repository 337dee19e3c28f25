"""What stands in the database as a specification, and a specification as a file."""

import json
from collections.abc import Iterator, Mapping
from fractions import Fraction

from billing.exact import exact_text
from billing.groups import GroupedTerms, Match, match_record
from billing.metering import Aggregation
from billing.terms import ChargeTerms
from models import catalog_state
from models.catalog_state import CurrentBundle, CurrentPlan
from models.database import Session
from models.organizations import TaxRate
from tasks.catalog_spec import (
    BundleSpec,
    CatalogSpec,
    MeterSpec,
    PlanSpec,
    ProductSpec,
    TaxRateSpec,
    TierSpec,
)

_HEAD = """\
# The catalog. Amounts are minor units; unit prices are decimal strings of minor units ("1.5").
# A plan's code is its product's and its tier's: "autoflow-starter".
"""


def stored(session: Session) -> CatalogSpec:
    """The catalog that is sold now: current versions only."""
    meters: dict[str, dict[str, MeterSpec]] = {}
    for product, meter in catalog_state.meters(session):
        meters.setdefault(product.code, {})[meter.code] = MeterSpec(
            code=meter.code,
            name=meter.name,
            unit=meter.unit,
            aggregation=Aggregation(meter.aggregation),
            unique_property=meter.unique_property,
            filters=dict(meter.filters),
            group_by=list(meter.group_by),
        )
    return CatalogSpec(
        tiers={
            row.code: TierSpec(code=row.code, name=row.name, rank=row.rank)
            for row in catalog_state.tiers(session)
        },
        tax_rates={row.code: _tax_rate(row) for row in catalog_state.tax_rates(session)},
        products={
            row.code: ProductSpec(
                code=row.code,
                name=row.name,
                description=row.description,
                icon=row.icon,
                color=row.color,
                billing_type=row.billing_type,
                status=row.status,
                public=row.is_public,
                features=tuple(row.features),
                meters=meters.get(row.code, {}),
            )
            for row in catalog_state.products(session)
        },
        plans={row.plan.code: _plan(row) for row in catalog_state.plans(session)},
        bundles={row.bundle.code: _bundle(row) for row in catalog_state.bundles(session)},
    )


def _tax_rate(row: TaxRate) -> TaxRateSpec:
    return TaxRateSpec(
        code=row.code,
        name=row.name,
        percentage=exact_text(Fraction(row.percentage)),
        inclusive=row.inclusive,
        country=row.country,
    )


def _plan(row: CurrentPlan) -> PlanSpec:
    plan = row.plan
    return PlanSpec(
        product=row.product.code,
        tier=row.tier.code,
        name=plan.name,
        base_charge=plan.base_charge,
        features=tuple(plan.features),
        limits=dict(plan.limits),
        public=plan.is_public,
        standalone=plan.available_standalone,
        in_bundles=plan.available_in_bundles,
        prices={(price.currency, price.interval): price.amount_minor for price in row.prices},
        charges={
            (meter.code, charge.currency): GroupedTerms.from_record(charge.terms)
            for meter, charge in row.charges
        },
    )


def _bundle(row: CurrentBundle) -> BundleSpec:
    bundle = row.bundle
    return BundleSpec(
        code=bundle.code,
        name=bundle.name,
        description=bundle.description,
        public=bundle.is_public,
        featured=bundle.is_featured,
        prices={(price.currency, price.interval): price.amount_minor for price in row.prices},
        members=tuple((plan.code, member.quantity) for member, plan in row.members),
    )


def as_file(spec: CatalogSpec) -> str:
    """The specification as TOML that reads back as the same."""
    lines = [_HEAD]
    for tier in spec.tiers.values():
        lines += ["[[tiers]]", *_pairs(code=tier.code, name=tier.name, rank=tier.rank), ""]
    for rate in spec.tax_rates.values():
        country = {} if rate.country is None else {"country": rate.country}
        lines += ["[[tax_rates]]", *_pairs(code=rate.code, name=rate.name, percentage=rate.percentage)]
        lines += [*_pairs(inclusive=rate.inclusive, **country), ""]
    for product in spec.products.values():
        lines += _product_lines(product)
        for plan in spec.plans.values():
            if plan.product == product.code:
                lines += _plan_lines(plan)
    for bundle in spec.bundles.values():
        lines += _bundle_lines(bundle)
    return "\n".join(lines)


def _product_lines(product: ProductSpec) -> Iterator[str]:
    yield "[[products]]"
    yield from _pairs(
        code=product.code,
        name=product.name,
        description=product.description,
        icon=product.icon,
        color=product.color,
        billing_type=product.billing_type,
        status=product.status,
        public=product.public,
        features=list(product.features),
    )
    yield ""
    for meter in product.meters.values():
        yield "[[products.meters]]"
        yield from _pairs(code=meter.code, name=meter.name, unit=meter.unit)
        yield from _pairs(aggregation=meter.aggregation.value)
        if meter.unique_property is not None:
            yield from _pairs(unique_property=meter.unique_property)
        if meter.filters:
            yield from _pairs(filters=meter.filters)
        if meter.group_by:
            yield from _pairs(group_by=meter.group_by)
        yield ""


def _plan_lines(plan: PlanSpec) -> Iterator[str]:
    here = f"products.plans.{_key(plan.tier)}"
    yield f"[{here}]"
    yield from _pairs(
        name=plan.name,
        base_charge=plan.base_charge,
        features=list(plan.features),
        limits=dict(plan.limits),
        public=plan.public,
        standalone=plan.standalone,
        in_bundles=plan.in_bundles,
    )
    yield from _price_lines(plan.prices)
    yield ""
    for (meter, currency), terms in sorted(plan.charges.items()):
        charge = f"{here}.charges.{_key(meter)}.{currency}"
        yield f"[{charge}]"
        yield from _pairs(**terms_record(terms.rest))
        yield ""
        for group in terms.groups:
            yield f"[[{charge}.groups]]"
            yield from _pairs(match=_short(group.match), **terms_record(group.terms))
            yield ""


def _bundle_lines(bundle: BundleSpec) -> Iterator[str]:
    yield "[[bundles]]"
    members = [
        plan if quantity == 1 else {"plan": plan, "quantity": quantity} for plan, quantity in bundle.members
    ]
    yield from _pairs(
        code=bundle.code,
        name=bundle.name,
        description=bundle.description,
        public=bundle.public,
        featured=bundle.featured,
        members=members,
    )
    yield from _price_lines(bundle.prices)
    yield ""


def _price_lines(prices: Mapping[tuple[str, str], int]) -> Iterator[str]:
    for currency in sorted({currency for currency, _ in prices}):
        own = {interval: prices[currency, interval] for each, interval in prices if each == currency}
        yield f"prices.{currency} = {_value(own)}"


def _short(match: Match) -> dict[str, object]:
    """A match as a person writes it: one value by itself, several as a list."""
    return {name: values[0] if len(values) == 1 else values for name, values in match_record(match).items()}


def terms_record(terms: ChargeTerms) -> dict[str, object]:
    """The parts of terms that are not their defaults, as a file writes them (without the currency)."""
    record = terms.to_record()
    tiers = [
        {name: value for name, value in tier.to_record().items() if value not in (None, "0")}
        for tier in terms.tiers
    ]
    kept = {
        name: value
        for name, value in record.items()
        if value not in (None, "0", []) and name not in ("shape", "currency", "tiers")
    }
    return {**kept, "tiers": tiers} if tiers else kept


def _pairs(**values: object) -> list[str]:
    return [f"{_key(name)} = {_value(value)}" for name, value in values.items()]


def _key(name: str) -> str:
    bare = name.isascii() and name.replace("_", "").replace("-", "").isalnum()
    return name if bare else _value(name)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        inner = ", ".join(f"{_key(name)} = {_value(each)}" for name, each in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    # A JSON string is a TOML string, but for the one control character that JSON lets through.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
