"""`dunlin demo`."""

import sys

import click


@click.command("demo")
@click.option(
    "--events",
    type=click.IntRange(1_000, 2_000_000),
    default=100_000,
    show_default=True,
    help="How many distinct usage events the quarter has.",
)
@click.option("--keep", is_flag=True, help="Stay up after the summary, until Ctrl-C.")
def command(events: int, keep: bool) -> None:
    """Run a quarter of billing for four organizations, and prove it.

    Starts Postgres, Valkey, a local Stripe, the web app, workers, beat and Flower as own processes with
    fresh state in ./var; bills four organizations for three months of usage on their own test clocks; and
    ends with the accounts, the invoices, the reconciliation and the invariants.

    Exit code 0 only if all of it holds.
    """
    from cli.demo.run import run_demo  # noqa: PLC0415

    sys.exit(run_demo(events=events, keep=keep))
