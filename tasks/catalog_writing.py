"""Changes of the catalog become rows. The caller holds the catalog's lock and the transaction."""

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any

from models import catalog_rows
from models.catalog import (
    BundlePrice,
    BundleProduct,
    Meter,
    PlanCharge,
    PlanPrice,
    PlanTier,
    Product,
    ProductPlan,
    SubscriptionBundle,
)
from models.database import Session
from models.organizations import TaxRate
from tasks.catalog_changes import Action, Change
from tasks.catalog_spec import BundleSpec, MeterSpec, PlanSpec, PriceKey, ProductSpec, TaxRateSpec, TierSpec


def write(session: Session, changes: list[Change], now: datetime) -> None:
    """Write changes that a comparison found, in their sequence. Versions that end are superseded `now`."""
    for change in changes:
        _WRITERS[type(change.spec)](session, change, now)
        session.flush()


def _tier(session: Session, change: Change, _now: datetime) -> None:
    spec = change.spec
    assert isinstance(spec, TierSpec)
    catalog_rows.put(session, PlanTier, {"code": spec.code}, name=spec.name, rank=spec.rank)


def _tax_rate(session: Session, change: Change, _now: datetime) -> None:
    spec = change.spec
    assert isinstance(spec, TaxRateSpec)
    catalog_rows.put(
        session,
        TaxRate,
        {"code": spec.code},
        name=spec.name,
        percentage=Decimal(spec.percentage),
        inclusive=spec.inclusive,
        country=spec.country,
    )


def _product(session: Session, change: Change, _now: datetime) -> None:
    spec = change.spec
    assert isinstance(spec, ProductSpec)
    catalog_rows.put(
        session,
        Product,
        {"code": spec.code},
        name=spec.name,
        description=spec.description,
        icon=spec.icon,
        color=spec.color,
        billing_type=spec.billing_type,
        status=spec.status,
        is_public=spec.public,
        features=list(spec.features),
    )


def _meter(session: Session, change: Change, _now: datetime) -> None:
    spec = change.spec
    assert isinstance(spec, MeterSpec)
    product_code, _, code = change.code.rpartition(".")
    product = catalog_rows.one(session, Product, code=product_code)
    catalog_rows.put(
        session,
        Meter,
        {"product_id": product.id, "code": code},
        name=spec.name,
        unit=spec.unit,
        aggregation=spec.aggregation.value,
        unique_property=spec.unique_property,
        filters=spec.filters,
        group_by=spec.group_by,
    )


def _plan(session: Session, change: Change, now: datetime) -> None:
    spec = change.spec
    assert isinstance(spec, PlanSpec)
    present = catalog_rows.find(session, ProductPlan, code=spec.code, superseded_at=None)
    if change.action is Action.edit:
        assert present is not None
        for name, value in _in_place(spec).items():
            setattr(present, name, value)
    elif change.action is Action.extend:
        assert present is not None
        _priced(session, present, spec)
    else:
        version = 1
        if present is not None:
            version = present.version + 1
            present.superseded_at = now
            session.flush()
        _priced(session, _new_plan(session, spec, version), spec)


def _in_place(spec: PlanSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "is_public": spec.public,
        "available_standalone": spec.standalone,
        "available_in_bundles": spec.in_bundles,
    }


def _new_plan(session: Session, spec: PlanSpec, version: int) -> ProductPlan:
    plan = ProductPlan(
        product_id=catalog_rows.one(session, Product, code=spec.product).id,
        tier_id=catalog_rows.one(session, PlanTier, code=spec.tier).id,
        code=spec.code,
        version=version,
        base_charge=spec.base_charge,
        features=list(spec.features),
        limits=dict(spec.limits),
        **_in_place(spec),
    )
    session.add(plan)
    session.flush()
    return plan


def _priced(session: Session, plan: ProductPlan, spec: PlanSpec) -> None:
    """Add the prices and charges that the version lacks; those it has stay."""
    for (currency, interval), amount_minor in spec.prices.items():
        identity = {"plan_id": plan.id, "currency": currency, "interval": interval}
        catalog_rows.ensure(session, PlanPrice, identity, amount_minor=amount_minor)
    for (code, currency), terms in spec.charges.items():
        meter = catalog_rows.one(session, Meter, product_id=plan.product_id, code=code)
        identity = {"plan_id": plan.id, "meter_id": meter.id, "currency": currency}
        catalog_rows.ensure(session, PlanCharge, identity, terms=terms.to_record())


def _bundle(session: Session, change: Change, now: datetime) -> None:
    spec = change.spec
    assert isinstance(spec, BundleSpec)
    if change.action is not Action.extend:
        bundle = catalog_rows.put(
            session,
            SubscriptionBundle,
            {"code": spec.code},
            name=spec.name,
            description=spec.description,
            is_public=spec.public,
            is_featured=spec.featured,
        )
        _members(session, bundle, spec)
    bundle = catalog_rows.one(session, SubscriptionBundle, code=spec.code)
    for key in change.reprices:
        current = catalog_rows.one(session, BundlePrice, **_price_identity(bundle, key), superseded_at=None)
        current.superseded_at = now
    session.flush()
    for key, amount_minor in spec.prices.items():
        identity = _price_identity(bundle, key)
        version = catalog_rows.count(session, BundlePrice, **identity) + 1
        values = {"amount_minor": amount_minor, "version": version}
        catalog_rows.ensure(session, BundlePrice, {**identity, "superseded_at": None}, **values)


def _price_identity(bundle: SubscriptionBundle, key: PriceKey) -> dict[str, Any]:
    return {"bundle_id": bundle.id, "currency": key[0], "interval": key[1]}


def _members(session: Session, bundle: SubscriptionBundle, spec: BundleSpec) -> None:
    """The members anew, at the current versions of their plans; subscribers keep items of their own."""
    catalog_rows.remove(session, BundleProduct, bundle_id=bundle.id)
    for position, (code, quantity) in enumerate(spec.members):
        plan = catalog_rows.one(session, ProductPlan, code=code, superseded_at=None)
        session.add(BundleProduct(bundle_id=bundle.id, plan_id=plan.id, quantity=quantity, position=position))


_WRITERS: dict[type, Callable[[Session, Change, datetime], None]] = {
    TierSpec: _tier,
    TaxRateSpec: _tax_rate,
    ProductSpec: _product,
    MeterSpec: _meter,
    PlanSpec: _plan,
    BundleSpec: _bundle,
}
