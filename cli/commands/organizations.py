"""`dunlin organizations`: parked, release."""

import click


@click.group("organizations")
def command() -> None:
    """Organizations that are parked: nothing of them is invoiced or charged until they are released."""


@command.command("parked")
def list_parked() -> None:
    """Organizations that wait for a person, the longest first, each with the reason."""
    from cli.context import opened  # noqa: PLC0415
    from models.parking import parked_organizations  # noqa: PLC0415

    with opened() as context, context.auditor.system() as session:
        found = parked_organizations(session)
    for each in found:
        click.echo(f"{each.id}  {each.slug}  since {each.parked_at:%Y-%m-%d %H:%M}: {each.parked_reason}")
    click.echo(f"{len(found)} parked")


@command.command("release")
@click.argument("organization")
def release(organization: str) -> None:
    """Go on with a parked ORGANIZATION (id, slug or external id), if its books are right now."""
    from cli.context import opened  # noqa: PLC0415
    from tasks.organizations import resolve  # noqa: PLC0415
    from tasks.releasing import release_organization  # noqa: PLC0415

    with opened() as context:
        release_organization(context, resolve(context, organization), "cli")
    click.echo(f"{organization} is released: workers go on with what waited")
