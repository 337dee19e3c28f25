"""What the usage door knows: whom and what an event may name. Most of it is remembered for a minute."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID
from weakref import WeakKeyDictionary

from billing.errors import BillingError
from billing.metering import FieldError, UsageEvent, check_usage_event
from models import usage_intake
from models.database import Database
from models.usage_intake import Addressee, MeteredProduct
from tasks.context import Context

# What is remembered never changes (a product's code, a meter's id, an organization's names), and what
# is not found is always looked for: the limit only keeps a process from believing for ever.
_REMEMBERED = timedelta(minutes=1)
_MOST_REMEMBERED = 10_000


@dataclass(slots=True)
class _Memory:
    """What a process learned from one database, and when."""

    products: dict[UUID, tuple[datetime, MeteredProduct]] = field(default_factory=dict)
    addressees: dict[str, tuple[datetime, Addressee]] = field(default_factory=dict)


_memories: WeakKeyDictionary[Database, _Memory] = WeakKeyDictionary()


class RefusedUsage(BillingError):
    """A POST with at least one bad event: nothing of it was taken. `errors` names each."""

    code = "invalid_usage"

    def __init__(self, errors: Sequence[FieldError]) -> None:
        super().__init__(f"{len(errors)} field(s) refused; nothing was taken")
        self.errors = list(errors)


@dataclass(frozen=True, slots=True)
class CheckedEvents:
    """Events that may go into the inbox: whose they are, and their records as JSON text."""

    organization_ids: Sequence[UUID]
    records: str
    count: int


def checked(context: Context, product_id: UUID, raw_events: Sequence[Mapping[str, object]]) -> CheckedEvents:
    """Check every event. Raises RefusedUsage with every field at fault, by the index of its event."""
    now = context.wall()
    metrics = {name for raw in raw_events if isinstance(name := raw.get("metric"), str)}
    references = {name for raw in raw_events if isinstance(name := raw.get("organization"), str)}
    known = door(context, product_id, metrics, references)
    events: list[dict[str, Any]] = []
    errors: list[FieldError] = []
    for index, raw in enumerate(raw_events):
        addressee = known.organizations.get(str(raw.get("organization")))
        event = check_usage_event(raw, addressee.frozen_at if addressee and addressee.frozen_at else now)
        found = event if isinstance(event, list) else known.refusals(event)
        if found:
            errors += [replace(error, index=index) for error in found]
        elif isinstance(event, UsageEvent):
            events.append({"index": index, **known.record(event)})
    if errors:
        raise RefusedUsage(errors)
    organization_ids = {UUID(event["organization_id"]) for event in events}
    return CheckedEvents(sorted(organization_ids), json.dumps(events), len(events))


def door(context: Context, product_id: UUID, metrics: set[str], references: set[str]) -> "Door":
    """What the door knows of a product and the organizations that a POST names; asks for what it does not."""
    memory, now = _memories.setdefault(context.database, _Memory()), context.wall()
    return Door(
        product=_product(memory, context.database, product_id, metrics, now),
        organizations=_organizations(memory, context.database, references, now),
    )


def _product(
    memory: _Memory, database: Database, product_id: UUID, metrics: set[str], now: datetime
) -> MeteredProduct:
    known = memory.products.get(product_id)
    if known is not None and now - known[0] < _REMEMBERED and metrics <= known[1].meters.keys():
        return known[1]
    found = database.at_once(lambda connection: usage_intake.metered_product(connection, product_id))
    memory.products[product_id] = (now, found)
    return found


def _organizations(
    memory: _Memory, database: Database, references: set[str], now: datetime
) -> Mapping[str, Addressee]:
    known = {
        name: memory.addressees[name][1]
        for name in references & memory.addressees.keys()
        if now - memory.addressees[name][0] < _REMEMBERED
    }
    missing = references - known.keys()
    if not missing:
        return known
    found = database.at_once(lambda connection: usage_intake.addressees(connection, sorted(missing)))
    if len(memory.addressees) + len(found) > _MOST_REMEMBERED:
        memory.addressees.clear()
    # Only by the names that were asked for: another of its names may be a slug of somebody else's.
    for name in missing & found.keys():
        known[name] = found[name]
        # A test clock moves at any moment: its organizations are looked up each time.
        if found[name].frozen_at is None:
            memory.addressees[name] = (now, found[name])
    return known


@dataclass(frozen=True, slots=True)
class Door:
    """What the events of one product key may name."""

    product: MeteredProduct
    organizations: Mapping[str, Addressee]

    def refusals(self, event: UsageEvent) -> list[FieldError]:
        product = self.product.code
        errors = []
        if event.organization not in self.organizations:
            errors.append(FieldError("organization", "is unknown"))
        if event.product != product:
            errors.append(FieldError("product", f"this key posts usage of {product!r} only"))
        elif event.metric not in self.product.meters:
            errors.append(FieldError("metric", f"is not a meter of {product!r}"))
        return errors

    def record(self, event: UsageEvent) -> dict[str, Any]:
        return {
            "organization_id": str(self.organizations[event.organization].id),
            "event_id": event.event_id,
            "meter_id": str(self.product.meters[event.metric]),
            "quantity": format(event.quantity, "f"),
            "occurred_at": event.occurred_at.isoformat(),
            "properties": event.properties or None,
        }
