"""Usage: the door that stores a batch, the worker that opens it, the way out of quarantine."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from billing.errors import BillingError, Conflict
from billing.metering import FieldError
from models import clock_queries, mailbox, usage_intake
from models.base import new_id
from models.database import Connection
from models.mailbox import NewBatch, StoredBatch
from models.ops import UsageBatch
from models.work import ClaimedJob
from tasks import adjusting
from tasks.context import Context
from tasks.queue import job, tick
from tasks.usage_door import checked

log = logging.getLogger("dunlin.usage")

# One claim: enough to make a statement worth its while, little enough to lose with a worker.
_MOST_BATCHES = 200
_MOST_EVENTS = 10_000
_RETRY = timedelta(seconds=5)


class RefusedUsage(BillingError):
    """A POST with at least one bad event: nothing of it was taken. `errors` names each."""

    code = "invalid_usage"

    def __init__(self, errors: Sequence[FieldError]) -> None:
        super().__init__(f"{len(errors)} field(s) refused; nothing was taken")
        self.errors = list(errors)


@dataclass(frozen=True, slots=True)
class AcceptedBatch:
    batch_id: UUID
    accepted: int


def accept_batch(
    context: Context,
    product_id: UUID,
    raw_events: Sequence[Mapping[str, object]],
    *,
    idempotency_key: str | None,
    digest: str,
) -> AcceptedBatch:
    """Check a POST and store it as one row; a repeat of its idempotency key finds that row.

    Args: decoded JSON events; `digest` identifies the body.
    Raises: RefusedUsage with every field at fault, Conflict for a key that came with another body.
    """
    # Made once: should the answer to the insert be lost, its repeat finds this row.
    batch_id = new_id()

    def store(connection: Connection) -> StoredBatch:
        events, errors = checked(context, connection, product_id, raw_events)
        if errors:
            raise RefusedUsage(errors)
        return mailbox.store_batch(
            connection,
            NewBatch(
                id=batch_id,
                product_id=product_id,
                idempotency_key=idempotency_key,
                body_digest=digest,
                organization_ids=sorted({UUID(event["organization_id"]) for event in events}),
                events=json.dumps(events),
                accepted=len(events),
            ),
        )

    batch = context.database.at_once(store)
    if batch.body_digest != digest:
        raise Conflict("this Idempotency-Key came with another body", field="Idempotency-Key")
    context.bell.ring("usage.drain")
    return AcceptedBatch(batch.id, batch.accepted)


@tick("usage.drain", queue="usage")
def drain(context: Context) -> None:
    """Open every stored batch that nobody has claimed; rung for, and swept for."""
    context.bell.answered("usage.drain")
    while True:
        with context.database.system() as session:
            mailbox.bury_exhausted(session, UsageBatch)
            claimed: Sequence[UsageBatch] = mailbox.claim(
                session, UsageBatch, context.settings.lease, _MOST_BATCHES
            )
        if not claimed:
            return
        for group in _groups(claimed):
            _open_group(context, group)


def _groups(batches: Sequence[UsageBatch]) -> list[list[UsageBatch]]:
    """Batches to open in one transaction, bounded by their events."""
    groups: list[list[UsageBatch]] = [[]]
    events = 0
    for batch in batches:
        if groups[-1] and events + batch.accepted > _MOST_EVENTS:
            groups.append([])
            events = 0
        groups[-1].append(batch)
        events += batch.accepted
    return groups


def _open_group(context: Context, batches: Sequence[UsageBatch]) -> None:
    """Open some batches together; if that fails, one by one, so that a bad one is alone with its error."""
    try:
        _open(context, batches)
    except Exception as error:
        if len(batches) > 1:
            for batch in batches:
                _open_group(context, [batch])
            return
        log.exception("usage batch %s could not be opened", batches[0].id)
        with context.database.system() as session:
            mailbox.put_back(session, UsageBatch, [batches[0].id], _RETRY, type(error).__name__, failed=True)


def _open(context: Context, batches: Sequence[UsageBatch]) -> None:
    ids = [batch.id for batch in batches]
    organization_ids = sorted({organization for batch in batches for organization in batch.organization_ids})
    with context.database.intake() as session:
        events = sum(batch.accepted for batch in batches)
        usage_intake.open_batches(session, organization_ids, ids, events)
        mailbox.settle(session, UsageBatch, ids, context.wall())
        unbilled = usage_intake.ended_with_late_usage(session, organization_ids)
    for organization_id, subscription_id in unbilled:
        with context.tenant(organization_id) as unit:
            adjusting.have_billed(unit, subscription_id)
    with context.system() as unit:
        # A clock does not move on over usage that is not opened: it may be of the period that ends.
        for clock_id in clock_queries.clocks_of(unit.session, organization_ids):
            unit.ring("clocks.step", str(clock_id))


@job("usage.redrive", queue="usage")
def redrive(context: Context, claimed: ClaimedJob) -> None:
    """A subscription has appeared: quarantined usage of its product finds it."""
    assert claimed.organization_id is not None
    assert claimed.subject_id is not None
    with context.tenant(claimed.organization_id) as unit:
        found = usage_intake.redrive(unit.session, claimed.organization_id, claimed.subject_id)
        adjusting.follow_up(unit)
    log.info("%d quarantined usage records of %s found their subscription", found, claimed.organization_id)
