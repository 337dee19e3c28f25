"""`dunlin keys`: list, issue, rotate, revoke."""

from datetime import timedelta

import click

_KIND = click.Choice(["product", "organization", "admin"])


@click.group("keys")
def command() -> None:
    """API keys: list, issue, rotate, revoke."""


@command.command("list")
@click.option("--kind", type=_KIND, help="Only keys of this kind.")
@click.option("--product", help="Only keys of this product, by its code.")
@click.option("--organization", help="Only keys of this organization, by id, slug or external id.")
@click.option("--all", "dead_too", is_flag=True, help="Revoked and expired keys too.")
def list_keys(kind: str | None, product: str | None, organization: str | None, dead_too: bool) -> None:
    """The live keys, newest first: whose, for what, until when, and when last used."""
    from cli.context import opened  # noqa: PLC0415
    from cli.keys import described_keys  # noqa: PLC0415

    with opened() as context:
        lines = described_keys(
            context, kind=kind, product=product, organization=organization, dead_too=dead_too
        )
    for line in lines:
        click.echo(line)
    click.echo(f"{len(lines)} keys")


@command.command("issue")
@click.option("--kind", type=_KIND, required=True)
@click.option("--name", required=True, help="Whose key it is, for the list in the admin.")
@click.option("--product", help="The product's code, for a product key.")
@click.option("--organization", help="The organization's id, slug or external id, for its key.")
@click.option(
    "--scope", type=click.Choice(["read", "write"]), help="Good for this alone; for both if not given."
)
@click.option("--days", type=click.IntRange(1, 3650), help="Let it expire after so many days.")
def issue_key(*, kind: str, name: str, days: int | None, **bound: str | None) -> None:
    """Make a key and print it: the only time that it can be seen. A third of one name retires the oldest."""
    from cli.context import opened  # noqa: PLC0415
    from cli.keys import issue_bound  # noqa: PLC0415

    lifetime = timedelta(days=days) if days else None
    with opened() as context:
        text = issue_bound(context, kind, name, lifetime=lifetime, **bound)
    click.echo(text)


@command.command("rotate")
@click.argument("key_id", type=click.UUID)
@click.option(
    "--overlap-hours",
    type=click.IntRange(0, 24 * 365),
    default=24,
    show_default=True,
    help="How long the old key still works.",
)
def rotate_key(key_id: object, overlap_hours: int) -> None:
    """Replace a key by one of the same terms and print it; the old one ends after the overlap."""
    from uuid import UUID  # noqa: PLC0415

    from cli.context import opened  # noqa: PLC0415
    from tasks.keys import rotate  # noqa: PLC0415

    with opened() as context:
        _, text = rotate(context, UUID(str(key_id)), timedelta(hours=overlap_hours))
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
