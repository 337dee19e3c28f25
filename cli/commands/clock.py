"""`dunlin clock`: list, create, advance."""

import time
from datetime import UTC, datetime
from uuid import UUID

import click

_INSTANT = click.DateTime(formats=["%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d"])
_POLL_S = 0.2
_PATIENCE_S = 300.0


@click.group("clock")
def command() -> None:
    """Test clocks: organizations on one live at its time, and Stripe's clock moves with it."""


@command.command("list")
def list_clocks() -> None:
    """Every clock: its id, its time, where it is going."""
    from cli.clocks import all_clocks  # noqa: PLC0415
    from cli.context import opened  # noqa: PLC0415

    with opened() as context:
        for clock in all_clocks(context):
            goal = f" -> {clock.target_at:%Y-%m-%d %H:%M}" if clock.target_at else ""
            why = f"  ({clock.last_error})" if clock.last_error else ""
            click.echo(f"{clock.id}  {clock.frozen_at:%Y-%m-%d %H:%M}{goal}  {clock.name}{why}")


@command.command("create")
@click.argument("name")
@click.option("--at", type=_INSTANT, help="Where it starts, UTC; now when left out.")
def create_clock(name: str, at: datetime | None) -> None:
    """Make a clock and print its id."""
    from cli.context import opened  # noqa: PLC0415
    from models.base import new_id  # noqa: PLC0415
    from tasks.clocks import create  # noqa: PLC0415

    with opened() as context:
        stands_at = at.replace(tzinfo=UTC) if at else context.wall().replace(microsecond=0)
        clock = create(context, name, stands_at, new_id())
    click.echo(str(clock.id))


@command.command("advance")
@click.argument("clock_id", type=click.UUID)
@click.argument("to", type=_INSTANT)
def advance_clock(clock_id: UUID, to: datetime) -> None:
    """Move a clock to TO (UTC) and wait until everything due by then has been done.

    The work is done by the running workers: start the system first.
    """
    from cli.context import opened  # noqa: PLC0415
    from tasks.clocks import advance, get  # noqa: PLC0415

    with opened() as context:
        clock = advance(context, clock_id, to.replace(tzinfo=UTC))
        give_up_at = time.monotonic() + _PATIENCE_S
        while clock.target_at is not None:
            if time.monotonic() > give_up_at:
                why = clock.last_error or "do the workers run?"
                raise click.ClickException(f"the clock stands at {clock.frozen_at:%Y-%m-%d %H:%M}: {why}")
            time.sleep(_POLL_S)
            clock = get(context, clock_id)
    click.echo(f"{clock.name} is at {clock.frozen_at:%Y-%m-%d %H:%M} UTC")
