"""`dunlin preview`."""

import json

import click


@click.command("preview")
@click.argument("subscription")
@click.option("--plan", help="After a change to this plan of the same product.")
@click.option("--quantity", type=click.IntRange(1), help="After a change to so many seats.")
@click.option("--product", help="Which product's item changes, where the subscription has several.")
@click.option("--remove", is_flag=True, help="After taking the product out of its bundle.")
@click.option(
    "--proration",
    type=click.Choice(("prorate", "next_period", "none")),
    default="prorate",
    show_default=True,
    help="How the change takes effect.",
)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def command(
    *,
    subscription: str,
    plan: str | None,
    quantity: int | None,
    product: str | None,
    remove: bool,
    proration: str,
    as_json: bool,
) -> None:
    """Show the coming invoice of SUBSCRIPTION (its id), as things stand or after a change.

    Made by the code of the real invoice, and taken back: usage so far, late usage, changes, discounts,
    tax and credit. Nothing is written.
    """
    from cli.context import opened  # noqa: PLC0415
    from cli.previewing import coming, record_of, text_of  # noqa: PLC0415
    from tasks.subscription_changes import ChangeTerms  # noqa: PLC0415

    terms = ChangeTerms(plan=plan, quantity=quantity, product=product, remove=remove, proration=proration)
    with opened() as context:
        found = coming(context, subscription, terms)
    if as_json:
        click.echo(json.dumps(record_of(found), indent=2))
        return
    for line in text_of(found):
        click.echo(line)
