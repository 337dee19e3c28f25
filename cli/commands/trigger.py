"""`dunlin trigger`: what `stripe trigger` does, offline."""

import click


@click.command("trigger")
@click.argument("event", required=False)
@click.option("--organization", help="Id, slug or external id; without it a new organization is made.")
@click.option("--api-version", help="Post a signed fixture in this version's shape to the web process.")
@click.option("--url", help="Where the web process listens; PUBLIC_URL if not given.")
@click.option("--list", "listing", is_flag=True, help="List the events.")
def command(
    event: str | None, *, organization: str | None, api_version: str | None, url: str | None, listing: bool
) -> None:
    """Make Stripe say EVENT: played at the local Stripe, or in test mode at the real one.

    What Stripe does only by itself (a refund that fails at the bank, say), and every event with
    --api-version, is a fixture about the organization's newest object: signed, and sent as an HTTP POST
    to the web process that runs.
    """
    from gateway.webhooks import HANDLED_EVENTS  # noqa: PLC0415

    if listing or event is None:
        _list()
        return
    if event not in (*HANDLED_EVENTS, "invoice.payment_succeeded"):
        raise click.ClickException(f"{event} changes nothing here; `dunlin trigger --list` shows what does")
    _trigger(event, organization, api_version, url)


def _list() -> None:
    from cli.triggering.scenes import SCENES  # noqa: PLC0415
    from gateway.webhooks import HANDLED_EVENTS  # noqa: PLC0415

    for name in sorted({*HANDLED_EVENTS, *SCENES}):
        click.echo(f"{name:42} {'played at Stripe' if name in SCENES else 'signed fixture'}")


def _trigger(event: str, reference: str | None, api_version: str | None, url: str | None) -> None:
    from cli.context import opened  # noqa: PLC0415
    from cli.triggering.fixtures import CURRENT, post_fixture  # noqa: PLC0415
    from cli.triggering.scenes import SCENES, stage_of  # noqa: PLC0415
    from tasks.organizations import resolve  # noqa: PLC0415

    with opened() as context:
        if context.gateway.livemode:
            raise click.ClickException("never in live mode: this makes customers and moves money")
        stage = stage_of(context, resolve(context, reference) if reference else None)
        if event in SCENES and api_version is None:
            SCENES[event](stage)
            click.echo(f"{event}: played at Stripe for customer {stage.customer_id}")
        else:
            event_id = post_fixture(stage, event, api_version or CURRENT, url)
            click.echo(f"{event}: {event_id} for customer {stage.customer_id}, taken")
