"""`dunlin up`."""

import os
import sys

import click


@click.command("up")
@click.option("--empty", is_flag=True, help="Only the catalog: do not run the demo when it never ran.")
def command(empty: bool) -> None:
    """Start everything on this machine and stay up until Ctrl-C.

    Uses the state in ./var; when the demo never ran there, runs it first. DATABASE_URL, REDIS_URL and
    STRIPE_API_KEY, when set, are used instead of the embedded parts.
    """
    from cli.context import opened, state_dir  # noqa: PLC0415
    from cli.demo.run import FINISHED, run_demo  # noqa: PLC0415
    from cli.local.stack import LocalStack  # noqa: PLC0415
    from cli.preparing import prepare  # noqa: PLC0415
    from cli.up import run_up  # noqa: PLC0415
    from models.migrate import upgrade  # noqa: PLC0415

    folder = state_dir()
    if not empty and not (folder / FINISHED).exists():
        sys.exit(run_demo(events=100_000, keep=True))

    def after_start(stack: LocalStack) -> None:
        with opened({**os.environ, **stack.environment}) as context:
            prepare(context, stack.environment)

    run_up(folder, environ=os.environ, migrate=upgrade, after_start=after_start)
