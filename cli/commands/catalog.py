"""`dunlin catalog`: count, export, diff, apply, move."""

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
    """Pricing as code: export the catalog, compare a file with it, apply a file, move subscribers."""


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


@command.command("count")
@click.argument("kind", type=click.Choice(["tiers", "products", "plans", "bundles"]))
def count_catalog(kind: str) -> None:
    """How many are sold now: 3 tiers, 3 products, 9 plans and 3 bundles as shipped."""
    from cli.context import opened  # noqa: PLC0415
    from tasks.catalog import counted  # noqa: PLC0415

    with opened() as context:
        click.echo(counted(context)[kind])


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


@command.command("move")
@click.argument("code", metavar="PLAN")
@click.option("--to", type=int, metavar="VERSION", help="Refuse unless this version is the one that is sold.")
@click.option("--organization", "organizations", multiple=True, help="Only this one; may be repeated.")
@click.option(
    "--proration",
    type=click.Choice(["next_period", "prorate", "none"]),
    default="next_period",
    show_default=True,
    help="When the new price begins, and whether the running period is charged for it.",
)
@click.option("--dry-run", is_flag=True, help="Only say who would move, and what it would cost them.")
def move_subscribers(
    code: str, *, to: int | None, organizations: tuple[str, ...], proration: str, dry_run: bool
) -> None:
    """Move subscribers of PLAN (or of a bundle, by its code) to the version that is sold now.

    Each subscription is a job of its own; a repeat moves who is left. Exit code 1 if somebody was not moved.
    """
    from cli.context import opened  # noqa: PLC0415
    from cli.moving import follow, sentence  # noqa: PLC0415
    from tasks import moving  # noqa: PLC0415

    wanted = moving.MoveTerms(code=code, to=to, organizations=organizations, proration=proration)
    with opened() as context:
        moves = moving.rehearse(context, wanted) if dry_run else moving.begin(context, wanted)
        for move in moves:
            click.echo(sentence(move))
        failed = [] if dry_run else follow(context, moves)
    refused = sum(move.refusal is not None for move in moves)
    click.echo(f"{len(moves) - refused} to move, {refused} cannot be moved" if moves else "nobody to move")
    for line in failed:
        click.echo(line, err=True)
    if failed or (refused and not dry_run):
        sys.exit(1)


def _tell(found: list["Touching"]) -> None:
    for each in found:
        change = each.change
        line = f"{_MARKS[change.action]} {change.kind} {change.code}: {_what(each)}"
        click.echo(line)
        for detail in change.details:
            click.echo(f"    {detail}")
    click.echo(f"{len(found)} changes" if found else "no changes")
    for each in found:
        if each.subscriptions and (each.change.action == "version" or each.change.reprices):
            click.echo(f"to move them: dunlin catalog move {each.change.code} --dry-run")


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
