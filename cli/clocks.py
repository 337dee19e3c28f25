"""Reading test clocks for the commands."""

from models.organizations import TestClock
from tasks.context import Context


def all_clocks(context: Context) -> list[TestClock]:
    """Every clock, the newest first."""
    with context.auditor.system() as session:
        return session.query(TestClock).order_by(TestClock.id.desc()).all()
