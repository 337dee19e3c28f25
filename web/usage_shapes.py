"""The JSON that goes out about usage: corrections, conflicts, accounts, adjustments on demand."""

from datetime import date, datetime
from typing import Any
from uuid import UUID

from msgspec import Struct


class UsageCorrection(Struct, kw_only=True):
    """A correction that stands; of several of one event the one with the highest `number` counts.

    `effect`: with_its_period (not invoiced yet), adjustment (the next invoice carries the difference),
    quarantined (the event waits there), or invoiced.
    """

    id: UUID
    organization: UUID
    event_id: str
    number: int
    kind: str
    quantity: str | None
    original_quantity: str
    reason: str
    received_at: datetime
    effect: str


class EventContent(Struct, kw_only=True):
    """What a usage event says, and the batch that it came in."""

    metric: str | None
    quantity: str
    timestamp: datetime
    properties: dict[str, Any]
    batch_id: UUID


class UsageConflict(Struct, kw_only=True):
    """One event id, two contents: the `kept` one counts. `settled` once it was corrected after that."""

    id: UUID
    organization: str
    product: str
    event_id: str
    received_at: datetime
    kept: EventContent
    refused: EventContent
    settled: bool


class UsageConflicts(Struct):
    items: list[UsageConflict]
    next: UUID | None = None


class Adjustment(Struct, kw_only=True):
    """The invoice that bills what waited late or corrected; null when nothing waits."""

    invoice: UUID | None


class DayAccounts(Struct, kw_only=True):
    """accepted = rated + waiting + quarantined + duplicate, of the events accepted on `day` (UTC).

    `adds_up` says whether that holds, for the day and for each of its batches; `unbalanced_batches` are
    those for which it does not.
    """

    product: str
    day: date
    accepted: int
    rated: int
    waiting: int
    quarantined: int
    duplicate: int
    adds_up: bool
    unbalanced_batches: int
    counted_at: datetime | None


class UsageAccounts(Struct):
    """The newest day first."""

    items: list[DayAccounts]


class MetricUsage(Struct, kw_only=True):
    """One metric of a plan; where its price has groups, one entry for each of them.

    `included` is the allowance of the whole period, `overage` what was used beyond it. `cost_so_far_minor`
    is what the invoice would charge if nothing more came; a minimum or a fixed part is in it from the
    first day. Projected is what goes on as so far: sums and counts evenly, levels at their level.
    """

    metric: str
    name: str
    unit: str
    product: str
    plan: str
    aggregation: str
    # What tells the group apart, for a reader; "" of a price without groups.
    group: str
    # property -> values; null of what matches no other group
    match: dict[str, list[Any]] | None
    quantity: str
    included: str
    overage: str
    cost_so_far_minor: int
    projected_quantity: str
    projected_cost_minor: int


class CurrentUsage(Struct, kw_only=True):
    """A subscription's usage in `[period_start_at, period_end_at)`, as it was at `at`."""

    subscription: UUID
    period_start_at: datetime
    period_end_at: datetime
    at: datetime
    trial: bool
    currency: str
    cost_so_far_minor: int
    projected_cost_minor: int
    items: list[MetricUsage]
