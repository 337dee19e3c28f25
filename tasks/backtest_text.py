"""A backtest for people and programs: as text, as a JSON record, as rows of a table."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

from billing.backtests import Comparison, CurrencyTally, Total
from billing.money import Money, format_money, round_half_away
from tasks.backtest import Backtest

ROW_NAMES = ("organization", "currency", "invoiced_minor", "before_minor", "after_minor", "difference_minor")

_LEFT_OUT = (
    "Before discounts, coupons, bundle savings, tax and credit: list prices and usage alone. A bundle's own "
    "price is not part of it."
)
_COUNTED = (
    ("still_open", "billing periods that began in it still run, or wait for their invoice"),
    ("void", "billing periods with a voided invoice"),
    ("unpriced", "charges whose currency and interval the draft has no price for"),
    ("untaken", "late events and corrections that no invoice has taken yet"),
    ("unexplained", "credits and charges of changes that a person made at Stripe"),
)


def as_text(found: Backtest, name: str, *, most: int = 20) -> str:
    """The report for a terminal; `name` is the file's. At most so many organizations are listed."""
    return "\n".join(_lines(found, name, most))


def as_record(found: Backtest) -> dict[str, Any]:
    """JSON-safe and whole: every organization, amounts in minor units."""
    period, tally = found.terms.period, found.tally
    return {
        "period": {
            "start_at": f"{period.start:%Y-%m-%dT%H:%M:%SZ}",
            "end_at": f"{period.end:%Y-%m-%dT%H:%M:%SZ}",
        },
        "plans": list(found.plans),
        "new_plans": list(found.new_plans),
        "billing_periods": found.counts.periods,
        "events": found.counts.events,
        "left_out": {name: getattr(found.counts, name) for name, _ in _COUNTED},
        "proof": {
            "compared": tally.compared,
            "disagreeing": tally.disagreeing,
            "deviations": [_deviation_record(each) for each in tally.deviations],
        },
        "currencies": [_currency_record(code, each) for code, each in sorted(tally.currencies.items())],
    }


def as_rows(found: Backtest) -> Iterator[Sequence[object]]:
    """One row per organization and currency, in the sequence of ROW_NAMES; who pays most more first."""
    for currency, tally in sorted(found.tally.currencies.items()):
        for slug, total in tally.ranked():
            yield slug, currency, total.invoiced, total.before, total.after, total.difference


def _currency_record(currency: str, tally: CurrencyTally) -> dict[str, Any]:
    more, less, same = tally.counted()
    return {
        "currency": currency,
        **_total_record(tally.total),
        "organizations_paying": {"more": more, "less": less, "same": same},
        "organizations": [{"organization": slug, **_total_record(total)} for slug, total in tally.ranked()],
        "plans": [
            {"plan": plan, "part": part, **_total_record(total)}
            for (plan, part), total in sorted(tally.parts.items())
        ],
    }


def _total_record(total: Total) -> dict[str, Any]:
    return {
        "invoiced_minor": total.invoiced,
        "before_minor": total.before,
        "after_minor": total.after,
        "difference_minor": total.difference,
        "percent": None if total.percent is None else _decimal(total.percent),
    }


def _deviation_record(each: Comparison) -> dict[str, Any]:
    return {
        "place": each.place,
        "currency": each.invoiced.currency,
        "invoiced_minor": each.invoiced.minor,
        "computed_minor": each.again.minor,
    }


def _lines(found: Backtest, name: str, most: int) -> Iterator[str]:
    period, counts = found.terms.period, found.counts
    yield f"{name}: billing periods that began {period.start:%Y-%m-%d} to {period.end:%Y-%m-%d} (UTC)"
    yield f"  plans        {', '.join(found.plans)}"
    if found.new_plans:
        yield f"  new plans    {', '.join(found.new_plans)}: nobody has had them"
    organizations = {slug for tally in found.tally.currencies.values() for slug in tally.organizations}
    yield (
        f"  compared     {_counted(counts.periods, 'billing period')} of "
        f"{_counted(len(organizations), 'organization')}, {_counted(counts.events, 'event')}"
    )
    for each, words in _COUNTED:
        if count := getattr(counts, each):
            yield f"  left out     {count:,} {words}"
    yield f"  amounts      {_LEFT_OUT}"
    for currency, tally in sorted(found.tally.currencies.items()):
        yield from _currency_lines(currency, tally, most)
    yield from _proof(found)


def _currency_lines(currency: str, tally: CurrencyTally, most: int) -> Iterator[str]:
    more, less, same = tally.counted()
    yield ""
    pays = f"{_counted(more, 'organization')} pay{'s' if more == 1 else ''} more"
    yield f"{currency}: {pays}, {less:,} less, {same:,} the same"
    listed = tally.ranked()
    shown = (
        listed if len(listed) <= most else [*listed[: most - most // 4], *listed[len(listed) - most // 4 :]]
    )
    rows = [("all", tally.total), *shown]
    yield from _table("organization", rows, currency)
    if len(listed) > most:
        yield f"  ... and {len(listed) - most:,} organizations between these; --json and --csv have all"
    yield ""
    parts = sorted(tally.parts.items())
    yield from _table(
        "plan and charge", [(f"{plan} {part}", total) for (plan, part), total in parts], currency
    )


def _table(head: str, rows: Sequence[tuple[str, Total]], currency: str) -> Iterator[str]:
    width = max(len(head), *(len(name) for name, _ in rows))
    yield f"  {head:<{width}}  {'before':>16}  {'draft':>16}  {'difference':>16}"
    for name, total in rows:
        before, after = (format_money(Money(minor, currency)) for minor in (total.before, total.after))
        yield (
            f"  {name:<{width}}  {before:>16}  {after:>16}  {_signed(total.difference, currency):>16}  "
            f"{_percent(total):>9}"
        ).rstrip()


def _proof(found: Backtest) -> Iterator[str]:
    tally = found.tally
    yield ""
    if found.proven:
        yield (
            f"proof: each of the {tally.compared:,} charges, computed anew by the terms of its time, "
            "comes to what was invoiced, to the cent"
        )
        return
    yield f"NOT PROVEN: {tally.disagreeing:,} of {tally.compared:,} charges do not come to what was invoiced:"
    for each in tally.deviations:
        yield f"  {each.place}: invoiced {format_money(each.invoiced)}, computed {format_money(each.again)}"
    if tally.disagreeing > len(tally.deviations):
        yield f"  ... and {tally.disagreeing - len(tally.deviations):,} more"


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _signed(minor: int, currency: str) -> str:
    text = format_money(Money(minor, currency))
    return f"+{text}" if minor > 0 else text


def _percent(total: Total) -> str:
    if total.percent is None:
        return "new" if total.difference else ""
    return f"{'+' if total.percent > 0 else ''}{_decimal(total.percent)} %" if total.difference else ""


def _decimal(percent: Fraction) -> str:
    """One decimal, rounded half away from zero."""
    tenths = round_half_away(percent * 10)
    whole, tenth = divmod(abs(tenths), 10)
    return f"{'-' if tenths < 0 else ''}{whole:,}.{tenth}"
