"""`dunlin users`: create, password."""

import click


@click.group("users")
def command() -> None:
    """People who may sign in to the admin."""


_PASSWORD = click.option(
    "--password", prompt=True, hide_input=True, confirmation_prompt=True, envvar="DUNLIN_PASSWORD",
    help="Asked for when it is not in DUNLIN_PASSWORD; an argument would be seen in the process list.",
)  # fmt: skip


@command.command("create")
@click.argument("email")
@_PASSWORD
def create(email: str, password: str) -> None:
    """Add a person; the password has at least 12 characters."""
    from cli.context import opened  # noqa: PLC0415
    from tasks.users import create_user  # noqa: PLC0415

    with opened() as context:
        user = create_user(context, email, password)
    click.echo(f"{user.email} may sign in")


@command.command("password")
@click.argument("email")
@_PASSWORD
def change_password(email: str, password: str) -> None:
    """Replace a person's password; every session of theirs ends."""
    from cli.context import opened  # noqa: PLC0415
    from tasks.users import set_password  # noqa: PLC0415

    with opened() as context:
        if not set_password(context, email, password):
            raise click.ClickException("no such person")
    click.echo("changed")
