"""`dunlin invariants`."""

import click


@click.command("invariants")
def command() -> None:
    """Check the billing invariants over every organization. Exit code 1 on any breach."""
    from cli.context import opened  # noqa: PLC0415
    from tasks.invariants import check  # noqa: PLC0415

    with opened() as context:
        breaches = check(context)
    for breach in breaches:
        click.echo(f"{breach.invariant}  {breach.organization_id}  {breach.subject_id}  {breach.detail}")
    if breaches:
        raise click.ClickException(f"{len(breaches)} breaches")
    click.echo("every invariant holds")
