"""A catalog file (TOML) becomes a specification; whatever is wrong in it is named by its place."""

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

import msgspec

from billing.currencies import charge_step, is_currency
from billing.errors import InvalidTerms
from billing.exact import exact_number
from billing.groups import GroupedTerms, check_names, match_record, read_match
from billing.money import Money
from tasks.catalog_spec import (
    BundleFile,
    BundleSpec,
    CatalogFile,
    CatalogSpec,
    ChargeKey,
    Limit,
    LimitName,
    MemberFile,
    MeterSpec,
    PlanFile,
    PlanSpec,
    PriceKey,
    ProductFile,
    ProductSpec,
)

_INTERVALS = ("month", "quarter", "year")
# Stripe's bound on an amount: eight digits.
_MOST_MINOR = 99_999_999

Shape = TypeVar("Shape")


def parse(text: str, known: CatalogSpec | None = None) -> CatalogSpec:
    """Read a catalog file. Raises InvalidTerms whose field is the place: `products.autoflow.plans...`.

    With a `known` catalog a file may hold plans alone: tiers, meters, what a product is called and how its
    plans are charged are taken from there, unless the file says them itself.
    """
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidTerms(f"is not TOML: {error}", field="file") from error
    return _Reading(_shaped(raw, CatalogFile, ""), known or CatalogSpec()).spec()


def _shaped(value: object, shape: type[Shape], place: str) -> Shape:
    try:
        return msgspec.convert(value, type=shape)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$")
        # A bad key of a table is named by the message alone.
        path = path.rstrip("`").replace("[...]", "")
        raise InvalidTerms(message[:1].lower() + message[1:], field=(place + path).lstrip(".")) from error


def _by_code(rows: Iterable[tuple[str, Shape]], place: str) -> dict[str, Shape]:
    found: dict[str, Shape] = {}
    for code, row in rows:
        if code in found:
            raise InvalidTerms("stands there twice", field=f"{place}.{code}")
        found[code] = row
    return found


def _place(kind: str, index: int, raw: Mapping[str, object]) -> str:
    code = raw.get("code")
    return f"{kind}.{code}" if isinstance(code, str) and code else f"{kind}[{index}]"


@dataclass(frozen=True, slots=True)
class _Reading:
    file: CatalogFile
    known: CatalogSpec

    def spec(self) -> CatalogSpec:
        own = _by_code(((tier.code, tier) for tier in self.file.tiers), "tiers")
        tiers = {**self.known.tiers, **own}
        plans: list[tuple[str, PlanSpec]] = []
        products: list[tuple[str, ProductSpec]] = []
        for index, raw in enumerate(self.file.products):
            place = _place("products", index, raw)
            product = _shaped({**self._known_product(raw), **raw}, ProductFile, place)
            products.append((product.code, _product(product, place)))
            for tier, plan in product.plans.items():
                if tier not in tiers:
                    raise InvalidTerms("is not one of the file's tiers", field=f"{place}.plans.{tier}")
                made = self._plan(product, plan, (tier, tiers[tier].name), f"{place}.plans.{tier}")
                plans.append((made.code, made))
        return CatalogSpec(
            tiers=own,
            tax_rates=_by_code(((rate.code, rate) for rate in self.file.tax_rates), "tax_rates"),
            products=_by_code(products, "products"),
            plans=_by_code(plans, "plans"),
            bundles=_by_code(self._bundles(), "bundles"),
        )

    def _known_product(self, raw: Mapping[str, object]) -> dict[str, object]:
        found = self.known.products.get(str(raw.get("code")))
        return {} if found is None else {"name": found.name, "billing_type": found.billing_type}

    def _plan(
        self, product: ProductFile, raw: Mapping[str, object], tier: tuple[str, str], place: str
    ) -> PlanSpec:
        plan = _shaped(raw, PlanFile, place)
        if len(set(plan.features)) < len(plan.features):
            raise InvalidTerms("names a feature twice", field=f"{place}.features")
        prices = self._prices(plan.prices, f"{place}.prices")
        known = self.known.products.get(product.code)
        meters = {**(known.meters if known else {}), **{meter.code: meter for meter in product.meters}}
        before = self.known.plans.get(f"{product.code}-{tier[0]}")
        return PlanSpec(
            product=product.code,
            tier=tier[0],
            name=plan.name or tier[1],
            base_charge=plan.base_charge or (before.base_charge if before else product.base_charge),
            features=tuple(plan.features),
            limits={name: _limit(name, most, f"{place}.limits") for name, most in plan.limits.items()},
            public=plan.public,
            standalone=plan.standalone,
            in_bundles=plan.in_bundles,
            prices=prices,
            charges=_charges(plan, meters, {currency for currency, _ in prices}, f"{place}.charges"),
        )

    def _bundles(self) -> Iterator[tuple[str, BundleSpec]]:
        for index, raw in enumerate(self.file.bundles):
            place = _place("bundles", index, raw)
            bundle = _shaped(raw, BundleFile, place)
            members = [
                (each.plan, each.quantity) if isinstance(each, MemberFile) else (each, 1)
                for each in bundle.members
            ]
            if len({plan for plan, _ in members}) < len(members):
                raise InvalidTerms("names a plan twice", field=f"{place}.members")
            yield (
                bundle.code,
                BundleSpec(
                    code=bundle.code,
                    name=bundle.name,
                    description=bundle.description,
                    public=bundle.public,
                    featured=bundle.featured,
                    prices=self._prices(bundle.prices, f"{place}.prices"),
                    members=tuple(members),
                ),
            )

    def _prices(self, raw: Mapping[str, object], place: str) -> dict[PriceKey, int]:
        """`USD = 3500` is the price of a month, which the factors make those of longer intervals of."""
        prices: dict[PriceKey, int] = {}
        for currency, price in raw.items():
            here = f"{place}.{currency}"
            if not is_currency(currency):
                raise InvalidTerms("is not a currency of ISO 4217", field=here)
            if isinstance(price, dict):
                for interval, amount in price.items():
                    if interval not in _INTERVALS:
                        raise InvalidTerms(
                            f"must be one of {', '.join(_INTERVALS)}", field=f"{here}.{interval}"
                        )
                    prices[currency, interval] = _amount(amount, currency, f"{here}.{interval}")
                continue
            monthly = Money(_amount(price, currency, here), currency)
            for interval, factor in self._factors().items():
                longer = monthly.scaled(factor).minor
                prices[currency, interval] = _amount(longer, currency, f"{here} per {interval}")
        if not prices:
            raise InvalidTerms("needs a price", field=place)
        return prices

    def _factors(self) -> dict[str, Fraction]:
        factors = self.file.interval_factors or {"month": "1"}
        return {
            interval: exact_number(text, field=f"interval_factors.{interval}")
            for interval, text in factors.items()
        }


