"""`dunlin seed`."""

import click


@click.command("seed")
def command() -> None:
    """Write the shipped catalog: products, plans, prices, meters, bundles, tax rates; repeats do nothing."""
    from cli.context import opened  # noqa: PLC0415
    from tasks.catalog import seed  # noqa: PLC0415

    with opened() as context:
        report = seed(context)
    click.echo(f"{report.created} created, {report.unchanged} unchanged")
