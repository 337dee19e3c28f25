"""`dunlin usage`: accounts, quarantine, redrive, conflicts, correct."""

from datetime import datetime

import click

_DAY = click.DateTime(formats=["%Y-%m-%d"])


@click.group("usage")
def command() -> None:
    """Usage: its accounts, what is held back, what conflicts, corrections."""


@command.command("accounts")
@click.option("--from", "first", type=_DAY, help="The first day of acceptance (UTC).  [default: a week ago]")
@click.option("--to", "last", type=_DAY, help="The last day.  [default: today]")
@click.option("--kept", is_flag=True, help="As counted last, instead of counting every event now.")
def show_accounts(first: datetime | None, last: datetime | None, kept: bool) -> None:
    """Whether accepted = rated + waiting + quarantined + duplicate. Exit code 1 where it does not hold."""
    from cli.context import opened  # noqa: PLC0415
    from cli.usage import account_lines, accounts_of  # noqa: PLC0415

    with opened() as context:
        found = accounts_of(context, first and first.date(), last and last.date(), kept=kept)
    for line in account_lines(found):
        click.echo(line)
    wrong = sum(not each.adds_up for each in found)
    if wrong:
        raise click.ClickException(f"{wrong} of {len(found)} days do not add up")


@command.command("quarantine")
@click.option("--organization", help="Only of this one: id, slug or external id.")
@click.option("--product", help="Only of this product.")
@click.option("--reason", help="Only for this reason.")
def show_quarantine(organization: str | None, product: str | None, reason: str | None) -> None:
    """What is held back and why, counted by organization, meter and reason."""
    from cli.context import opened  # noqa: PLC0415
    from cli.usage import group_text  # noqa: PLC0415
    from tasks.quarantine import held  # noqa: PLC0415

    with opened() as context:
        found = held(context, organization=organization, product=product, reason=reason)
    for group in found:
        click.echo(group_text(group))
    click.echo(f"{sum(group.events for group in found):,} events in quarantine")


@command.command("redrive")
@click.option("--organization", help="Only of this one: id, slug or external id.")
@click.option("--product", help="Only of this product.")
def redrive_usage(organization: str | None, product: str | None) -> None:
    """Try everything in quarantine again; what finds its place waits for its invoice."""
    from cli.context import opened  # noqa: PLC0415
    from cli.usage import group_text  # noqa: PLC0415
    from tasks.quarantine import redrive  # noqa: PLC0415

    with opened() as context:
        found, left = redrive(context, organization=organization, product=product)
    for group in left:
        click.echo(group_text(group))
    click.echo(
        f"{found:,} events found their place, {sum(group.events for group in left):,} are still held back"
    )


@command.command("conflicts")
@click.option("--organization", help="Only of this one: id, slug or external id.")
@click.option("--limit", type=click.IntRange(1, 1_000), default=50, show_default=True)
def show_conflicts(organization: str | None, limit: int) -> None:
    """Event ids that came with two contents, both side by side, the newest first."""
    from cli.context import opened  # noqa: PLC0415
    from cli.usage import conflict_lines  # noqa: PLC0415
    from models.reading import Page  # noqa: PLC0415
    from tasks.organizations import resolve  # noqa: PLC0415
    from tasks.quarantine import conflicts  # noqa: PLC0415

    with opened() as context:
        organization_id = None if organization is None else resolve(context, organization)
        found, more = conflicts(context, Page(limit), organization_id=organization_id)
    for conflict in found:
        for line in conflict_lines(conflict):
            click.echo(line)
    click.echo(f"{len(found)} conflicts{', and older ones' if more else ''}")


@command.command("correct")
@click.argument("organization")
@click.argument("product")
@click.argument("event_id")
@click.option("--quantity", help="What it should have said.")
@click.option("--void", is_flag=True, help="It never happened.")
@click.option("--reason", required=True, help="What the books say of it.")
def correct_event(
    organization: str, product: str, event_id: str, reason: str, **said: str | bool | None
) -> None:
    """Correct one usage event, before or after its invoice."""
    from cli.context import opened  # noqa: PLC0415
    from cli.usage import correct  # noqa: PLC0415

    quantity = said["quantity"]
    if bool(said["void"]) == (quantity is not None):
        raise click.UsageError("say --quantity or --void")
    with opened() as context:
        effect = correct(
            context, (organization, product, event_id), None if quantity is None else str(quantity), reason
        )
    click.echo(effect)
