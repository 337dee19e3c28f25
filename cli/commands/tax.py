"""`dunlin tax`: list, add, retire, assign."""

import click


@click.group("tax")
def command() -> None:
    """Tax rates: list, add, retire, assign to organizations."""


@command.command("list")
def list_rates() -> None:
    """Every tax rate."""
    from cli.context import opened  # noqa: PLC0415
    from cli.sale_terms import rate_text  # noqa: PLC0415
    from tasks.tax import rates  # noqa: PLC0415

    with opened() as context:
        for rate in rates(context):
            click.echo(rate_text(rate))


@command.command("add")
@click.argument("code")
@click.argument("percentage")
@click.option("--name", required=True, help="What invoices call it, such as VAT.")
@click.option("--inclusive", is_flag=True, help="The prices contain it.")
@click.option("--country", help="Two letters.")
def add_rate(code: str, percentage: str, name: str, inclusive: bool, country: str | None) -> None:
    """Add a tax rate, here and at Stripe; 15 means 15 %."""
    from cli.context import opened  # noqa: PLC0415
    from cli.sale_terms import decimal, rate_text  # noqa: PLC0415
    from tasks.tax import RateTerms, add  # noqa: PLC0415

    share = decimal(percentage, "percentage")
    with opened() as context:
        terms = RateTerms(code=code, name=name, percentage=share, inclusive=inclusive, country=country)
        rate = add(context, terms)
    click.echo(rate_text(rate))


@command.command("retire")
@click.argument("code")
def retire_rate(code: str) -> None:
    """Stop assigning a tax rate; organizations that have it keep it."""
    from cli.context import opened  # noqa: PLC0415
    from tasks.tax import retire  # noqa: PLC0415

    with opened() as context:
        retire(context, code, active=False)
    click.echo("retired")


@command.command("assign")
@click.argument("organization")
@click.option("--rate", help="The rate's code; `none` takes it away.")
@click.option("--exempt", type=click.Choice(["none", "exempt", "reverse"]), help="Whether it pays tax.")
def assign_rate(organization: str, rate: str | None, exempt: str | None) -> None:
    """Give an organization a tax rate from its next invoice on, or exempt it."""
    from cli.context import opened  # noqa: PLC0415
    from tasks.organizations import resolve, update  # noqa: PLC0415

    changes: dict[str, str | None] = {}
    if rate is not None:
        changes["tax_rate"] = None if rate == "none" else rate
    if exempt is not None:
        changes["tax_exempt"] = exempt
    if not changes:
        raise click.UsageError("say --rate or --exempt")
    with opened() as context:
        update(context, resolve(context, organization), changes)
    click.echo("from the next invoice on")
