"""`dunlin subscribe`."""

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from uuid import UUID

    from tasks.context import Context


@click.command("subscribe")
@click.argument("organization")
@click.argument("code")
@click.option("--email", help="Make ORGANIZATION, a slug then, should it not be there.")
@click.option(
    "--interval", type=click.Choice(["month", "quarter", "year"]), default="month", show_default=True
)
@click.option("--quantity", type=click.IntRange(1), default=1, show_default=True, help="Seats.")
@click.option("--trial-days", type=click.IntRange(0, 730), help="TRIAL_PERIOD_DAYS if not given; 0 for none.")
@click.option("--bundle", is_flag=True, help="CODE is a bundle's.")
def command(
    organization: str,
    code: str,
    *,
    email: str | None,
    interval: str,
    quantity: int,
    trial_days: int | None,
    bundle: bool,
) -> None:
    """Subscribe ORGANIZATION (id, slug or external id) to the plan CODE."""
    from cli.context import opened  # noqa: PLC0415
    from tasks import subscriptions  # noqa: PLC0415

    with opened() as context:
        organization_id, currency = _found(context, organization, email)
        terms = subscriptions.SubscriptionTerms(
            plan=None if bundle else code,
            bundle=code if bundle else None,
            currency=currency,
            interval=interval,
            quantity=quantity,
            trial_days=context.settings.trial_period.days if trial_days is None else trial_days,
            private=True,
        )
        made = subscriptions.create(context, organization_id, terms).subscription
    until = made.trial_end_at or made.current_period_end_at
    click.echo(f"{made.id}: {made.status} until {until:%Y-%m-%d}")


def _found(context: "Context", reference: str, email: str | None) -> "tuple[UUID, str]":
    from billing.errors import NotFound  # noqa: PLC0415
    from tasks import organizations  # noqa: PLC0415

    try:
        organization_id = organizations.resolve(context, reference)
    except NotFound:
        if email is None:
            raise
        terms = organizations.OrganizationTerms(
            slug=reference, name=reference, email=email, currency=context.settings.default_currency
        )
        organization_id = organizations.create(context, terms).id
    with context.tenant(organization_id) as unit:
        return organization_id, unit.organization.currency
