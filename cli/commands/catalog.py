"""`dunlin catalog`: export, diff, apply."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from tasks.catalog import Touching

_FILE = click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
_MARKS = {"add": "+", "extend": "+", "edit": "~", "version": "^"}


@click.group("catalog")
def command() -> None:
    """Pricing as code: export the catalog, compare a file with it, apply a file."""


@command.command("export")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path), required=False)
def export_catalog(file: Path | None) -> None:
    """Write the catalog that is sold now as TOML, to FILE or to the terminal."""
    from cli.context import opened  # noqa: PLC0415
    from tasks.catalog import export  # noqa: PLC0415

    with opened() as context:
        text = export(context)
    if file is None:
        sys.stdout.write(text)
    else:
        file.write_text(text, encoding="utf-8")


@command.command("diff")
@_FILE
def diff_catalog(file: Path) -> None:
    """Say what applying FILE would change, and how many live subscriptions each change touches."""
    from cli.context import opened  # noqa: PLC0415
    from tasks.catalog import diff  # noqa: PLC0415

    with opened() as context:
        found = diff(context, file.read_text(encoding="utf-8"))
    _tell(found)


@command.command("apply")
@_FILE
@click.option(
    "--no-sync", is_flag=True, help="Leave Stripe as it is; `dunlin stripe sync` brings it up later."
)
def apply_catalog(file: Path, no_sync: bool) -> None:
    """Bring the catalog to what FILE says, then Stripe to the catalog; a repeat changes nothing.

    New prices make a new version of their plan, and subscribers stay on theirs. What FILE does not name
    stays as it is.
    """
    from cli.context import opened  # noqa: PLC0415
    from tasks.catalog import apply  # noqa: PLC0415
    from tasks.stripe_catalog import sync  # noqa: PLC0415

    with opened() as context:
        _tell(apply(context, file.read_text(encoding="utf-8")))
        if not no_sync:
            click.echo(f"Stripe: {sync(context, progress=click.echo)}")


def _tell(found: list["Touching"]) -> None:
    for each in found:
        change = each.change
        line = f"{_MARKS[change.action]} {change.kind} {change.code}: {_what(each)}"
        click.echo(line)
        for detail in change.details:
            click.echo(f"    {detail}")
    click.echo(f"{len(found)} changes" if found else "no changes")


def _what(each: "Touching") -> str:
    change, count = each.change, each.subscriptions
    subscriptions = f"{count} live subscription{'' if count == 1 else 's'}"
    match change.action:
        case "add":
            return "new"
        case "extend":
            return "new prices"
        case "version":
            return f"new version; {subscriptions} stay{'s' if count == 1 else ''} on the old one"
    if change.reprices:
        return (
            f"new prices for new subscriptions; {subscriptions} keep{'s' if count == 1 else ''} the old ones"
        )
    return "changed in place" if count is None else f"changed in place; {subscriptions}"