def _product(product: ProductFile, place: str) -> ProductSpec:
    meters = {
        code: _meter(meter, f"{place}.meters.{code}")
        for code, meter in _by_code(((each.code, each) for each in product.meters), f"{place}.meters").items()
    }
    return ProductSpec(
        code=product.code,
        name=product.name,
        description=product.description,
        icon=product.icon,
        color=product.color,
        billing_type=product.billing_type,
        status=product.status,
        public=product.public,
        features=tuple(product.features),
        meters=meters,
    )


def _meter(meter: MeterSpec, place: str) -> MeterSpec:
    if (meter.aggregation == "unique") != (meter.unique_property is not None):
        raise InvalidTerms("unique_property goes with the aggregation unique", field=place)
    if len(set(meter.group_by)) < len(meter.group_by):
        raise InvalidTerms("names a property twice", field=f"{place}.group_by")
    filters = match_record(read_match(meter.filters, field=f"{place}.filters"))
    return msgspec.structs.replace(meter, filters=dict(filters), group_by=sorted(meter.group_by))


def _limit(name: str, most: object, place: str) -> int:
    _shaped({name: 0}, dict[LimitName, int], f"{place}.{name}")
    return int(_shaped(most, Limit, f"{place}.{name}"))


def _amount(amount: object, currency: str, place: str) -> int:
    if not isinstance(amount, int) or isinstance(amount, bool) or not 0 <= amount <= _MOST_MINOR:
        raise InvalidTerms(f"must be a whole number of minor units, 0 to {_MOST_MINOR}", field=place)
    step = charge_step(currency)
    if amount % step:
        raise InvalidTerms(f"{currency} can be charged in steps of {step} minor units only", field=place)
    return amount


def _charges(
    plan: PlanFile, meters: Mapping[str, MeterSpec], currencies: set[str], place: str
) -> dict[ChargeKey, GroupedTerms]:
    charges: dict[ChargeKey, GroupedTerms] = {}
    for meter, per_currency in plan.charges.items():
        here = f"{place}.{meter}"
        if meter not in meters:
            raise InvalidTerms("is not one of the product's meters", field=here)
        if set(per_currency) != currencies:
            odd = min(set(per_currency) ^ currencies)
            raise InvalidTerms("a charge and a price go together in each currency", field=f"{here}.{odd}")
        for currency, record in per_currency.items():
            terms = _terms(currency, record, f"{here}.{currency}")
            check_names(terms.names, meters[meter].group_by, field=f"{here}.{currency}.groups")
            charges[meter, currency] = terms
    return charges


def _terms(currency: str, record: Mapping[str, object], place: str) -> GroupedTerms:
    if "currency" in record:
        raise InvalidTerms("is the table's name", field=f"{place}.currency")
    try:
        return GroupedTerms.from_record({"currency": currency, **record})
    except InvalidTerms as error:
        raise InvalidTerms(str(error), field=f"{place}.{error.field}") from error
