"""Calendar arithmetic on Unix seconds: the n-th boundary of a price, counted from the original anchor."""

from calendar import monthrange
from datetime import UTC, datetime, timedelta

HOUR = 3600
DAY = 86_400


def add_months(anchor: int, months: int) -> int:
    """`anchor` moved by whole months; a day that the month lacks becomes its last day (31 -> 28/29/30).

    Both sides are Unix seconds, UTC.
    """
    start = datetime.fromtimestamp(anchor, UTC)
    index = start.year * 12 + start.month - 1 + months
    year, month = divmod(index, 12)
    day = min(start.day, monthrange(year, month + 1)[1])
    return int(start.replace(year=year, month=month + 1, day=day).timestamp())


def boundary(anchor: int, interval: str, count: int, nth: int) -> int:
    """The `nth` boundary from `anchor` (0 is the anchor itself, negative ones lie before it).

    Counted from the anchor, never from the boundary before: so 31 January, 28 February, 31 March.
    """
    if interval in {"month", "year"}:
        return add_months(anchor, nth * count * (12 if interval == "year" else 1))
    days = count * (7 if interval == "week" else 1)
    return int((datetime.fromtimestamp(anchor, UTC) + timedelta(days=days * nth)).timestamp())


def period_at(anchor: int, interval: str, count: int, moment: int) -> tuple[int, int]:
    """The period [start, end) that holds `moment`."""
    approximate_days = {"day": 1, "week": 7, "month": 30.44, "year": 365.25}[interval] * count
    nth = int((moment - anchor) / (approximate_days * DAY)) - 2
    while boundary(anchor, interval, count, nth + 1) <= moment:
        nth += 1
    return boundary(anchor, interval, count, nth), boundary(anchor, interval, count, nth + 1)


def day_text(moment: int) -> str:
    """`11 Apr 2026`, as it stands in line descriptions."""
    return datetime.fromtimestamp(moment, UTC).strftime("%d %b %Y")
