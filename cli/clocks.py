"""Reading test clocks for the commands."""

from uuid import UUID

from billing.errors import NotFound
from models.organizations import TestClock
from tasks.context import Context


def all_clocks(context: Context) -> list[TestClock]:
    """Every clock, the newest first."""
    with context.auditor.system() as session:
        return session.query(TestClock).order_by(TestClock.id.desc()).all()


def one_clock(context: Context, clock_id: UUID) -> TestClock:
    """The clock as it stands now. Raises NotFound."""
    with context.auditor.system() as session:
        clock = session.get(TestClock, clock_id)
    if clock is None:
        raise NotFound("no such clock")
    return clock
