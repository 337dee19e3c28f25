"""`dunlin up`: start everything, show where it is, stay until told to stop."""

import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from cli.local.stack import LocalStack, Migrate

_START_PATIENCE_S = 90


def run_up(
    state_dir: Path,
    *,
    environ: Mapping[str, str],
    migrate: Migrate,
    fresh: bool = False,
    after_start: Callable[[LocalStack], None] | None = None,
) -> None:
    """Start the whole system in `state_dir` and return after Ctrl-C, SIGTERM or SIGHUP, all stopped.

    `after_start` runs once everything is ready, before the addresses are shown (the seed, say).
    Raises StackError when something cannot start.
    """
    console = Console()
    stack = LocalStack(
        state_dir,
        profile="demo",
        fresh=fresh,
        processes=None,
        environ=environ,
        migrate=migrate,
        on_notice=lambda notice: console.print(notice, style="yellow", markup=False, highlight=False),
    )
    try:
        with stack:
            stack.wait_ready(_START_PATIENCE_S)
            if after_start is not None:
                after_start(stack)
            console.print("[bold]Dunlin is up")
            console.print(address_table(stack))
            console.print("Ctrl-C stops everything.", style="dim")
            threading.Event().wait()
    except KeyboardInterrupt:
        console.print("stopped")


def address_table(stack: LocalStack) -> Table:
    """Where a person finds what, and how they sign in."""
    environment = stack.environment
    flower_login = environment["FLOWER_BASIC_AUTH"].replace(":", " / ", 1)
    admin_login = f"{environment['ADMIN_EMAIL']} / {environment['ADMIN_PASSWORD']}"
    pages = [
        ("web", "Admin", "/admin/", admin_login),
        ("web", "API description", "/api/docs/", "a key: dunlin keys issue"),
        ("flower", "Flower (the queue)", "/", flower_login),
        ("sandbox", "Local Stripe", "/", ""),
    ]
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    # Never cut or folded: an address that ends in an ellipsis is of no use.
    table.add_column(no_wrap=True, overflow="ignore")
    for service, what, path, login in pages:
        if service in stack.urls:
            table.add_row(what, stack.urls[service] + path)
            if login:
                table.add_row("", f"[dim]{login}[/]")
    table.add_row("Logs", str(stack.state_dir / "logs"))
    return table
