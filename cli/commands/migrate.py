"""`dunlin migrate`."""

import os

import click


@click.command("migrate")
def command() -> None:
    """Create the database roles and bring the schema up to date.

    Needs DATABASE_OWNER_URL: a role that owns the schema and may create roles. DATABASE_APP_PASSWORD and
    DATABASE_AUDITOR_PASSWORD set the passwords of the roles dunlin_app and dunlin_auditor; without them the
    passwords stay as they are. Safe to run again, and by several processes at once.
    """
    from cli.context import settings_environ  # noqa: PLC0415
    from models.migrate import upgrade  # noqa: PLC0415

    environ = settings_environ(os.environ)
    owner_url = environ.get("DATABASE_OWNER_URL")
    if not owner_url:
        raise click.ClickException("the environment variable DATABASE_OWNER_URL is missing")
    upgrade(
        owner_url,
        environ.get("DATABASE_APP_PASSWORD") or None,
        environ.get("DATABASE_AUDITOR_PASSWORD") or None,
    )
    click.echo("the schema is up to date")
