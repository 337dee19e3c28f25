"""Rollups: written behind the usage by one tick, read together with what it has not reached yet."""

from models import usage_rollups
from tasks.context import Context
from tasks.queue import tick

# One step: enough to make its statements worth their while, little enough to lose with a worker.
_MOST_BATCHES = 500
_MOST_EVENTS = 50_000


@tick("rollups.write", queue="usage")
def write(context: Context) -> None:
    """Roll up every opened batch, and restate the hours in which a known event has changed."""
    while True:
        with context.database.intake() as session:
            written = usage_rollups.write_some(session, context.wall(), _MOST_BATCHES, _MOST_EVENTS)
        if written is None or not (written.batches or written.hours):
            return
