"""`dunlin credit`: show, grant."""

import click


@click.group("credit")
def command() -> None:
    """An organization's credit: show the ledger, grant."""


@command.command("show")
@click.argument("organization")
def show_credit(organization: str) -> None:
    """The balance, and every entry with what is left of it."""
    from cli.context import opened  # noqa: PLC0415
    from cli.sale_terms import ledger_lines  # noqa: PLC0415
    from tasks.balance import ledger  # noqa: PLC0415
    from tasks.organizations import resolve  # noqa: PLC0415

    with opened() as context:
        for line in ledger_lines(ledger(context, resolve(context, organization))):
            click.echo(line)


@command.command("grant", context_settings={"ignore_unknown_options": True})
@click.argument("organization")
@click.argument("amount_minor", type=int)
@click.option("--reason", required=True, help="What the ledger says of it.")
@click.option("--key", help="Names the intention: the same key grants once.")
def grant_credit(organization: str, amount_minor: int, reason: str, key: str | None) -> None:
    """Give credit in minor units; below zero takes unspent credit back."""
    from uuid import uuid4  # noqa: PLC0415

    from cli.context import opened  # noqa: PLC0415
    from cli.sale_terms import ledger_lines  # noqa: PLC0415
    from tasks.balance import grant, ledger  # noqa: PLC0415
    from tasks.organizations import resolve  # noqa: PLC0415

    with opened() as context:
        organization_id = resolve(context, organization)
        grant(context, organization_id, amount_minor, reason, f"cli:{key or uuid4()}")
        found = ledger(context, organization_id)
    click.echo(next(iter(ledger_lines(found))))
