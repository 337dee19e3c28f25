"""When everything happens. Every tick means "everything due up to now".

Short intervals in UTC, no crontab: a missed or doubled tick changes nothing, and a tick that no
worker took before the next one is due expires.
"""

from datetime import timedelta
from typing import Any

SECONDS_BETWEEN = {
    "jobs.sweep": 15,
    "usage.drain": 30,
    "rollups.write": 20,
    "webhooks.drain": 30,
    # Somebody waits for a test clock, and live mode has none.
    "clocks.sweep": 5,
    "jobs.heartbeat": 60,
    "accounts.count": 30,
    "webhooks.import_missed": 300,
    "invariants.check_hourly": 300,
    "reconciliation.run_nightly": 300,
}


def timetable() -> dict[str, dict[str, Any]]:
    """Beat's schedule by task name."""
    return {
        name: {"task": name, "schedule": timedelta(seconds=every), "options": {"expires": every}}
        for name, every in SECONDS_BETWEEN.items()
    }
