"""`dunlin webhooks`: list, redrive."""

from uuid import UUID

import click


@click.group("webhooks")
def command() -> None:
    """Stripe's events that gave up or are parked: list them, drive them again."""


@command.command("list")
@click.option(
    "--state",
    type=click.Choice(["queued", "running", "done", "dead"]),
    default="dead",
    show_default=True,
    help="Which events.",
)
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
def list_events(state: str, limit: int) -> None:
    """Events of one state, the newest first, each with why it stands there."""
    from cli.context import opened  # noqa: PLC0415
    from models.ops import WebhookEvent  # noqa: PLC0415

    with opened() as context, context.auditor.system() as session:
        events = (
            session.query(WebhookEvent)
            .filter_by(state=state)
            .order_by(WebhookEvent.id.desc())
            .limit(limit)
            .all()
        )
    for event in events:
        click.echo(f"{event.id}  {event.type}  {event.event_id}  API {event.api_version}")
        if event.last_error:
            click.echo(f"    {event.last_error}")
    click.echo(f"{len(events)} {state}")


@command.command("redrive")
@click.argument("row_ids", nargs=-1, type=click.UUID, required=True, metavar="ID...")
def redrive(row_ids: tuple[UUID, ...]) -> None:
    """Give dead events their attempts back; a worker takes them at once."""
    from cli.context import opened  # noqa: PLC0415
    from models import mailbox  # noqa: PLC0415
    from models.ops import WebhookEvent  # noqa: PLC0415

    with opened() as context, context.system() as unit:
        refused = [each for each in row_ids if not mailbox.redrive(unit.session, WebhookEvent, each)]
        unit.ring("webhooks.drain")
    for each in refused:
        click.echo(f"{each} is no dead event", err=True)
    if refused:
        raise click.ClickException(f"{len(refused)} of {len(row_ids)} were not driven again")
    click.echo(f"{len(row_ids)} queued again")
