"""A plan's usage terms are per month; a billing period may be longer, and a plan held for a part of it."""

from fractions import Fraction

from billing.metering import Aggregation
from billing.periods import Interval
from billing.terms import ChargeTerms

_MONTHS = {Interval.month: 1, Interval.quarter: 3, Interval.year: 12}
_ONE = Fraction(1)
# These show how much there is, not how much has happened: three months of 10 GB are not 30 GB.
_LEVELS = frozenset((Aggregation.max, Aggregation.min, Aggregation.avg, Aggregation.last, Aggregation.unique))


def terms_over(monthly: ChargeTerms, interval: str, aggregation: str, share: Fraction = _ONE) -> ChargeTerms:
    """The terms of the part `share` of a whole billing period, made of those of a month.

    A meter that adds up gets the months' allowances and tier bounds together: 10,000 runs a month are
    30,000 in a quarter, whichever month they fall in, and 15,000 in half of one. A meter that shows a
    level is charged the month's price for each month, and for half a month half of it. The mean of a
    level is charged for each month too, but what two plans have of it in one period adds up to the
    period's mean, so they split the allowance. Raises: ValueError for a share that is not above zero.
    """
    months = Fraction(_MONTHS[Interval(interval)])
    match Aggregation(aggregation):
        case Aggregation.time_weighted_sum:
            size, price = share, months
        case level if level in _LEVELS:
            size, price = _ONE, months * share
        case _:
            size, price = months * share, _ONE
    return monthly if size == price == 1 else monthly.scaled(size, price)
