"""Run the demo: start the system, play the quarter, show and judge what came of it."""

import os
import threading
import time
from collections.abc import Mapping
from contextlib import suppress

from rich.console import Console
from rich.markup import escape

from cli.context import opened, state_dir
from cli.demo.api import Api, ApiRefusal, patiently
from cli.demo.cast import CAST, PRODUCT
from cli.demo.facts import Facts, gather, unhandled_rows
from cli.demo.generator import Recording, record
from cli.demo.judging import judge
from cli.demo.player import Halted, Played, Player, Stage
from cli.demo.progress import Board
from cli.demo.recording import read_posts
from cli.demo.summary import show_summary
from cli.keys import issue_bound
from cli.local.stack import LocalStack
from cli.preparing import prepare
from cli.up import address_table
from models.migrate import upgrade
from tasks.context import Context

# A finished demo leaves this behind: `dunlin up` then shows its results instead of running it again.
FINISHED = "demo-finished"
_START_PATIENCE_S = 90.0
_QUIET_PATIENCE_S = 30.0
_PLAIN_WIDTH = 120
# What a killed worker held is taken up again after this long; the default of two minutes is for
# production, where a worker may be busy with one piece of work for longer than anything here.
_HEAL_FAST = {"LEASE_SECONDS": "30"}


def run_demo(*, events: int, keep: bool, environ: Mapping[str, str] = os.environ) -> int:
    """Play the quarter on fresh state; the exit code. `keep` stays up afterwards until Ctrl-C."""
    console = _console()
    folder = state_dir(environ)
    began_s = time.monotonic()
    stack = LocalStack(
        folder,
        profile="demo",
        fresh=True,
        processes=None,
        environ=_HEAL_FAST | dict(environ),
        migrate=upgrade,
        on_notice=lambda notice: console.print(f"  {notice}", style="yellow", markup=False, highlight=False),
    )
    console.print("[bold]Starting[/] Postgres, Valkey, a local Stripe, the web app, workers, beat and Flower")
    try:
        with stack:
            stack.wait_ready(_START_PATIENCE_S)
            _since(console, began_s, "everything is up")
            with opened({**environ, **stack.environment}) as context:
                holds = _quarter(console, context, stack, events)
            _show_end(console, stack, began_s, holds=holds)
            if keep:
                console.print("Ctrl-C stops everything.", style="dim")
                _stay()
    except KeyboardInterrupt:
        console.print(
            "stopped before the end: everything is shut down, the next run starts anew", style="yellow"
        )
        return 130
    return 0 if holds else 1


def _stay() -> None:
    with suppress(KeyboardInterrupt):
        threading.Event().wait()


def _show_end(console: Console, stack: LocalStack, began_s: float, *, holds: bool) -> None:
    console.print(address_table(stack))
    console.print(f"{time.monotonic() - began_s:.0f} s in all", style="dim")
    if holds:
        (stack.state_dir / FINISHED).touch()
        console.print(
            "[bold green]Everything holds.[/] `make up` starts the system with this quarter's rows."
        )
    else:
        console.print(f"[bold red]Not everything holds.[/] Logs: {escape(str(stack.state_dir / 'logs'))}")


def _quarter(console: Console, context: Context, stack: LocalStack, events: int) -> bool:
    """Prepare, play and judge; whether everything holds."""
    began_s = time.monotonic()
    recording = record(stack.state_dir / "usage-events.jsonl", CAST, events)
    prepared = prepare(context, stack.environment)
    _since(
        console,
        began_s,
        f"{prepared.catalog.created} catalog rows, {prepared.stripe.created} objects at Stripe; "
        f"{recording.posts:,} POSTs recorded in {recording.path}",
    )
    began_s = time.monotonic()
    admin_key = issue_bound(context, "admin", "demo")
    stage_keys = (admin_key, issue_bound(context, "product", "demo", product=PRODUCT))
    played, problems = _play(console, stack.urls["web"], stage_keys, recording)
    _since(console, began_s, "a quarter of billing for four organizations")
    for problem in problems:
        console.print(f"  {problem}", style="bold red", markup=False, highlight=False)
    if problems:
        return False
    began_s = time.monotonic()
    _wait_for_quiet(context)
    facts = gather(context, Api(stack.urls["web"], admin_key), played, stack.state_dir / "invoices")
    findings = judge(facts, played, recording)
    _since(console, began_s, "proofs")
    show_summary(console, facts, played, recording, findings)
    _show_rest(console, stack, facts)
    return all(finding.holds for finding in findings)


def _play(
    console: Console, base_url: str, keys: tuple[str, str], recording: Recording
) -> tuple[list[Played], list[str]]:
    """Each organization in a thread of its own, on its own clock."""
    posts = read_posts(recording.path)
    problems: list[str] = []
    with Board(console, CAST, recording.accounts.accepted) as board:
        stage = Stage(base_url, *keys, posts, board)
        players = [Player(member, stage) for member in CAST]
        # Daemons: whoever interrupts the demo must not wait for the rest of the quarter.
        threads = [threading.Thread(target=_run, args=(one, problems), daemon=True) for one in players]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return [player.played for player in players], problems


def _run(player: Player, problems: list[str]) -> None:
    try:
        player.play()
    except (ApiRefusal, Halted, ConnectionError) as problem:
        problems.append(f"{player.played.member.slug}: {problem}")
    except BaseException as defect:
        problems.append(f"{player.played.member.slug}: {type(defect).__name__}: {defect}")
        raise


def _wait_for_quiet(context: Context) -> None:
    """The last batches and webhooks are on their way through the workers."""
    patiently(lambda: unhandled_rows(context), lambda rows: rows == 0, _QUIET_PATIENCE_S)


def _show_rest(console: Console, stack: LocalStack, facts: Facts) -> None:
    compared = ", ".join(f"{count} {kind}" for kind, count in sorted(facts.run.compared.items()))
    console.print(
        f"{facts.webhooks:,} signed webhooks received; compared with Stripe: {compared}", highlight=False
    )
    console.print(f"Invoices as PDF: {stack.state_dir / 'invoices'}", highlight=False)
    console.print()


def _since(console: Console, began_s: float, what: str) -> None:
    console.print(f"[green]{time.monotonic() - began_s:6.1f} s[/]  {what}", highlight=False)


def _console() -> Console:
    """As wide as the terminal; where there is none, wide enough for the tables."""
    console = Console()
    return console if console.is_terminal else Console(width=_PLAIN_WIDTH)
