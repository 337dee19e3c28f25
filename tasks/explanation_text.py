"""An explanation of an invoice line as plain text that an accountant can check by hand."""

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

from billing.exact import exact_number, exact_text
from billing.money import Money, format_money, minor_exponent

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
    yield _row("price", _price(told))
    yield _row("quantity", _quantity(told))
    width = max((len(step["label"]) for step in told["steps"]), default=0)
    for step in told["steps"]:
        yield _row("", _step(step, currency, width))
    yield from _rounding(told, currency)
    yield from _cause(told, currency)
    yield from _reductions(told, currency)
    yield from _again(told, currency)
    yield from _events(told)


def _price(told: Mapping[str, Any]) -> str:
    price, line = told["price"], told["line"]
    words = [f"{price.get('code')}, version {price.get('version')}"]
    if price["terms"]:
        words.append(str(price["terms"]["model"]).replace("_", " "))
    elif line["unit_price"] is not None:
        each = _exact_money(exact_number(line["unit_price"]), line["currency"])
        words.append(f"{each} each {price['interval'] or 'period'}")
    if told["trial"]:
        words.append("free in the trial")
    return ", ".join(words)


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
    if told["proration"]:
        yield _row("proration", _proration(told["proration"], currency))


def _proration(record: Mapping[str, Any], currency: str) -> str:
    """Whose change it was, and what was given back or charged a share of."""
    left = f"{record['seconds_left']:,}"
    if "base_minor" not in record:
        return f"{record.get('by', 'changed')}; {left} seconds were left"
    return f"{left} of {record['seconds']:,} seconds of {_money(record['base_minor'], currency)}"


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
        yield _row("discount", f"{part} of {whole}, {discount['rule']}")
        for each in discount["parts"]:
            percent = f" ({each['percent_off']} %)" if each["percent_off"] else ""
            yield _row("", f"{each['code']}{percent}: {_money(each['amount_minor'], currency)}")
    if tax["amount_minor"]:
        rate = f"{tax['percentage']} %" if tax["percentage"] else "at the rate of the time"
        how = "contained in" if tax["inclusive"] else "on"
        amount, base = _money(tax["amount_minor"], currency), _money(tax["base_minor"], currency)
        yield _row("tax", f"{tax['name'] or 'tax'} {rate}: {amount} {how} {base}")


def _again(told: Mapping[str, Any], currency: str) -> Iterator[str]:
    again = told["recomputed"]
    if again is None:
        return
    if again["agrees"]:
        source = "its events" if told["events"]["total"] else "quantity and price"
        yield _row(
            "again", f"computed anew from {source}: {_money(again['recomputed_minor'], currency)}, the same"
        )
    else:
        yield _row("again", f"DIFFERS: {again['difference']}")


def _events(told: Mapping[str, Any]) -> Iterator[str]:
    events = told["events"]
    label = "events"
    for event in events["items"]:
        mark = "" if event["counts"] else "  (not counted)"
        yield _row(label, f"{event['occurred_at']}  {event['quantity']:>8}  {event['event_id']}{mark}")
        label = ""
        for each in event.get("corrections", ()):
            when = f"corrected on {_day(each['received_at'])} by {each['who']}"
            later = "" if each["counted_here"] else ", on another line" if each["line_id"] else ", waiting"
            yield _row("", f"  {when}{later}: {_correction(each)} ({each['reason']})")
    if events["next"]:
        yield _row(label, f"(a page of {events['total']} in all)")


def _row(label: str, words: str) -> str:
    return f"  {label:<{_LABEL}}{words}"


def _day(instant: str) -> str:
    return instant.removesuffix("T00:00:00Z").replace("T", " ").removesuffix("Z")


def _money(minor: int, currency: str) -> str:
    return format_money(Money(minor, currency))


def _exact_money(minor: Fraction, currency: str) -> str:
    """An amount of minor units that need not be whole, in major units: 1.5 US cents is USD 0.015."""
    return f"{currency} {exact_text(minor / 10 ** minor_exponent(currency))}"


def _grouped(number: str) -> str:
    """Thousands separated: 12,345.5."""
    whole, point, rest = number.partition(".")
    return f"{int(whole):,}{point}{rest}" if whole.lstrip("-").isdigit() else number
