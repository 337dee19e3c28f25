"""The `dunlin` command. Each subcommand is imported only when it is asked for: `--help` must be fast."""

import importlib
import sys

import click

# Name -> the module under cli.commands, and the line that `dunlin --help` shows.
_COMMANDS = {
    "demo": ("demo", "Run a quarter of billing for four organizations, and prove it."),
    "up": ("up", "Start everything on this machine and stay up until Ctrl-C."),
    "migrate": ("migrate", "Create the database roles and bring the schema up to date."),
    "seed": ("seed", "Write the shipped catalog; repeats do nothing."),
    "catalog": ("catalog", "Pricing as code: export, diff, apply, move subscribers."),
    "subscribe": ("subscribe", "Subscribe an organization to a plan or a bundle, with a trial."),
    "stripe": ("stripe", "Bring the catalog to Stripe; test the connection."),
    "trigger": ("trigger", "Make Stripe say an event, offline."),
    "webhooks": ("webhooks", "Stripe's events that gave up or are parked: list them, drive them again."),
    "keys": ("keys", "API keys: issue, revoke."),
    "users": ("users", "People who may sign in to the admin."),
    "clock": ("clock", "Test clocks: list, create, advance."),
    "coupons": ("coupons", "Coupons: list, add, retire."),
    "tax": ("tax", "Tax rates: list, add, retire, assign to organizations."),
    "credit": ("credit", "An organization's credit: show the ledger, grant."),
    "backtest": ("backtest", "Rate past usage anew under draft plans: who would pay more."),
    "preview": ("preview", "The coming invoice of a subscription, as things stand or after a change."),
    "explain": ("explain", "Explain an invoice, or one of its lines down to the events."),
    "reconcile": ("reconcile", "Compare every row with Stripe's objects, both ways."),
    "invariants": ("invariants", "Check the billing invariants in the database."),
    "jobs": ("jobs", "Jobs that gave up: list them, drive them again."),
    "invoices": ("invoices", "Invoices: PDF files, release parked ones, void, write off, have paid, credit."),
    "organizations": ("organizations", "Organizations that are parked: list them, release them."),
    "usage": ("usage", "Usage: accounts, quarantine, conflicts, corrections."),
}


class LazyGroup(click.Group):
    """A group that knows its commands' names, and imports a command when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"cli.commands.{_COMMANDS[cmd_name][0]}")
        command = module.command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list, without importing what it lists."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in _COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; what it may expect to go wrong ends in one line and exit code 1."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            sentence = _expected(error)
            if sentence is None:
                raise
            raise click.ClickException(sentence) from error


def _expected(error: Exception) -> str | None:
    """The sentence for a refusal or an absent service; None for a defect, which keeps its traceback."""
    # Imported here: a command that fails has loaded them already, and `--help` never does.
    from billing.errors import BillingError  # noqa: PLC0415
    from cli.local.errors import StackError  # noqa: PLC0415

    if isinstance(error, BillingError):
        field = getattr(error, "field", None)
        return f"{field}: {error}" if field else str(error)
    if isinstance(error, StackError):
        return str(error)
    if "sqlalchemy" in sys.modules:
        from models.reading import BEHIND, DATABASE_AWAY  # noqa: PLC0415

        if isinstance(error, DATABASE_AWAY):
            reason = str(error).splitlines()[0].removeprefix("(psycopg.OperationalError) ")
            return f"the database does not answer; is the system running? ({reason})"
        # An empty database, or one of an earlier version.
        if isinstance(getattr(error, "orig", None), BEHIND):
            return "the database's schema is not this version's: run `dunlin migrate` first"
    return None


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(package_name="dunlin")
def main() -> None:
    """Dunlin bills organizations for several products, and proves every cent.

    Commands that work on a running system take its addresses from the environment (DATABASE_URL and the
    others of docs/settings.md), or else from the system that `dunlin up` or `dunlin demo` started in ./var.
    """


if __name__ == "__main__":
    main()
