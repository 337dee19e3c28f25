"""The catalog that ships: read from its file, checked, and added to the database where it is missing."""

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

from billing.metering import Aggregation
from billing.money import Money
from billing.rating import ChargeTerms
from models import catalog_queries
from models.base import Base
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
from tasks.context import Context

_SHIPPED = Path(__file__).parent / "catalog_seed" / "catalog.toml"

Row = TypeVar("Row", bound=Base)


@dataclass(frozen=True, slots=True)
class SeedReport:
    """How many rows of the shipped catalog were made now, and how many were there."""

    created: int
    unchanged: int

    def __str__(self) -> str:
        return f"{self.created} created, {self.unchanged} unchanged"


def seed(context: Context) -> SeedReport:
    """Add what is missing of the shipped catalog, in one transaction; what is there stays as it is.

    A catalog that was edited since is therefore not put back. Safe to run at any time, also twice
    at once.
    """
    shipped = tomllib.loads(_SHIPPED.read_text(encoding="utf-8"))
    with context.system() as unit:
        catalog_queries.lock_catalog(unit.session)
        seeding = _Seeding(unit.session, shipped)
        seeding.run()
    return SeedReport(seeding.created, seeding.unchanged)


class _Seeding:
    """One run over the shipped catalog, parents before children."""

    def __init__(self, session: Session, shipped: dict[str, Any]) -> None:
        self.session = session
        self.shipped = shipped
        self.factors = {interval: Fraction(text) for interval, text in shipped["interval_factors"].items()}
        self.created = 0
        self.unchanged = 0

    def run(self) -> None:
        tiers = [
            self._ensure(PlanTier, {"code": tier["code"]}, **_without(tier, "code"))
            for tier in self.shipped["tiers"]
        ]
        for rate in self.shipped["tax_rates"]:
            percentage = Decimal(rate["percentage"])
            self._ensure(
                TaxRate, {"code": rate["code"]}, **_without(rate, "code", "percentage"), percentage=percentage
            )
        for product in self.shipped["products"]:
            self._product(product, tiers)
        for bundle in self.shipped["bundles"]:
            self._bundle(bundle)

    def _product(self, shipped: dict[str, Any], tiers: list[PlanTier]) -> None:
        own = _without(shipped, "code", "plans", "meters", "base_charge")
        product = self._ensure(Product, {"code": shipped["code"]}, **own)
        meters = {
            meter["code"]: self._ensure(
                Meter,
                {"product_id": product.id, "code": meter["code"]},
                name=meter["name"],
                unit=meter["unit"],
                aggregation=Aggregation(meter["aggregation"]).value,
            )
            for meter in shipped.get("meters", ())
        }
        for tier in tiers:
            plan = self._plan(product, tier, shipped)
            self._charges(plan, meters, shipped["plans"][tier.code].get("charges", {}))

    def _plan(self, product: Product, tier: PlanTier, shipped: dict[str, Any]) -> ProductPlan:
        terms = shipped["plans"][tier.code]
        plan = self._ensure(
            ProductPlan,
            {"product_id": product.id, "tier_id": tier.id, "version": 1},
            code=f"{product.code}-{tier.code}",
            name=tier.name,
            base_charge=shipped["base_charge"],
            features=terms["features"],
            limits=terms["limits"],
        )
        for currency, interval, amount_minor in self._amounts(terms["prices"]):
            identity = {"plan_id": plan.id, "currency": currency, "interval": interval}
            self._ensure(PlanPrice, identity, amount_minor=amount_minor)
        return plan

    def _charges(self, plan: ProductPlan, meters: dict[str, Meter], shipped: dict[str, Any]) -> None:
        for meter_code, currencies in shipped.items():
            for currency, terms in currencies.items():
                self._ensure(
                    PlanCharge,
                    {"plan_id": plan.id, "meter_id": meters[meter_code].id, "currency": currency},
                    terms=ChargeTerms.from_record({"currency": currency, **terms}).to_record(),
                )

    def _bundle(self, shipped: dict[str, Any]) -> None:
        bundle = self._ensure(
            SubscriptionBundle,
            {"code": shipped["code"]},
            name=shipped["name"],
            description=shipped["description"],
            is_featured=shipped["featured"],
        )
        for currency, interval, amount_minor in self._amounts(shipped["prices"]):
            identity = {"bundle_id": bundle.id, "currency": currency, "interval": interval}
            self._ensure(BundlePrice, identity, amount_minor=amount_minor)
        self._members(bundle, shipped["members"])

    def _members(self, bundle: SubscriptionBundle, plan_codes: list[str]) -> None:
        """Give a bundle without members its own; one that has some may have been edited since."""
        present = catalog_queries.bundle_members(self.session, bundle.id)
        self.unchanged += len(present)
        for position, code in enumerate(() if present else plan_codes):
            plan = catalog_queries.current_plan(self.session, code)
            assert plan is not None, f"the bundle {bundle.code} names the unknown plan {code}"
            self._ensure(BundleProduct, {"bundle_id": bundle.id, "plan_id": plan.id}, position=position)

    def _amounts(self, monthly: dict[str, int]) -> Iterator[tuple[str, str, int]]:
        """Each currency and interval with its price, from the monthly ones."""
        for currency, amount_minor in monthly.items():
            for interval, factor in self.factors.items():
                yield currency, interval, Money(amount_minor, currency).scaled(factor).minor

    def _ensure(self, row_type: type[Row], identity: dict[str, Any], **values: Any) -> Row:
        row, made = catalog_queries.ensure(self.session, row_type, identity, **values)
        self.created += made
        self.unchanged += not made
        return row


def _without(record: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in names}
