"""Price terms: how a product's quantity is charged. Checked when made, stored on invoice lines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from fractions import Fraction

from billing.currencies import charge_step
from billing.errors import InvalidTerms
from billing.exact import exact_number, exact_text
from billing.money import Money

_SHAPE = 1
_ZERO = Fraction(0)
_ONE = Fraction(1)


class ChargeModel(StrEnum):
    """The formulas of README.md."""

    per_unit = "per_unit"
    per_seat = "per_seat"
    flat = "flat"
    package = "package"
    graduated = "graduated"
    volume = "volume"
    stairstep = "stairstep"
    percentage = "percentage"


TIERED = frozenset((ChargeModel.graduated, ChargeModel.volume, ChargeModel.stairstep))
_UNIT_PRICED = frozenset((ChargeModel.per_unit, ChargeModel.per_seat, ChargeModel.flat, ChargeModel.package))


@dataclass(frozen=True, slots=True)
class Tier:
    """A stretch of quantities above the previous tier's bound, up to and including `up_to`.

    `up_to` None is the open end. Prices are exact, in minor units: `flat` once when the tier is used.
    """

    up_to: Fraction | None
    unit_price: Fraction = _ZERO
    flat: Fraction = _ZERO

    def to_record(self) -> dict[str, object]:
        """JSON-safe, numbers as exact text."""
        return {
            "up_to": None if self.up_to is None else exact_text(self.up_to),
            "unit_price": exact_text(self.unit_price),
            "flat": exact_text(self.flat),
        }

    @classmethod
    def from_record(cls, record: object, *, field: str) -> Tier:
        """Read what `to_record` wrote. Raises: InvalidTerms."""
        if not isinstance(record, Mapping) or set(record) - {"up_to", "unit_price", "flat"}:
            raise InvalidTerms("a tier has up_to, unit_price and flat", field=field)
        up_to = record.get("up_to")
        return cls(
            up_to=None if up_to is None else exact_number(up_to, field=f"{field}.up_to"),
            unit_price=exact_number(record.get("unit_price", 0), field=f"{field}.unit_price"),
            flat=exact_number(record.get("flat", 0), field=f"{field}.flat"),
        )


@dataclass(frozen=True, slots=True)
class ChargeTerms:
    """How a quantity is priced; prices exact, in minor units of `currency`.

    `included` units are free; `fixed` is charged once whatever the quantity; `share` is the part of
    the quantity (itself an amount in minor units) that a percentage model takes; the minimum and
    maximum bound the whole charge. A part that the model would ignore is refused.

    Raises: InvalidTerms, naming the field.
    """

    model: ChargeModel
    currency: str
    unit_price: Fraction = _ZERO
    included: Fraction = _ZERO
    tiers: tuple[Tier, ...] = ()
    package_size: Fraction | None = None
    share: Fraction | None = None
    fixed: Fraction = _ZERO
    minimum_minor: int | None = None
    maximum_minor: int | None = None

    def __post_init__(self) -> None:
        _check_numbers(self)
        _check_parts(self)
        _check_tiers(self)

    def scaled(self, size: Fraction, price: Fraction = _ONE) -> ChargeTerms:
        """The same terms for quantities `size` times as large, at prices `price` times as high.

        The allowance and the tiers' bounds are positions on the axis of the quantity, and go with `size`;
        unit prices, and the part that a percentage takes, with `price`; an amount that is due once (fixed,
        flat, minimum, maximum) with both. Packages keep their size. The bounds of the charge are rounded.
        Raises: ValueError for a factor that is not above zero.
        """
        if size <= 0 or price <= 0:
            raise ValueError(f"terms are scaled by what is above zero, not by {size} and {price}")
        whole = size * price
        minimum, maximum = (
            None if bound is None else Money(bound, self.currency).scaled(whole).minor
            for bound in (self.minimum_minor, self.maximum_minor)
        )
        return replace(
            self,
            unit_price=self.unit_price * (whole if self.model is ChargeModel.flat else price),
            included=self.included * size,
            tiers=tuple(
                Tier(
                    None if tier.up_to is None else tier.up_to * size,
                    tier.unit_price * price,
                    tier.flat * whole,
                )
                for tier in self.tiers
            ),
            share=None if self.share is None else self.share * price,
            fixed=self.fixed * whole,
            minimum_minor=minimum,
            maximum_minor=maximum,
        )

    def to_record(self) -> dict[str, object]:
        """JSON-safe, numbers as exact text; `shape` says which reader understands it."""
        return {
            "shape": _SHAPE,
            "model": self.model.value,
            "currency": self.currency,
            "unit_price": exact_text(self.unit_price),
            "included": exact_text(self.included),
            "tiers": [tier.to_record() for tier in self.tiers],
            "package_size": None if self.package_size is None else exact_text(self.package_size),
            "share": None if self.share is None else exact_text(self.share),
            "fixed": exact_text(self.fixed),
            "minimum_minor": self.minimum_minor,
            "maximum_minor": self.maximum_minor,
        }

    @classmethod
    def from_record(cls, record: Mapping[str, object]) -> ChargeTerms:
        """Read what `to_record` wrote; absent parts take their defaults, an absent shape is shape 1.

        Raises: InvalidTerms for an unknown shape or part, or terms that make no sense.
        """
        if record.get("shape", _SHAPE) != _SHAPE:
            raise InvalidTerms(f"unknown shape of terms: {record['shape']}", field="shape")
        unknown = set(record) - {field.name for field in fields(cls)} - {"shape"}
        if unknown:
            raise InvalidTerms("is not a part of terms", field=min(map(str, unknown)))
        return cls(
            model=_model(record.get("model")),
            currency=_currency(record.get("currency")),
            unit_price=exact_number(record.get("unit_price", 0), field="unit_price"),
            included=exact_number(record.get("included", 0), field="included"),
            tiers=_tiers(record.get("tiers", ())),
            package_size=_optional_number(record, "package_size"),
            share=_optional_number(record, "share"),
            fixed=exact_number(record.get("fixed", 0), field="fixed"),
            minimum_minor=_optional_minor(record, "minimum_minor"),
            maximum_minor=_optional_minor(record, "maximum_minor"),
        )


def _check_numbers(terms: ChargeTerms) -> None:
    for name in (
        "unit_price",
        "included",
        "fixed",
        "package_size",
        "share",
        "minimum_minor",
        "maximum_minor",
    ):
        _check_number(getattr(terms, name), name)
    for index, tier in enumerate(terms.tiers):
        for name in ("up_to", "unit_price", "flat"):
            _check_number(getattr(tier, name), name, index)


def _check_number(number: object, name: str, tier: int | None = None) -> None:
    if number is None:
        return
    field = name if tier is None else f"tiers.{tier}.{name}"
    if not isinstance(number, int | Fraction):
        raise InvalidTerms("must be an exact number, not a float", field=field)
    # A Fraction compares several times as slowly as its numerator.
    if number.numerator < 0:
        raise InvalidTerms("must not be negative", field=field)


def _check_parts(terms: ChargeTerms) -> None:
    model = terms.model
    if (terms.package_size is not None) != (model is ChargeModel.package) or terms.package_size == 0:
        raise InvalidTerms("belongs to the package model, above zero", field="package_size")
    if (terms.share is not None) != (model is ChargeModel.percentage):
        raise InvalidTerms("belongs to the percentage model", field="share")
    if terms.unit_price and model not in _UNIT_PRICED:
        raise InvalidTerms(f"has no meaning in the {model} model", field="unit_price")
    if terms.included and model is ChargeModel.flat:
        raise InvalidTerms("has no meaning in the flat model", field="included")
    step = charge_step(terms.currency)
    for field, bound in (("minimum_minor", terms.minimum_minor), ("maximum_minor", terms.maximum_minor)):
        if bound is not None and bound % step:
            raise InvalidTerms(f"{terms.currency} is charged in steps of {step} minor units", field=field)
    if terms.maximum_minor is not None and terms.maximum_minor < (terms.minimum_minor or 0):
        raise InvalidTerms("is below the minimum", field="maximum_minor")


def _check_tiers(terms: ChargeTerms) -> None:
    if bool(terms.tiers) != (terms.model in TIERED):
        raise InvalidTerms("belong to the graduated, volume and stairstep models", field="tiers")
    if not terms.tiers:
        return
    *bounded, last = terms.tiers
    if last.up_to is not None:
        raise InvalidTerms("the last tier must be open (up_to null)", field="tiers")
    floor = _ZERO
    for tier in bounded:
        if tier.up_to is None or tier.up_to <= floor:
            raise InvalidTerms("bounds must ascend, and only the last tier is open", field="tiers")
        floor = tier.up_to
    if terms.model is ChargeModel.stairstep and any(tier.unit_price for tier in terms.tiers):
        raise InvalidTerms("a stairstep tier has a flat price only", field="tiers")


def _model(value: object) -> ChargeModel:
    try:
        return ChargeModel(str(value))
    except ValueError:
        raise InvalidTerms(f"must be one of {', '.join(ChargeModel)}", field="model") from None


def _currency(value: object) -> str:
    if not isinstance(value, str):
        raise InvalidTerms("must be an ISO 4217 currency", field="currency")
    return value


def _tiers(value: object) -> tuple[Tier, ...]:
    if not isinstance(value, list | tuple):
        raise InvalidTerms("must be a list of tiers", field="tiers")
    return tuple(Tier.from_record(tier, field=f"tiers.{index}") for index, tier in enumerate(value))


def _optional_number(record: Mapping[str, object], name: str) -> Fraction | None:
    value = record.get(name)
    return None if value is None else exact_number(value, field=name)


def _optional_minor(record: Mapping[str, object], name: str) -> int | None:
    value = record.get(name)
    if value is None or type(value) is int:
        return value
    raise InvalidTerms("must be an integer of minor units", field=name)
