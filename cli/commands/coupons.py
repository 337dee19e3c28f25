"""`dunlin coupons`: list, add, retire."""

import click


@click.group("coupons")
def command() -> None:
    """Coupons: list, add, retire."""


@command.command("list")
def list_coupons() -> None:
    """Every coupon, with how often it was redeemed."""
    from cli.context import opened  # noqa: PLC0415
    from cli.sale_terms import coupon_text  # noqa: PLC0415
    from tasks.coupons import listed  # noqa: PLC0415

    with opened() as context:
        for listing in listed(context):
            click.echo(coupon_text(listing))


@command.command("add")
@click.argument("code")
@click.option("--name", help="What invoices call it; the code, if nothing is said.")
@click.option("--percent-off", help="A percentage, such as 12.5.")
@click.option("--amount-off", type=click.IntRange(1), help="An amount in minor units, with --currency.")
@click.option("--currency", help="The currency of --amount-off.")
@click.option("--duration", type=click.Choice(["once", "repeating", "forever"]), default="once")
@click.option("--months", type=click.IntRange(1, 120), help="How long a repeating one lasts.")
@click.option("--product", "products", multiple=True, help="A product's code; repeat it. All, if none.")
@click.option("--redeem-by", type=click.DateTime(["%Y-%m-%d"]), help="The last day (UTC) to get it on.")
@click.option("--max-redemptions", type=click.IntRange(1), help="How many subscriptions may get it.")
def add_coupon(code: str, name: str | None, **terms: object) -> None:
    """Add a coupon, here and at Stripe; it takes off recurring charges, never usage."""
    from cli.context import opened  # noqa: PLC0415
    from cli.sale_terms import coupon_terms, coupon_text  # noqa: PLC0415
    from tasks.coupons import add  # noqa: PLC0415

    with opened() as context:
        listing = add(context, coupon_terms(code, name or code, terms))
    click.echo(coupon_text(listing))


@command.command("retire")
@click.argument("code")
def retire_coupon(code: str) -> None:
    """Stop giving out a coupon; subscriptions that have it keep it."""
    from cli.context import opened  # noqa: PLC0415
    from tasks.coupons import retire  # noqa: PLC0415

    with opened() as context:
        retire(context, code, active=False)
    click.echo("retired")
