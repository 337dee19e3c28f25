"""`dunlin backtest`."""

import csv
import json
import sys
from pathlib import Path

import click


@click.command("backtest")
@click.option(
    "--plan",
    "file",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A catalog file, as `dunlin catalog export` writes it: whole, or only the plans to try.",
)
@click.option(
    "--period",
    required=True,
    metavar="PERIOD",
    help="When the billing periods began: 2026-07, 2026-Q3, 2026-07..2026-09, 2026-07-01..2026-08-15.",
)
@click.option("--currency", help="Only charges in this currency.")
@click.option("--organization", help="Only this organization: id, slug or external id.")
@click.option("--most", default=20, show_default=True, type=click.IntRange(4), help="Organizations to list.")
@click.option("--json", "as_json", is_flag=True, help="All of it as JSON.")
@click.option("--csv", "as_csv", is_flag=True, help="A row per organization as CSV.")
def command(
    *,
    file: Path,
    period: str,
    currency: str | None,
    organization: str | None,
    most: int,
    as_json: bool,
    as_csv: bool,
) -> None:
    """Rate past usage anew under the plans of a draft: who would pay more, and what it comes to.

    Every closed billing period that began in PERIOD is computed by the terms of its time, which must
    come to what was invoiced, and by the draft. Nothing is written. Exit code 1 when a charge does not
    come to what was invoiced.
    """
    from billing.calendar import calendar_period  # noqa: PLC0415
    from cli.context import opened  # noqa: PLC0415
    from tasks import backtest, backtest_text, organizations  # noqa: PLC0415

    if as_json and as_csv:
        raise click.UsageError("choose one of --json and --csv")
    stretch = calendar_period(period)
    with opened() as context:
        terms = backtest.BacktestTerms(
            period=stretch,
            currency=currency.upper() if currency else None,
            organization_id=organizations.resolve(context, organization) if organization else None,
        )
        found = backtest.run(context, file.read_text(encoding="utf-8"), terms, _progress)
    if as_json:
        click.echo(json.dumps(backtest_text.as_record(found), indent=2))
    elif as_csv:
        csv.writer(sys.stdout).writerows([backtest_text.ROW_NAMES, *backtest_text.as_rows(found)])
    else:
        click.echo(backtest_text.as_text(found, file.name, most=most))
    if not found.proven:
        raise click.ClickException(f"{found.tally.disagreeing} charges do not come to what was invoiced")


def _progress(done: int, organizations: int, events: int) -> None:
    """One line on a terminal that people watch, rewritten; nothing in a pipe or a log."""
    if sys.stderr.isatty():
        end = "\n" if done == organizations else ""
        click.echo(
            f"\r{done:,} of {organizations:,} organizations, {events:,} events{end}", err=True, nl=False
        )
