"""`dunlin explain`."""

import json
import sys

import click


@click.command("explain")
@click.argument("reference", metavar="NUMBER[/POSITION]")
@click.option("--events", is_flag=True, help="List every usage event; on a terminal, page by page.")
@click.option(
    "--page-size",
    type=click.IntRange(1, 1_000),
    default=1_000,
    show_default=True,
    help="How many events to fetch at a time.",
)
@click.option("--json", "as_json", is_flag=True, help="All of it as JSON, with one page of events per line.")
def command(reference: str, events: bool, page_size: int, as_json: bool) -> None:
    """Explain an invoice, or one of its lines: price, tiers, rounding, proration, discount, tax, events.

    REFERENCE is an invoice number, for all of its lines and its sums, or NUMBER/POSITION for one line:
    ACME-000003/2. Everything is computed anew; exit code 1 when something does not come to its amount.
    """
    from cli.context import opened  # noqa: PLC0415
    from cli.explaining import agrees, explained, text_of  # noqa: PLC0415

    size = page_size if events or as_json else None
    with opened() as context:
        found = explained(context, reference, page_size=size)
        if as_json:
            click.echo(json.dumps(found, indent=2))
        elif events and sys.stdout.isatty():
            click.echo_via_pager(f"{line}\n" for line in text_of(context, found, page_size=size))
        else:
            for line in text_of(context, found, page_size=size):
                click.echo(line)
    if not agrees(found):
        raise click.ClickException(f"{reference} does not come to its amount when it is computed anew")
