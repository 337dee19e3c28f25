"""An explanation of an invoice line as plain text that an accountant can check by hand."""

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

from billing.exact import exact_number, exact_text
from billing.money import Money, format_money, minor_exponent, round_half_away

_LABEL = 10


def explain_text(explanation: Mapping[str, Any]) -> str:
    """Lines of text from what `tasks.explain.explain_line` returns; amounts in major units."""
    return "\n".join(_lines(explanation))


def _lines(told: Mapping[str, Any]) -> Iterator[str]:
    line, invoice = told["line"], told["invoice"]
    currency = line["currency"]
    name = invoice["number"] or f"draft {invoice['id']}"
    yield f"{name}, line {line['position']}: {line['description']}  {_money(line['amount_minor'], currency)}"
    yield _row("period", f"{_day(line['period']['start_at'])} to {_day(line['period']['end_at'])} (UTC)")
    yield from _price(told)
    yield _row("quantity", _quantity(told))
    width = max((len(step["label"]) for step in told["steps"]), default=0)
    for step in told["steps"]:
        yield _row("", _step(step, currency, width))
    yield from _proration(told, currency)
    yield from _rounding(told, currency)
    yield from _cause(told, currency)
    yield from _reductions(told, currency)
    yield from _again(told, currency)
    yield from _events(told)


def sums_text(told: Mapping[str, Any]) -> str:
    """How the lines of an invoice make its total, from what `tasks.explain.explain_invoice` returns."""
    return "\n".join(_sums(told))


def _sums(told: Mapping[str, Any]) -> Iterator[str]:
    invoice, sums = told["invoice"], told["sums"]
    currency = invoice["currency"]
    name = invoice["number"] or f"draft {invoice['id']}"
    total = _money(invoice["total_minor"], currency)
    yield f"{name}, {invoice['kind']} invoice, {invoice['status']}: {total}"
    count = sums["lines"]
    yield _sum("subtotal", sums["subtotal_minor"], currency, f"the sum of {_counted(count, 'line')}")
    yield _sum("discount", -sums["discount_minor"], currency, "the sum of the lines' discounts")
    if sums["tax_inclusive"]:
        contained = _money(sums["contained_tax_minor"], currency)
        yield _sum("tax", 0, currency, f"on top; the prices contain {contained}")
    else:
        yield _sum("tax", sums["tax_minor"], currency, "the sum of the lines' taxes")
    reasons = ", ".join(dict.fromkeys(each["reason"] for each in sums["credit"]))
    yield _sum("credit", -sums["credit_minor"], currency, reasons or "of the balance")
    yield _sum("total", sums["total_minor"], currency, "")
    foreign = sum(line["recomputed"]["recomputed_minor"] is None for line in told["lines"])
    if told["agrees"] and foreign:
        were = "is Stripe's own and was" if foreign == 1 else "are Stripe's own and were"
        yield _row("again", f"computed anew: the same to the cent; {_counted(foreign, 'line')} {were} not")
    elif told["agrees"]:
        yield _row("again", "every line and every sum computed anew: the same to the cent")
    else:
        yield _row("again", f"DIFFERS: {sums['difference'] or 'a line does not come to its amount'}")


def _sum(name: str, minor: int, currency: str, words: str) -> str:
    return _row(name, f"{_money(minor, currency):>14}{f'  {words}' if words else ''}")


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _price(told: Mapping[str, Any]) -> Iterator[str]:
    price, line = told["price"], told["line"]
    words = [f"{price.get('code')}, version {price.get('version')}"]
    if price["terms"]:
        words.append(str(price["terms"]["model"]).replace("_", " "))
    elif line["unit_price"] is not None:
        each = _exact_money(exact_number(line["unit_price"]), line["currency"])
        words.append(f"{each} each {price['interval'] or 'period'}")
    if told["trial"]:
        words.append("free in the trial")
    yield _row("price", ", ".join(words))
    since = [
        f"{what} since {_date(price[name])}"
        for what, name in (("sold", "sold_since"), ("held", "held_since"))
        if price.get(name)
    ]
    if since:
        yield _row("", f"version {', '.join(since)}")
    if price["terms"] and price.get("share") not in (None, "1"):
        yield _row("", f"held for {_share(price['share'])} of the period, which its terms are made for")


