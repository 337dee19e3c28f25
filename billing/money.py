"""Money in integer minor units, and the one rounding rule of the house."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from billing.currencies import NO_MINOR_UNIT, THREE_DECIMALS, charge_step
from billing.errors import CurrencyMismatch

# Minor units travel to Stripe unchanged, so the exponents are Stripe's, which leave ISO 4217 in three
# places: ISK and UGX keep two decimals for old integrations, MGA has none.
# Source: docs.stripe.com/currencies (zero-decimal, three-decimal, special cases).
_DEFAULT_EXPONENT = 2
_CODE_LENGTH = 3


@dataclass(frozen=True, slots=True)
class _Format:
    prefix: str
    thousands: str
    decimal: str


_FORMATS = {
    "USD": _Format("$", ",", "."),
    "EUR": _Format("€", ",", "."),
    "GBP": _Format("£", ",", "."),
    "ZAR": _Format("R ", " ", ","),
}


@dataclass(frozen=True, slots=True)
class Money:
    """An amount in integer minor units of an upper-case ISO 4217 currency.

    Equality is by value; addition and comparison need one currency.

    Raises: TypeError for a minor amount that is not an int, ValueError for a malformed currency,
    CurrencyMismatch when two currencies meet.
    """

    minor: int
    currency: str

    def __post_init__(self) -> None:
        if type(self.minor) is not int:
            raise TypeError(f"minor units are an int, not {type(self.minor).__name__}")
        code = self.currency
        if len(code) != _CODE_LENGTH or not (code.isascii() and code.isalpha() and code.isupper()):
            raise ValueError(f"not an upper-case ISO 4217 currency: {code!r}")

    @classmethod
    def zero(cls, currency: str) -> Money:
        """Nothing, in this currency."""
        return cls(0, currency)

    @classmethod
    def total(cls, amounts: Iterable[Money], currency: str) -> Money:
        """Sum amounts of one currency; zero of `currency` when there is none."""
        amount = cls.zero(currency)
        for part in amounts:
            amount += part
        return amount

    def __add__(self, other: Money) -> Money:
        return Money(self.minor + self._minor_of(other), self.currency)

    def __sub__(self, other: Money) -> Money:
        return Money(self.minor - self._minor_of(other), self.currency)

    def __neg__(self) -> Money:
        return Money(-self.minor, self.currency)

    def __lt__(self, other: Money) -> bool:
        return self.minor < self._minor_of(other)

    def __le__(self, other: Money) -> bool:
        return self.minor <= self._minor_of(other)

    def __gt__(self, other: Money) -> bool:
        return self.minor > self._minor_of(other)

    def __ge__(self, other: Money) -> bool:
        return self.minor >= self._minor_of(other)

    @classmethod
    def rounded(cls, exact: Fraction, currency: str) -> Money:
        """The amount nearest to `exact` minor units that can be charged; a half goes away from zero."""
        step = charge_step(currency)
        return cls(round_half_away(Fraction(exact, step)) * step, currency)

    def scaled(self, factor: Fraction | int) -> Money:
        """Multiply by an exact factor and round once, to what can be charged."""
        return Money.rounded(Fraction(self.minor) * factor, self.currency)

    def allocated(self, weights: Sequence[Fraction | int]) -> list[Money]:
        """Split by weights >= 0; the parts sum to the whole exactly.

        Each part is its exact share rounded towards zero; the minor units left over go one each to
        the largest remainders, the earlier part first when two are equal. All-zero weights give the
        first part everything. Raises: ValueError for a negative weight, or for money and no parts.
        """
        if any(weight < 0 for weight in weights):
            raise ValueError("weights must not be negative")
        if not weights:
            if self.minor:
                raise ValueError("nothing to allocate the money to")
            return []
        total = sum(map(Fraction, weights), Fraction(0))
        shares = [Fraction(weight, total) for weight in weights] if total else _all_to_first(len(weights))
        exact = [share * abs(self.minor) for share in shares]
        parts = [part.numerator // part.denominator for part in exact]
        by_remainder = sorted(range(len(parts)), key=lambda index: parts[index] - exact[index])
        for index in by_remainder[: abs(self.minor) - sum(parts)]:
            parts[index] += 1
        return [Money(part if self.minor >= 0 else -part, self.currency) for part in parts]

    def _minor_of(self, other: Money) -> int:
        if not isinstance(other, Money):
            raise TypeError(f"money meets {type(other).__name__}")
        if other.currency != self.currency:
            raise CurrencyMismatch(f"{self.currency} meets {other.currency}", field="currency")
        return other.minor


def _all_to_first(count: int) -> list[Fraction]:
    return [Fraction(1), *[Fraction(0)] * (count - 1)]


def round_half_away(number: Fraction) -> int:
    """Round to the nearest integer; a half goes away from zero: 0.5 -> 1, -0.5 -> -1."""
    magnitude = (2 * abs(number.numerator) + number.denominator) // (2 * number.denominator)
    return magnitude if number >= 0 else -magnitude


def minor_exponent(currency: str) -> int:
    """How many decimals the minor unit of a currency stands for: 0, 2 or 3."""
    if currency in NO_MINOR_UNIT:
        return 0
    return 3 if currency in THREE_DECIMALS else _DEFAULT_EXPONENT


def format_money(amount: Money) -> str:
    """Write an amount for a person: `$1,234.50`, `R 1 234,50`, `JPY 500`, `-$3.00`."""
    style = _FORMATS.get(amount.currency, _Format(f"{amount.currency} ", ",", "."))
    exponent = minor_exponent(amount.currency)
    whole, part = divmod(abs(amount.minor), 10**exponent)
    text = style.prefix + f"{whole:,}".replace(",", style.thousands)
    if exponent:
        text += style.decimal + str(part).rjust(exponent, "0")
    return f"-{text}" if amount.minor < 0 else text
