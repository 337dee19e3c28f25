"""`dunlin stripe`: sync, test."""

import click


@click.group("stripe")
def command() -> None:
    """Bring the catalog to Stripe; test the connection."""


@command.command("sync")
@click.option("--dry-run", is_flag=True, help="Only say what would be made or changed.")
def sync_catalog(dry_run: bool) -> None:
    """Make the catalog's products, prices, bundle coupons and tax rates at Stripe; repeats do nothing."""
    from cli.context import opened  # noqa: PLC0415
    from tasks.stripe_catalog import sync  # noqa: PLC0415

    with opened() as context:
        report = sync(context, dry_run=dry_run, progress=click.echo)
    click.echo(str(report))


@command.command("test")
def check_connection() -> None:
    """Say whose account answers, in which mode and API version, and how fast."""
    from cli.context import opened  # noqa: PLC0415

    with opened() as context:
        report = context.gateway.test_connection()
    mode = "LIVE" if report.livemode else "test"
    click.echo(f"{report.account_id}: {mode} mode, API {report.api_version}, {report.latency_ms} ms")
