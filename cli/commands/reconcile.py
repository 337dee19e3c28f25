"""`dunlin reconcile`."""

import click


@click.command("reconcile")
@click.argument("organizations", nargs=-1, metavar="[ORGANIZATION]...")
def command(organizations: tuple[str, ...]) -> None:
    """Compare every row with Stripe's objects, both ways, to the minor unit.

    Names of organizations (id, slug or external id) limit it to those. Exit code 1 on any difference.
    """
    from cli.context import opened  # noqa: PLC0415
    from tasks.organizations import resolve  # noqa: PLC0415
    from tasks.reconciliation import reconcile  # noqa: PLC0415

    with opened() as context:
        ids = [resolve(context, reference) for reference in organizations]
        run = reconcile(context, ids or None)
    compared = ", ".join(f"{count} {kind}" for kind, count in sorted(run.compared.items()))
    click.echo(f"compared {compared or 'nothing'}")
    for difference in run.differences:
        click.echo(f"  {difference.get('kind')}: {difference.get('sentence')}")
    if run.differences:
        raise click.ClickException(f"{len(run.differences)} differences")
    click.echo("no differences")
