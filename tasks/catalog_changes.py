"""What a catalog file changes: new objects, changes in place, and new versions. Pure; writes nothing."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from billing.errors import InvalidTerms
from billing.groups import GroupedTerms
from billing.money import Money, format_money
from tasks.catalog_spec import (
    BundleSpec,
    CatalogSpec,
    MeterSpec,
    PlanSpec,
    PriceKey,
    ProductSpec,
    TaxRateSpec,
    TierSpec,
)
from tasks.catalog_stored import terms_record


class Action(StrEnum):
    """`extend` adds prices that nobody has yet; `version` leaves subscribers on what they have."""

    add = "add"
    extend = "extend"
    edit = "edit"
    version = "version"


Spec = TierSpec | TaxRateSpec | ProductSpec | MeterSpec | PlanSpec | BundleSpec


@dataclass(frozen=True, slots=True)
class Change:
    """One object's change; `rows` is how many it adds (a plan with its prices and charges).

    `reprices` are a bundle's prices that get a new version, or end.
    """

    action: Action
    kind: str
    code: str
    spec: Spec
    details: tuple[str, ...] = ()
    rows: int = 0
    reprices: frozenset[PriceKey] = frozenset()


def target(stored: CatalogSpec, wanted: CatalogSpec, *, missing_only: bool = False) -> CatalogSpec:
    """The catalog after `wanted` was applied: what it does not name stays as it is.

    `missing_only`: what is there stays as well, and gets only the meters and prices that it lacks.
    """
    first, last = (wanted, stored) if missing_only else (stored, wanted)
    products = {**first.products, **last.products}
    plans = {**first.plans, **last.plans}
    bundles = {**first.bundles, **last.bundles}
    for code in set(stored.products) & set(wanted.products):
        meters = {**first.products[code].meters, **last.products[code].meters}
        products[code] = replace(products[code], meters=meters)
    if missing_only:
        for code in set(stored.plans) & set(wanted.plans):
            plans[code] = _with_missing(stored.plans[code], wanted.plans[code])
        for code in set(stored.bundles) & set(wanted.bundles):
            prices = {**wanted.bundles[code].prices, **stored.bundles[code].prices}
            bundles[code] = replace(stored.bundles[code], prices=prices)
    return CatalogSpec(
        tiers={**first.tiers, **last.tiers},
        tax_rates={**first.tax_rates, **last.tax_rates},
        products=products,
        plans=plans,
        bundles=bundles,
    )


def _with_missing(old: PlanSpec, wanted: PlanSpec) -> PlanSpec:
    sold = {currency for currency, _ in old.prices}
    charges = {key: terms for key, terms in wanted.charges.items() if key[1] not in sold}
    return replace(old, prices={**wanted.prices, **old.prices}, charges={**charges, **old.charges})


def compare(stored: CatalogSpec, after: CatalogSpec) -> list[Change]:
    """The changes from one catalog to the next, parents before children.

    Raises: InvalidTerms, with the place, for what cannot change or does not fit together.
    """
    plans = list(_plan_changes(stored, after))
    return [
        *_plain("tier", stored.tiers, after.tiers, ("name", "rank")),
        *_tax_rate_changes(stored, after),
        *_plain("product", stored.products, after.products, _PRODUCT_FIELDS),
        *_meter_changes(stored, after),
        *plans,
        *_bundle_changes(stored, after, plans),
    ]


_PRODUCT_FIELDS = ("name", "description", "icon", "color", "billing_type", "status", "public", "features")
_PLAN_FIELDS = ("name", "public", "standalone", "in_bundles")
_BUNDLE_FIELDS = ("name", "description", "public", "featured")


def _plain(
    kind: str, old: Mapping[str, Any], new: Mapping[str, Any], names: Iterable[str]
) -> Iterator[Change]:
    for code, spec in new.items():
        if code not in old:
            yield Change(Action.add, kind, code, spec, rows=1)
        elif details := _field_details(old[code], spec, names):
            yield Change(Action.edit, kind, code, spec, details)


def _field_details(old: object, new: object, names: Iterable[str]) -> tuple[str, ...]:
    pairs = [(name, getattr(old, name), getattr(new, name)) for name in names]
    return tuple(f"{name}: {_shown(before)} -> {_shown(now)}" for name, before, now in pairs if before != now)


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple | list):
        return ", ".join(map(str, value)) or "none"
    return str(value) or '""'


def _tax_rate_changes(stored: CatalogSpec, after: CatalogSpec) -> Iterator[Change]:
    for code, rate in after.tax_rates.items():
        if code not in stored.tax_rates:
            yield Change(Action.add, "tax rate", code, rate, rows=1)
        elif rate != stored.tax_rates[code]:
            raise InvalidTerms("a tax rate never changes: add another one", field=f"tax_rates.{code}")


def _meter_changes(stored: CatalogSpec, after: CatalogSpec) -> Iterator[Change]:
    for product in after.products.values():
        old = stored.products[product.code].meters if product.code in stored.products else {}
        for code, meter in product.meters.items():
            for name in ("aggregation", "unique_property", "filters", "group_by"):
                if code in old and getattr(old[code], name) != getattr(meter, name):
                    raise InvalidTerms(
                        "what a meter counts never changes: add another meter",
                        field=f"products.{product.code}.meters.{code}.{name}",
                    )
        for change in _plain("meter", old, product.meters, ("name", "unit")):
            yield replace(change, code=f"{product.code}.{change.code}")


# -- plans -----------------------------------------------------------------------------------------


def _plan_changes(stored: CatalogSpec, after: CatalogSpec) -> Iterator[Change]:
    for code, plan in after.plans.items():
        old = stored.plans.get(code)
        if old is None:
            rows = 1 + len(plan.prices) + len(plan.charges)
            yield Change(Action.add, "plan", code, plan, tuple(_added_prices(plan.prices, {})), rows)
            continue
        sold_anew = _sold_anew(old, plan)
        edited = _field_details(old, plan, _PLAN_FIELDS)
        added = tuple(_added_prices(plan.prices, old.prices))
        if sold_anew:
            yield Change(Action.version, "plan", code, plan, (*edited, *sold_anew, *added))
            continue
        if edited:
            yield Change(Action.edit, "plan", code, plan, edited)
        if added:
            rows = len(added) + len(set(plan.charges) - set(old.charges))
            yield Change(Action.extend, "plan", code, plan, added, rows)


def _sold_anew(old: PlanSpec, new: PlanSpec) -> tuple[str, ...]:
    """What subscribers of the old version must not feel."""
    return (
        *_field_details(old, new, ("base_charge",)),
        *_set_details("features", set(old.features), set(new.features)),
        *_limit_details(old.limits, new.limits),
        *_price_details(old.prices, new.prices),
        *_charge_details(old, new),
    )


def _set_details(name: str, old: set[str], new: set[str]) -> Iterator[str]:
    if old != new:
        gone, come = sorted(old - new), sorted(new - old)
        yield f"{name}: {', '.join([*(f'+{each}' for each in come), *(f'-{each}' for each in gone)])}"


def _limit_details(old: Mapping[str, int], new: Mapping[str, int]) -> Iterator[str]:
    for name in sorted(set(old) | set(new)):
        before, now = old.get(name, "unlimited"), new.get(name, "unlimited")
        if before != now:
            yield f"limit {name}: {before} -> {now}"


def _price_details(old: Mapping[PriceKey, int], new: Mapping[PriceKey, int]) -> Iterator[str]:
    for key, before in old.items():
        now = new.get(key)
        if now != before:
            after = "no longer sold" if now is None else _price(key, now)
            yield f"price {_named(key)}: {_price(key, before)} -> {after}"


def _added_prices(new: Mapping[PriceKey, int], old: Mapping[PriceKey, int]) -> Iterator[str]:
    return (f"price {_named(key)}: {_price(key, new[key])}" for key in new if key not in old)


def _named(key: PriceKey) -> str:
    return f"{key[0]} per {key[1]}"


def _price(key: PriceKey, minor: int) -> str:
    return format_money(Money(minor, key[0]))


def _charge_details(old: PlanSpec, new: PlanSpec) -> Iterator[str]:
    sold = {currency for currency, _ in old.prices}
    for key in sorted(set(old.charges) | set(new.charges)):
        before, now = old.charges.get(key), new.charges.get(key)
        # A charge that comes with its currency meets no subscriber.
        if before != now and (before is not None or key[1] in sold):
            texts = ("none" if terms is None else _grouped_terms(terms) for terms in (before, now))
            yield f"charge {key[0]} in {key[1]}: {' -> '.join(texts)}"


def _grouped_terms(terms: GroupedTerms) -> str:
    groups = (f"; {group.name}: {_terms(terms_record(group.terms))}" for group in terms.groups)
    return "".join([_terms(terms_record(terms.rest)), *groups])


def _terms(record: Mapping[str, object]) -> str:
    return ", ".join(str(value) if name == "model" else f"{name} {value}" for name, value in record.items())


# -- bundles ---------------------------------------------------------------------------------------


def _bundle_changes(stored: CatalogSpec, after: CatalogSpec, plans: list[Change]) -> Iterator[Change]:
    touched = {change.code for change in plans if change.action is not Action.extend}
    followed = {change.code for change in plans if change.action is Action.version}
    for bundle in after.bundles.values():
        members = {plan for plan, _ in bundle.members}
        found = list(_one_bundle(stored, after, bundle, sorted(members & followed)))
        if found or members & touched:
            _check_bundle(bundle, after)
        yield from found


def _one_bundle(
    stored: CatalogSpec, after: CatalogSpec, bundle: BundleSpec, followed: list[str]
) -> Iterator[Change]:
    old = stored.bundles.get(bundle.code)
    if old is None:
        details = tuple(_added_prices(bundle.prices, {}))
        yield Change(Action.add, "bundle", bundle.code, bundle, details, 1 + len(bundle.prices))
        return
    savings = {
        key: (_saving(old, stored, key), _saving(bundle, after, key))
        for key in old.prices
        if old.prices[key] == bundle.prices.get(key)
    }
    resaved = {key: pair for key, pair in savings.items() if pair[0] != pair[1]}
    details = (
        *_field_details(old, bundle, _BUNDLE_FIELDS),
        *_member_details(old, bundle),
        *(f"follows {plan} to its new version" for plan in followed),
        *_price_details(old.prices, bundle.prices),
        *(
            f"saving {_named(key)}: {_off(key, old)} -> {_off(key, new)}"
            for key, (old, new) in resaved.items()
        ),
    )
    if details:
        repriced = {key for key, minor in old.prices.items() if bundle.prices.get(key) != minor}
        reprices = frozenset(repriced | set(resaved))
        yield Change(Action.edit, "bundle", bundle.code, bundle, details, reprices=reprices)
    if added := tuple(_added_prices(bundle.prices, old.prices)):
        yield Change(Action.extend, "bundle", bundle.code, bundle, added, len(added))


def _member_details(old: BundleSpec, new: BundleSpec) -> Iterator[str]:
    if tuple(old.members) != tuple(new.members):
        before, now = (
            ", ".join(plan if quantity == 1 else f"{quantity} x {plan}" for plan, quantity in each.members)
            for each in (old, new)
        )
        yield f"members: {before} -> {now}"


def _saving(bundle: BundleSpec, catalog: CatalogSpec, key: PriceKey) -> int | None:
    """What the members cost more alone; None when one of them has no such price."""
    total = 0
    for plan, quantity in bundle.members:
        alone = catalog.plans[plan].prices.get(key) if plan in catalog.plans else None
        if alone is None:
            return None
        total += alone * quantity
    return total - bundle.prices[key]


def _off(key: PriceKey, saving: int | None) -> str:
    return "not sold" if saving is None else _price(key, saving)


def _check_bundle(bundle: BundleSpec, after: CatalogSpec) -> None:
    place = f"bundles.{bundle.code}"
    for plan, _ in bundle.members:
        if plan not in after.plans:
            raise InvalidTerms(f"there is no plan {plan}", field=f"{place}.members")
        if not after.plans[plan].in_bundles:
            raise InvalidTerms(f"the plan {plan} is not available in bundles", field=f"{place}.members")
    products = [after.plans[plan].product for plan, _ in bundle.members]
    if len(set(products)) < len(products):
        raise InvalidTerms("has two plans of one product", field=f"{place}.members")
    for key in bundle.prices:
        here = f"{place}.prices.{key[0]}.{key[1]}"
        lacking = [plan for plan, _ in bundle.members if key not in after.plans[plan].prices]
        if lacking:
            raise InvalidTerms(f"{lacking[0]} has no price {_named(key)}", field=here)
        saving = _saving(bundle, after, key)
        if saving is not None and saving < 0:
            raise InvalidTerms(f"costs {_price(key, -saving)} more than its members alone", field=here)
