"""Usage: the door that stores a batch, the worker that opens it, the way out of quarantine."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID
from weakref import WeakKeyDictionary

from billing.errors import Conflict
from models import clock_queries, mailbox, usage_intake
from models.base import new_id
from models.database import Database
from models.mailbox import NewBatch, StoredBatch
from models.ops import UsageBatch
from models.work import ClaimedJob
from tasks import adjusting
from tasks.context import Context
from tasks.gathering import Gathering, shared
from tasks.queue import job, tick
from tasks.usage_door import CheckedEvents, RefusedUsage, checked

__all__ = ["AcceptedBatch", "RefusedUsage", "accept_batch", "accept_checked", "body_digest"]

log = logging.getLogger("dunlin.usage")

# One claim: enough to make a statement worth its while, little enough to lose with a worker.
_MOST_BATCHES = 200
_MOST_EVENTS = 10_000
_RETRY = timedelta(seconds=5)


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
    events = checked(context, product_id, raw_events)
    return accept_checked(context, product_id, events, idempotency_key, digest)


def body_digest(raw: bytes) -> str:
    """What a repeat of an idempotency key must have in common with the first: the body, byte for byte."""
    return hashlib.sha256(raw).hexdigest()


def accept_checked(
    context: Context, product_id: UUID, events: CheckedEvents, idempotency_key: str | None, digest: str
) -> AcceptedBatch:
    """Store checked events as one row. Raises Conflict for a key that came with another body."""
    batch = NewBatch(
        # Made once: should the answer to the insert be lost, its repeat finds this row.
        id=new_id(),
        product_id=product_id,
        idempotency_key=idempotency_key,
        body_digest=digest,
        organization_ids=events.organization_ids,
        events=events.records,
        accepted=events.count,
    )
    stored = _gathering(context.database).give(batch)
    if stored.body_digest != digest:
        raise Conflict("this Idempotency-Key came with another body", field="Idempotency-Key")
    context.bell.ring("usage.drain")
    return AcceptedBatch(stored.id, stored.accepted)


_gatherings: WeakKeyDictionary[Database, Gathering[NewBatch, StoredBatch]] = WeakKeyDictionary()


def _gathering(database: Database) -> Gathering[NewBatch, StoredBatch]:
    """POSTs that come at the same time share one commit."""
    return shared(_gatherings, database, mailbox.store_batches)


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
    with context.tenant(claimed.organization) as unit:
        found = usage_intake.redrive(unit.session, claimed.organization, claimed.subject)
        adjusting.follow_up(unit)
    log.info("%d quarantined usage records of %s found their subscription", found, claimed.organization)
