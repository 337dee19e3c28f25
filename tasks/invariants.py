"""The hourly proof that the books are right; a breach parks its organization and raises an alert."""

import logging
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from models import invariants, parking, periodic
from models.invariants import Breach
from tasks.context import Context
from tasks.queue import tick

log = logging.getLogger("dunlin.invariants")

_EVERY = timedelta(hours=1)
_RUN = "invariants"
# Work that is behind is a matter of the whole system: to park whom it concerns would only add to it.
_PARKS_NOBODY = frozenset({"I9"})


def check(context: Context) -> list[Breach]:
    """Every breach of the invariants I1 to I10 and I12 now; none is what a healthy system answers."""
    with context.auditor.system() as session:
        return invariants.check(session, context.wall(), context.settings.dunning_policy)


def park(context: Context, breaches: Sequence[Breach]) -> list[UUID]:
    """Park every organization whose books are wrong. Returns those that were not parked before."""
    first: dict[UUID, Breach] = {}
    for breach in breaches:
        if breach.organization_id is not None and breach.invariant not in _PARKS_NOBODY:
            first.setdefault(breach.organization_id, breach)
    with context.system() as unit:
        return [
            organization_id
            for organization_id, breach in first.items()
            if parking.park(
                unit.session, organization_id, unit.now, f"{breach.invariant}: {breach.detail}", actor=_RUN
            )
        ]


@tick("invariants.check_hourly", queue="ops")
def check_hourly(context: Context) -> None:
    """Check once an hour, however often the tick comes; the rest of the organizations goes on."""
    with context.system() as unit:
        if not periodic.claim_run(unit.session, _RUN, unit.now, _EVERY):
            return
    try:
        breaches = check(context)
        parked = park(context, breaches)
    except Exception:
        with context.system() as unit:
            periodic.release_run(unit.session, _RUN)
        raise
    for breach in breaches:
        log.error(
            "ALERT %s of %s: %s", breach.invariant, breach.organization_id or "the system", breach.detail
        )
    if parked:
        log.error("ALERT parked %d organizations: %s", len(parked), ", ".join(map(str, parked)))
