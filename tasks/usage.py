"""Usage: the door that stores a batch, the worker that opens it, the way out of quarantine."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID
from weakref import WeakKeyDictionary

from billing.errors import Conflict
from models import clock_queries, usage_inbox, usage_intake
from models.base import new_id
from models.database import Database, Session
from models.usage_inbox import NewBatch, StoredBatch, TakenBatch
from models.work import ClaimedJob
from tasks import adjusting
from tasks.context import Context
from tasks.gathering import Gathering, shared
from tasks.queue import job, tick
from tasks.usage_door import CheckedEvents, RefusedUsage, checked

__all__ = ["AcceptedBatch", "RefusedUsage", "accept_batch", "accept_checked", "body_digest"]

log = logging.getLogger("dunlin.usage")

# One transaction: enough to make its statements worth their while, little enough to do again.
_STEPS = (4, 32, 256, 2_048)
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
    return shared(_gatherings, database, usage_inbox.store_batches)


@tick("usage.drain", queue="usage")
def drain(context: Context) -> None:
    """Open every stored batch; rung for, and swept for. What comes meanwhile rings again."""
    while _open_waiting(context):
        pass


def _open_waiting(context: Context) -> bool:
    """Open as many of the batches that wait as one transaction should. Returns whether more may wait."""
    taken: list[TakenBatch] = []
    try:
        with context.database.intake() as session:
            more = _take(session, taken)
            unbilled = _open(session, taken)
    except Exception:
        log.exception("%d usage batches could not be opened together", len(taken))
        # A bad one shall be alone with its error.
        for batch in taken:
            _open_alone(context, batch.id)
        return False
    _follow_up(context, taken, unbilled)
    return more


def _take(session: Session, taken: list[TakenBatch]) -> bool:
    """Take what waits, in growing steps: few large batches make a transaction, or many small ones."""
    for most in _STEPS:
        found = usage_inbox.take_batches(session, most)
        taken += found
        if len(found) < most:
            return False
        if sum(batch.accepted for batch in taken) >= _MOST_EVENTS:
            break
    return True


def _open_alone(context: Context, batch_id: UUID) -> None:
    try:
        with context.database.intake() as session:
            taken = usage_inbox.take_batch(session, batch_id)
            unbilled = _open(session, taken)
    except Exception as error:
        log.exception("usage batch %s could not be opened", batch_id)
        with context.database.system() as session:
            usage_inbox.fail_batch(session, batch_id, _RETRY, type(error).__name__)
        context.bell.ring("usage.drain", after=_RETRY)
    else:
        _follow_up(context, taken, unbilled)


def _open(session: Session, taken: Sequence[TakenBatch]) -> Sequence[tuple[UUID, UUID]]:
    """Make records of taken batches. Returns whose late usage no coming invoice will bill."""
    if not taken:
        return []
    organization_ids, events = _organizations(taken), sum(batch.accepted for batch in taken)
    usage_intake.open_batches(session, organization_ids, [batch.id for batch in taken], events)
    return usage_intake.ended_with_late_usage(session, organization_ids)


def _organizations(taken: Sequence[TakenBatch]) -> list[UUID]:
    return sorted({organization for batch in taken for organization in batch.organization_ids})


def _follow_up(context: Context, taken: Sequence[TakenBatch], unbilled: Sequence[tuple[UUID, UUID]]) -> None:
    for organization_id, subscription_id in unbilled:
        with context.tenant(organization_id) as unit:
            adjusting.have_billed(unit, subscription_id)
    if taken:
        with context.system() as unit:
            # A clock does not move on over usage that is not opened: it may be of the period that ends.
            for clock_id in clock_queries.clocks_of(unit.session, _organizations(taken)):
                unit.ring("clocks.step", str(clock_id))


@job("usage.redrive", queue="usage")
def redrive(context: Context, claimed: ClaimedJob) -> None:
    """A subscription has appeared: quarantined usage of its product finds it."""
    with context.tenant(claimed.organization) as unit:
        found = usage_intake.redrive(unit.session, claimed.organization, claimed.subject)
        adjusting.follow_up(unit)
    log.info("%d quarantined usage records of %s found their subscription", found, claimed.organization)
