"""How a bulk move is told: one sentence a subscription, and the progress of the workers."""

import time
from typing import TYPE_CHECKING

import click

from billing.money import Money, format_money

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from tasks.context import Context
    from tasks.moving import Move

_LOOK_EVERY_S = 0.5
# How long nothing may happen before the command leaves the rest to the workers.
_PATIENCE_S = 60.0


def sentence(move: "Move") -> str:
    """`acme 0199…: version 1, $35.00 -> $39.00 a month (+$4.00)`."""
    subject = f"{move.organization} {move.subscription_id}: version {move.from_version}"
    if move.refusal is not None or move.currency is None:
        return f"{subject} stays: {move.refusal}"
    old, new = Money(move.old_minor, move.currency), Money(move.new_minor, move.currency)
    sign = "+" if new.minor >= old.minor else ""
    difference = f"{sign}{format_money(new - old)}"
    return f"{subject}, {format_money(old)} -> {format_money(new)} a {move.interval} ({difference})"


def follow(context: "Context", moves: "Sequence[Move]") -> list[str]:
    """Show the progress until all is done. Returns a line for each subscription that was not moved."""
    from tasks.moving import outcome  # noqa: PLC0415

    begun = {move.change_id: move for move in moves if move.change_id is not None}
    if not begun:
        return []
    found = _progress(context, list(begun))
    click.echo()
    ended = {each.change_id: each for each in outcome(context, list(begun))}
    return (
        [
            f"{begun[change_id].organization} {begun[change_id].subscription_id}: {each.state}"
            + (f", {each.reason}" if each.reason else "")
            for change_id, each in ended.items()
            if each.state != "applied"
        ]
        if found < len(begun)
        else []
    )


def _progress(context: "Context", change_ids: "list[UUID]") -> int:
    """How many have been applied when all have ended, or nothing has happened for a minute."""
    from tasks.moving import outcome  # noqa: PLC0415

    applied = waiting = -1
    last_at = time.monotonic()
    while waiting and time.monotonic() - last_at < _PATIENCE_S:
        states = [each.state for each in outcome(context, change_ids)]
        if states.count("applied") != applied or states.count("waiting") != waiting:
            applied, waiting = states.count("applied"), states.count("waiting")
            last_at = time.monotonic()
            click.echo(f"\r{applied} of {len(change_ids)} moved", nl=False)
        if waiting:
            time.sleep(_LOOK_EVERY_S)
    return applied
