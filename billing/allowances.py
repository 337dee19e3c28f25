"""A plan's usage terms are per month; a billing period may be longer."""

from dataclasses import replace
from fractions import Fraction

from billing.metering import Aggregation
from billing.money import Money
from billing.periods import Interval
from billing.terms import ChargeModel, ChargeTerms

_MONTHS = {Interval.month: 1, Interval.quarter: 3, Interval.year: 12}
# These show how much there is, not how much has happened: three months of 10 GB are not 30 GB.
_LEVELS = frozenset((Aggregation.max, Aggregation.min, Aggregation.avg, Aggregation.last))


def terms_over(monthly: ChargeTerms, interval: str, aggregation: str) -> ChargeTerms:
    """The terms of a whole billing period, made of those of a month.

    A meter that adds up gets the months' allowances and tier bounds together: 10,000 runs a month are
    30,000 in a quarter, whichever month they fall in. A meter that shows a level is charged the month's
    price for each month, at the level of the period.
    """
    months = _MONTHS[Interval(interval)]
    if months == 1:
        return monthly
    if Aggregation(aggregation) in _LEVELS:
        return _each_month(monthly, months)
    return _with_stair_prices(monthly.scaled(Fraction(months)), months)


def _with_stair_prices(terms: ChargeTerms, months: int) -> ChargeTerms:
    """A price for the month as a whole, be it flat or a stair, is due for each."""
    tiers = tuple(replace(tier, flat=tier.flat * months) for tier in terms.tiers)
    whole = terms.model is ChargeModel.flat
    return replace(terms, tiers=tiers, unit_price=terms.unit_price * (months if whole else 1))


def _each_month(terms: ChargeTerms, months: int) -> ChargeTerms:
    tiers = tuple(
        replace(tier, unit_price=tier.unit_price * months, flat=tier.flat * months) for tier in terms.tiers
    )
    minimum, maximum = (
        None if bound is None else Money(bound, terms.currency).scaled(months).minor
        for bound in (terms.minimum_minor, terms.maximum_minor)
    )
    return replace(
        terms,
        unit_price=terms.unit_price * months,
        tiers=tiers,
        share=None if terms.share is None else terms.share * months,
        fixed=terms.fixed * months,
        minimum_minor=minimum,
        maximum_minor=maximum,
    )
