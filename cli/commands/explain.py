"""`dunlin explain`."""

import click


@click.command("explain")
@click.argument("reference", metavar="NUMBER[/POSITION]")
@click.option("--events", is_flag=True, help="List the usage events of the line too.")
def command(reference: str, events: bool) -> None:
    """Explain an invoice line: terms, tier by tier, rounding, proration, discount, and its events.

    REFERENCE is an invoice number, for all of its lines, or NUMBER/POSITION for one: ACME-000003/2.
    Exit code 1 when a line does not recompute to its amount.
    """
    from cli.context import opened  # noqa: PLC0415
    from cli.explaining import explanations  # noqa: PLC0415

    agree = True
    with opened() as context:
        for text, agrees in explanations(context, reference, with_events=events):
            click.echo(text)
            agree = agree and agrees
    if not agree:
        raise click.ClickException("a line does not recompute to its amount")