def _quantity(told: Mapping[str, Any]) -> str:
    quantity = told["quantity"]
    unit = f" {quantity['unit']}" if quantity["unit"] else ""
    source = ""
    if quantity["aggregation"]:
        counted = quantity["facts"] - quantity["excluded"] - quantity["voided"]
        source = f": {quantity['aggregation']} of {counted} events"
    if quantity["excluded"]:
        source += f" ({quantity['excluded']} more do not pass the meter's filters)"
    if quantity["voided"]:
        source += f" ({quantity['voided']} more never happened, as corrected)"
    return f"{_grouped(quantity['value'])}{unit}{source}"


def _step(step: Mapping[str, Any], currency: str, width: int) -> str:
    price = _exact_money(exact_number(step["unit_price"]), currency)
    amount = _exact_money(exact_number(step["amount"]), currency)
    return f"{step['label']:<{width}}  {_grouped(step['quantity']):>10} x {price} = {amount}"


def _rounding(told: Mapping[str, Any], currency: str) -> Iterator[str]:
    rounding = told["rounding"]
    if rounding["exact"] is not None:
        exact = _exact_money(exact_number(rounding["exact"]), currency)
        yield _row(
            "rounding", f"{exact} becomes {_money(rounding['rounded_minor'], currency)}, {rounding['rule']}"
        )


def _cause(told: Mapping[str, Any], currency: str) -> Iterator[str]:
    cause = told["cause"]
    if cause:
        yield from _causes(cause)
        yield _row("", f"{_money(told['rounding']['rounded_minor'], currency)} for the whole period")
        count = len(cause.get("line_ids", ()))
        billed = _money(cause["billed_minor"], currency)
        yield _row("", f"less {billed} that {count} earlier line{'' if count == 1 else 's'} charged for it")


def _proration(told: Mapping[str, Any], currency: str) -> Iterator[str]:
    """A change in mid-period: whose price, for how long, and which part of that was left."""
    part = told["proration"]
    if not part:
        return
    if "base_minor" not in part:
        yield _row("proration", f"{part.get('by', 'changed')}; {part['seconds_left']:,} seconds were left")
        return
    start, end, at = (_day(part[name]) for name in ("start_at", "end_at", "changed_at"))
    base, listed = (_money(part[name], currency) for name in ("base_minor", "listed_minor"))
    if part["side"] == "unused":
        by = part.get("charged_by")
        where = f" by line {by['position']} of {by['invoice'] or 'a draft'}" if by else ""
        yield _row("proration", f"given back, of what was charged for {start} to {end}:")
        yield _row("", f"{base} were charged{where}, after discounts")
    else:
        yield _row("proration", f"charged, of the price for {start} to {end}:")
        reduced = "" if base == listed else f", the list price of {listed} after discounts"
        yield _row("", f"{base}{reduced}")
    left, whole = f"{part['seconds_left']:,}", f"{part['seconds']:,}"
    yield _row("", f"from {at} on {left} of {whole} seconds were left: {_share(part['share'])}")
    sign = "-" if part["side"] == "unused" else ""
    exact = _exact_money(exact_number(part["exact"]), currency)
    yield _row("", f"{sign}{base} x {part['share']} = {exact}")


def _causes(cause: Mapping[str, Any]) -> Iterator[str]:
    """What came, and what was corrected, after the period was invoiced."""
    late, corrected = cause.get("late_events", "some"), cause.get("corrected_events", 0)
    label = "cause"
    if late or not corrected:
        yield _row(label, f"{late} events came after their period was invoiced:")
        label = ""
    if corrected:
        what = "correction was" if corrected == 1 else "corrections were"
        yield _row(label, f"{corrected} {what} made after the period was invoiced:")
    for each in cause.get("corrections", ()):
        yield _row("", f"  {each['event_id']} {_correction(each)}: {each['reason']}")


def _correction(correction: Mapping[str, Any]) -> str:
    void = correction["kind"] == "void"
    return "never happened" if void else f"should have been {_grouped(correction['quantity'])}"


