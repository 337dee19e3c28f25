"""`dunlin up`."""

import sys

import click


@click.command("up")
def command() -> None:
    """Start everything on this machine and stay up until Ctrl-C.

    Uses the state in ./var; when the demo never ran there, runs it first. DATABASE_URL, REDIS_URL and
    STRIPE_API_KEY, when set, are used instead of the embedded parts.
    """
    from cli.up import run_up  # noqa: PLC0415

    sys.exit(run_up())
