"""The summary that a person can trust: accounts, invoices, dunning, one line explained, the verdict."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from billing.money import Money, format_money
from cli.demo.facts import Facts
from cli.demo.generator import Accounts, Recording
from cli.demo.judging import Finding, usage_totals
from cli.demo.player import Played
from models.accounts import ProductDayAccounts

_STATUS_STYLES = {"paid": "green", "open": "yellow", "draft": "yellow", "void": "dim", "uncollectible": "red"}


def show_summary(
    console: Console,
    facts: Facts,
    played: Sequence[Played],
    recording: Recording,
    findings: Sequence[Finding],
) -> None:
    """Print everything but the addresses."""
    _show_usage(console, facts, recording)
    _show_invoices(console, facts, played)
    _show_dunning(console, facts)
    _show_explanation(console, facts)
    _show_verdict(console, findings)


def _show_usage(console: Console, facts: Facts, recording: Recording) -> None:
    _heading(console, "Usage accounts", "accepted = rated + waiting + quarantined + duplicate")
    numbers = ("accepted", "rated", "waiting", "quarantined", "duplicate")
    table = _table("product", *numbers, numbers=numbers)
    for product in facts.usage:
        table.add_row(product.product_code, *_numbers(product))
    table.add_row("all", *_numbers(usage_totals(facts)), style="bold")
    table.add_row("the generator", *_numbers(recording.accounts), style="dim")
    console.print(table)
    known = recording.expected.values()
    late, conflicts = sum(one.late for one in known), sum(one.conflicts for one in known)
    after_end, refused = sum(one.after_end for one in known), sum(one.refused_posts for one in known)
    console.print(
        f"Waiting: events of the periods that still run. Among the rated, {late:,} came after their period's "
        f"invoice and stand on the next one as adjustments. Quarantined: {conflicts} copies that contradict "
        f"the first, and {after_end} events after a subscription's end. {refused} broken POSTs were refused "
        "whole.",
        style="dim",
        highlight=False,
    )


def _numbers(one: Accounts | ProductDayAccounts) -> Iterator[str]:
    return (f"{n:,}" for n in (one.accepted, one.rated, one.waiting, one.quarantined, one.duplicate))


def _show_invoices(console: Console, facts: Facts, played: Sequence[Played]) -> None:
    _heading(
        console, "Invoices", "of the period that each closes; recurring charges are for the next, in advance"
    )
    figures = ("subtotal", "discount", "tax", "total")
    table = _table("organization", "number", "kind", "period", *figures, "status", numbers=figures)
    for one in played:
        for invoice in facts.invoices[one.member.slug]:
            status = invoice["status"]
            table.add_row(
                one.member.slug,
                invoice["number"] or "-",
                invoice["kind"],
                _period(invoice),
                *(_money(invoice, name) for name in figures),
                f"[{_STATUS_STYLES.get(status, 'default')}]{status}",
            )
        table.add_section()
    console.print(table)


def _money(invoice: dict[str, Any], name: str) -> str:
    minor = invoice[f"{name}_minor"]
    return format_money(Money(minor, invoice["currency"])) if minor or name == "total" else "-"


def _show_dunning(console: Console, facts: Facts) -> None:
    for case in facts.dunning:
        _heading(
            console, f"Dunning of {case.organization}", f"{case.state} after {case.retries_done} retries"
        )
        table = _table("when", "step", "what happened")
        for step in case.steps:
            table.add_row(f"{step.at:%d %b %H:%M}", step.kind, escape(step.detail))
        console.print(table)


def _show_explanation(console: Console, facts: Facts) -> None:
    """The usage line with the largest amount: it reached the last tier."""
    usage = [line for line in facts.explained if line.kind == "usage"]
    if usage:
        line = max(usage, key=lambda one: one.quantity)
        _heading(console, "One line explained", f"dunlin explain {line.invoice}/{line.position}")
        console.print(line.text, markup=False, highlight=False)


def _show_verdict(console: Console, findings: Sequence[Finding]) -> None:
    _heading(console, "Does it hold?")
    table = _table("", "what must hold", "seen")
    for finding in findings:
        mark = "[green]yes" if finding.holds else "[bold red]NO"
        table.add_row(mark, finding.title, escape(finding.detail))
    console.print(table)
    console.print()


def _heading(console: Console, title: str, remark: str = "") -> None:
    console.print(f"\n[bold]{escape(title)}[/]  [dim]{escape(remark)}[/]", highlight=False)


def _table(*columns: str, numbers: Sequence[str] = ()) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        table.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    return table


def _period(invoice: dict[str, Any]) -> str:
    """The usage period that an invoice closes; the first invoice of a subscription closes none."""
    start, end = _day(invoice["period_start_at"]), _day(invoice["period_end_at"])
    return start if start == end else f"{start} - {end}"


def _day(instant: str) -> str:
    return f"{datetime.fromisoformat(instant):%d %b}"