def _reductions(told: Mapping[str, Any], currency: str) -> Iterator[str]:
    discount, tax = told["discount"], told["tax"]
    if discount["amount_minor"]:
        part, whole = (_money(discount[name], currency) for name in ("amount_minor", "of_invoice_minor"))
        yield _row("discount", f"{part} of the invoice's {whole}, one discount after the other:")
        left = told["line"]["amount_minor"]
        for each in discount["parts"]:
            yield _row("", _discount(each, left, currency))
            left -= each["amount_minor"]
    elif discount["of_invoice_minor"] and not discount["discountable"]:
        why = "it is in the price already" if told["proration"] else "they are for recurring charges"
        yield _row("discount", f"none of the invoice's: {why}")
    if tax["amount_minor"]:
        rate = f"{tax['percentage']} %" if tax["percentage"] else "at the rate of the time"
        how = "contained in" if tax["inclusive"] else "on"
        amount, base = _money(tax["amount_minor"], currency), _money(tax["base_minor"], currency)
        yield _row("tax", f"{tax['name'] or 'tax'} {rate}: {amount} {how} {base}")


def _discount(each: Mapping[str, Any], left: int, currency: str) -> str:
    amount, of = _money(each["amount_minor"], currency), _money(left, currency)
    if each["percent_off"]:
        return f"{each['code']}: {each['percent_off']} % of {of} = {amount}"
    whole = each.get("amount_off_minor")
    split = f" of {_money(whole, currency)}, split by what lines still cost ({of} here)" if whole else ""
    return f"{each['code']}: {amount}{split}"


def _again(told: Mapping[str, Any], currency: str) -> Iterator[str]:
    again = told["recomputed"]
    if again is None:
        return
    if not again["agrees"]:
        differs = again["recomputed_minor"] is not None
        yield _row("again", f"{'DIFFERS: ' if differs else 'not computed: '}{again['difference']}")
        return
    source = "quantity and price"
    if told["events"]["total"]:
        source = "its events"
    elif told["proration"]:
        source = "price and seconds"
    also = [f"{name} {_money(again[f'{name}_minor'], currency)}" for name in ("discount", "tax")]
    with_ = f" with {' and '.join(also)}" if again["discount_minor"] or again["tax_minor"] else ""
    amount = _money(again["recomputed_minor"], currency)
    yield _row("again", f"computed anew from {source}: {amount}{with_}, the same")


def _events(told: Mapping[str, Any]) -> Iterator[str]:
    events = told["events"]
    yield from event_rows(events, "events")
    if events["next"]:
        yield _row("" if events["items"] else "events", f"(a page of {events['total']} in all)")


def event_rows(events: Mapping[str, Any], label: str = "") -> Iterator[str]:
    """A page of events, each with its corrections under it."""
    for event in events["items"]:
        mark = "" if event["counts"] else "  (not counted)"
        yield _row(label, f"{event['occurred_at']}  {event['quantity']:>8}  {event['event_id']}{mark}")
        label = ""
        for each in event.get("corrections", ()):
            when = f"corrected on {each['received_at'][:10]} by {each['who']}"
            later = "" if each["counted_here"] else ", on another line" if each["line_id"] else ", waiting"
            yield _row("", f"  {when}{later}: {_correction(each)} ({each['reason']})")


def _row(label: str, words: str) -> str:
    return f"  {label:<{_LABEL}}{words}"


def _day(instant: str) -> str:
    return instant.removesuffix("T00:00:00Z").replace("T", " ").removesuffix("Z")


def _money(minor: int, currency: str) -> str:
    return format_money(Money(minor, currency))


def _exact_money(minor: Fraction, currency: str) -> str:
    """An amount of minor units that need not be whole, in major units: 1.5 US cents is USD 0.015.

    One that no decimal writes is shown to six more than the currency has, with the fraction of it.
    """
    exponent = minor_exponent(currency)
    text = exact_text(minor / 10**exponent)
    if "/" in text:
        digits = round_half_away(minor * 10**6)
        text = f"{exact_text(Fraction(digits, 10 ** (6 + exponent)))} (exactly {text})"
    return f"{currency} {text}"


def _share(share: str) -> str:
    """A part of a period: `2/3` or `0.5`, and in per cent."""
    percent = exact_text(Fraction(round_half_away(exact_number(share) * 10_000), 100))
    return f"{share} ({percent} %)"


def _date(instant: str) -> str:
    return instant[:10]


def _grouped(number: str) -> str:
    """Thousands separated: 12,345.5."""
    whole, point, rest = number.partition(".")
    return f"{int(whole):,}{point}{rest}" if whole.lstrip("-").isdigit() else number
