"""The summary that a person can trust: accounts, invoices, dunning, one line explained, the verdict."""

from collections.abc import Iterator, Sequence
from datetime import datetime

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
    console.print()
    console.print(_usage(facts, recording))
    _show_noise(console, recording)
    console.print(_invoices(facts, played))
    _show_dunning(console, facts)
    _show_explanation(console, facts)
    console.print(_verdict(findings))


def _usage(facts: Facts, recording: Recording) -> Table:
    table = _table("Usage accounts", "accepted = rated + waiting + quarantined + duplicate")
    table.add_column("product")
    for name in ("accepted", "rated", "waiting", "quarantined", "duplicate"):
        table.add_column(name, justify="right")
    for product in facts.usage:
        table.add_row(product.product_code, *_numbers(product))
    table.add_row("all", *_numbers(usage_totals(facts)), style="bold")
    table.add_row("the generator", *_numbers(recording.accounts), style="dim")
    return table


def _numbers(one: Accounts | ProductDayAccounts) -> Iterator[str]:
    return (f"{n:,}" for n in (one.accepted, one.rated, one.waiting, one.quarantined, one.duplicate))


def _show_noise(console: Console, recording: Recording) -> None:
    known = recording.expected.values()
    late, conflicts = sum(one.late for one in known), sum(one.conflicts for one in known)
    after_end, refused = sum(one.after_end for one in known), sum(one.refused_posts for one in known)
    console.print(
        f"Waiting: events of the periods that still run. Among the rated {late:,} came after their period's "
        f"invoice and stand on the next one as adjustments. Quarantined: {conflicts} copies that contradict "
        f"the first, {after_end} events after a subscription's end. {refused} broken POSTs were "
        f"refused whole.\n",
        style="dim",
        highlight=False,
    )


def _invoices(facts: Facts, played: Sequence[Played]) -> Table:
    table = _table("Invoices")
    for name in ("organization", "number", "kind", "period"):
        table.add_column(name)
    for name in ("subtotal", "discount", "tax", "total"):
        table.add_column(name, justify="right")
    table.add_column("status")
    for one in played:
        for invoice in facts.invoices[one.member.slug]:
            currency = invoice["currency"]
            figures = (
                format_money(Money(invoice[f"{name}_minor"], currency)) if invoice[f"{name}_minor"] else "-"
                for name in ("subtotal", "discount", "tax", "total")
            )
            status = invoice["status"]
            table.add_row(
                one.member.slug,
                invoice["number"] or "-",
                invoice["kind"],
                f"{_day(invoice['period_start_at'])} - {_day(invoice['period_end_at'])}",
                *figures,
                f"[{_STATUS_STYLES.get(status, '')}]{status}",
            )
        table.add_section()
    return table


def _show_dunning(console: Console, facts: Facts) -> None:
    for case in facts.dunning:
        table = _table(f"Dunning of {case.organization}", f"{case.state} after {case.retries_done} retries")
        for name in ("when", "step", "what happened"):
            table.add_column(name)
        for step in case.steps:
            table.add_row(f"{step.at:%d %b %H:%M}", step.kind, escape(step.detail))
        console.print(table)


def _show_explanation(console: Console, facts: Facts) -> None:
    """The line with the most to say: usage that reached the last tier."""
    usage = [line for line in facts.explained if line.kind == "usage"]
    if usage:
        line = max(usage, key=lambda one: len(one.text))
        console.print(f"[bold]One line explained[/]  [dim]dunlin explain {line.invoice}/{line.position}")
        console.print(line.text, markup=False, highlight=False)
        console.print()


def _verdict(findings: Sequence[Finding]) -> Table:
    table = _table("Does it hold?")
    for name in ("", "what must hold", "seen"):
        table.add_column(name, overflow="fold")
    for finding in findings:
        mark = "[green]yes" if finding.holds else "[bold red]NO"
        table.add_row(mark, finding.title, escape(finding.detail))
    return table


def _table(title: str, caption: str | None = None) -> Table:
    heading = f"[bold]{escape(title)}[/]" + (f"  [dim]{escape(caption)}[/]" if caption else "")
    return Table(
        title=heading,
        title_justify="left",
        title_style="none",
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
    )


def _day(instant: str) -> str:
    return f"{datetime.fromisoformat(instant):%d %b}"
