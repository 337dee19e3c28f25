"""`dunlin keys`: issue, revoke."""

from datetime import timedelta

import click


@click.group("keys")
def command() -> None:
    """API keys: issue, revoke."""


@command.command("issue")
@click.option("--kind", type=click.Choice(["product", "organization", "admin"]), required=True)
@click.option("--name", required=True, help="Whose key it is, for the list in the admin.")
@click.option("--product", help="The product's code, for a product key.")
@click.option("--organization", help="The organization's id, slug or external id, for its key.")
@click.option("--days", type=click.IntRange(1, 3650), help="Let it expire after so many days.")
def issue_key(kind: str, name: str, product: str | None, organization: str | None, days: int | None) -> None:
    """Make a key and print it: the only time that it can be seen."""
    from cli.context import opened  # noqa: PLC0415
    from cli.keys import issue_bound  # noqa: PLC0415

    lifetime = timedelta(days=days) if days else None
    with opened() as context:
        text = issue_bound(context, kind, name, product=product, organization=organization, lifetime=lifetime)
    click.echo(text)


@command.command("revoke")
@click.argument("key_id", type=click.UUID)
def revoke_key(key_id: object) -> None:
    """End a key now; processes that saw it trust it for five seconds more."""
    from uuid import UUID  # noqa: PLC0415

    from cli.context import opened  # noqa: PLC0415
    from tasks.keys import revoke  # noqa: PLC0415

    with opened() as context:
        if not revoke(context, UUID(str(key_id))):
            raise click.ClickException("no such key")
    click.echo("revoked")
