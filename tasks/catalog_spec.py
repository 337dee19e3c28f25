"""The catalog as words: what a catalog file says, and what stands in the database, in the same shape.

Amounts are minor units. A price is named by (currency, interval), a charge by (meter, currency).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

from msgspec import Meta, Struct

from billing.groups import GroupedTerms
from billing.metering import MAX_PROPERTY_KEY, Aggregation

Code = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_-]{0,63}$")]
Name = Annotated[str, Meta(min_length=1, max_length=200)]
PropertyName = Annotated[str, Meta(min_length=1, max_length=MAX_PROPERTY_KEY)]
Words = Annotated[str, Meta(max_length=2000)]
# What a product asks for by name, and how much of it a plan gives; a limit that is absent is unlimited.
Features = Annotated[list[Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,63}$")]], Meta(max_length=200)]
LimitName = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
Limit = Annotated[int, Meta(ge=0, le=2**53 - 1)]

GroupBy = Annotated[list[PropertyName], Meta(max_length=10)]

PriceKey = tuple[str, str]
ChargeKey = tuple[str, str]


class TierSpec(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    code: Code
    name: Name
    rank: Annotated[int, Meta(ge=0, le=1000)]


class TaxRateSpec(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`percentage` is a decimal string: "15" or "7.25"."""

    code: Code
    name: Name
    percentage: Annotated[str, Meta(pattern=r"^[0-9]{1,3}(\.[0-9]{1,4})?$")]
    inclusive: bool = False
    country: Annotated[str, Meta(pattern=r"^[A-Z]{2}$")] | None = None


class MeterSpec(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`filters` as `billing.groups.match_record` writes them."""

    code: Code
    name: Name
    unit: Name
    aggregation: Aggregation
    unique_property: Name | None = None
    filters: dict[str, object] = {}
    group_by: GroupBy = []


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSpec:
    product: str
    tier: str
    name: str
    base_charge: str
    features: Sequence[str]
    limits: Mapping[str, int]
    public: bool = True
    standalone: bool = True
    in_bundles: bool = True
    prices: Mapping[PriceKey, int]
    charges: Mapping[ChargeKey, GroupedTerms]

    @property
    def code(self) -> str:
        return f"{self.product}-{self.tier}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductSpec:
    code: str
    name: str
    description: str = ""
    icon: str = ""
    color: str = ""
    billing_type: str
    status: str = "active"
    public: bool = True
    features: Sequence[str] = ()
    meters: Mapping[str, MeterSpec] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleSpec:
    """`members` are plan codes with their listed quantity, in their place."""

    code: str
    name: str
    description: str = ""
    public: bool = True
    featured: bool = False
    prices: Mapping[PriceKey, int]
    members: Sequence[tuple[str, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogSpec:
    """Every object by its code, parents before children."""

    tiers: Mapping[str, TierSpec] = field(default_factory=dict)
    tax_rates: Mapping[str, TaxRateSpec] = field(default_factory=dict)
    products: Mapping[str, ProductSpec] = field(default_factory=dict)
    plans: Mapping[str, PlanSpec] = field(default_factory=dict)
    bundles: Mapping[str, BundleSpec] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """How many rows it makes, the members of bundles not counted."""
        children = sum(len(plan.prices) + len(plan.charges) for plan in self.plans.values())
        children += sum(len(product.meters) for product in self.products.values())
        children += sum(len(bundle.prices) for bundle in self.bundles.values())
        parents = (self.tiers, self.tax_rates, self.products, self.plans, self.bundles)
        return children + sum(map(len, parents))


class PlanFile(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A plan as a file writes it; name and base charge default to those of its tier and product."""

    name: Name | None = None
    base_charge: Literal["flat", "per_seat"] | None = None
    features: Features = []
    limits: dict[str, object] = {}
    public: bool = True
    standalone: bool = True
    in_bundles: bool = True
    prices: dict[str, object]
    charges: dict[str, dict[str, dict[str, object]]] = {}


class ProductFile(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    code: Code
    name: Name
    description: Words = ""
    icon: Annotated[str, Meta(max_length=16)] = ""
    color: Annotated[str, Meta(pattern=r"^(#[0-9A-Fa-f]{6})?$")] = ""
    billing_type: Literal["hybrid", "per_user", "flat", "usage"]
    base_charge: Literal["flat", "per_seat"] = "flat"
    status: Literal["active", "inactive"] = "active"
    public: bool = True
    features: Annotated[list[Name], Meta(max_length=50)] = []
    meters: list[MeterSpec] = []
    plans: dict[str, dict[str, object]] = {}


class MemberFile(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    plan: Name
    quantity: Annotated[int, Meta(ge=1, le=100_000)] = 1


class BundleFile(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    code: Code
    name: Name
    description: Words = ""
    public: bool = True
    featured: bool = False
    prices: dict[str, object]
    members: Annotated[list[Name | MemberFile], Meta(min_length=1, max_length=50)]


class CatalogFile(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The top of a file; products and bundles are read one at a time, so that errors name them."""

    interval_factors: dict[Literal["month", "quarter", "year"], str] = {}
    tiers: list[TierSpec] = []
    tax_rates: list[TaxRateSpec] = []
    products: list[dict[str, object]] = []
    bundles: list[dict[str, object]] = []
