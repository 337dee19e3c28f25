"""Every number shown is equal to the sum of its events, always: usage, ticks, corrections at random."""

import random
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from threading import Thread
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.orm import Session

from billing.groups import read_match
from billing.metering import Aggregation, UsageFact, aggregate, group_key, matches
from billing.periods import Period
from models import change_queries, usage_intake, usage_rollups
from models.catalog import Meter, PlanCharge
from models.subscriptions import ProductSubscription, SubscriptionItem
from models.usage_rollups import UsedWindow
from tasks import drafting, rollups, usage, usage_corrections
from tasks.context import Context
from tasks.queue import TryLater
from tasks.usage_corrections import CorrectionTerms
from tests.integration.factories import (
    TestDatabase,
    catalog,
    fresh_database,
    offline_context,
    organization,
    subscribed,
)

# The period starts inside of an hour, as anchors do.
START = datetime(2026, 1, 10, 10, 17, 32, 250_000, tzinfo=UTC)
END = datetime(2026, 2, 10, 10, 17, 32, 250_000, tzinfo=UTC)
NOW = datetime(2026, 2, 20, tzinfo=UTC)
HOUR = timedelta(hours=1)
# (aggregation, filters, group by): every aggregation, with and without groups and filters.
METERS: tuple[tuple[str, dict[str, list[Any]], list[str]], ...] = (
    ("sum", {}, []),
    ("sum", {"ok": [True]}, ["region"]),
    ("count", {"ok": [True]}, ["region", "size"]),
    ("max", {}, []),
    ("min", {}, ["region"]),
    ("avg", {}, ["size"]),
    ("last", {"ok": [True, 1]}, []),
    ("unique", {}, ["region"]),
    ("time_weighted_sum", {}, ["region"]),
)
PROPERTIES: dict[str, tuple[Any, ...]] = {
    "region": ("eu", "uk", "", '"'),
    "size": (1, "1", True),
    "ok": (True, False, 1),
    "user": ("ada", "bob", "ßé", "Z"),
}


@pytest.fixture(scope="module")
def database() -> Iterator[TestDatabase]:
    with fresh_database("rollups") as made:
        yield made


@pytest.fixture
def context(database: TestDatabase) -> Iterator[Context]:
    database.empty()
    with offline_context(database, wall=NOW) as made:
        yield made


class World:
    """Acme and Globex, both subscribed from START, to a plan with many meters."""

    def __init__(self, context: Context, database: TestDatabase, seed: int = 0) -> None:
        self.context, self.database, self.rng = context, database, random.Random(seed)
        self.posted: list[tuple[str, str]] = []
        self.events = 0
        with Session(database.owner, expire_on_commit=False) as owner, owner.begin():
            rows = catalog(owner)
            self.product_id, self.plan_id = rows.product.id, rows.plan.id
            for n, (aggregation, filters, group_by) in enumerate(METERS):
                meter = Meter(
                    product_id=rows.product.id,
                    code=f"m{n}",
                    name=f"M{n}",
                    unit="unit",
                    aggregation=aggregation,
                    unique_property="user" if aggregation == "unique" else None,
                    filters=filters,
                    group_by=group_by,
                )
                owner.add(meter)
                owner.flush()
                terms = rows.terms.to_record()
                owner.add(PlanCharge(plan_id=rows.plan.id, meter_id=meter.id, currency="USD", terms=terms))
            self.slugs = ("acme", "globex")
            held = [subscribed(owner, rows, organization(owner, slug), START) for slug in self.slugs]
            self.subscriptions = [(each.organization_id, each.subscription.id) for each in held]
            self.meters: dict[UUID, Meter] = {meter.id: meter for meter in owner.query(Meter)}

    # -- what may happen -------------------------------------------------------------------------

    def posts(self) -> None:
        events = [self._event() for _ in range(self.rng.randint(1, 6))]
        if self.posted and self.rng.random() < 0.3:
            # An event that is known, said again with other contents: a conflict.
            slug, event_id = self.rng.choice(self.posted)
            events.append({**self._event(), "event_id": event_id, "organization": slug})
        usage.accept_batch(self.context, self.product_id, events, idempotency_key=None, digest=repr(events))
        self.posted += [(event["organization"], event["event_id"]) for event in events]

    def _event(self) -> dict[str, Any]:
        self.events += 1
        at = self.rng.choice(
            (
                START + timedelta(seconds=self.rng.randint(0, 31 * 86_400 - 1)),
                START + timedelta(seconds=self.rng.randint(-1800, 1800)),
                START,
                START - timedelta(microseconds=1),
                START.replace(minute=0, second=0, microsecond=0) + HOUR * self.rng.randint(0, 3),
                END - timedelta(microseconds=1),
                END + timedelta(seconds=self.rng.randint(0, 3600)),
            )
        )
        quantity = self.rng.choice((self.rng.randint(-3, 9), "0.000000000001", "999999999999.5", "1.25"))
        known = {name: self.rng.choice(values) for name, values in PROPERTIES.items()}
        return {
            "event_id": f"{self.rng.choice('aZé')}{self.events}",
            "organization": self.rng.choice(self.slugs),
            "product": "flow",
            "metric": f"m{self.rng.randrange(len(METERS))}",
            "quantity": str(quantity),
            "timestamp": at.isoformat(),
            "properties": {name: value for name, value in known.items() if self.rng.random() < 0.8},
        }

    def opens(self) -> None:
        usage.drain(self.context)

    def corrects(self) -> None:
        if not self.posted:
            return
        slug, event_id = self.rng.choice(self.posted)
        organization_id = self.subscriptions[self.slugs.index(slug)][0]
        quantity = self.rng.choice((None, Decimal(self.rng.randint(-5, 50))))
        terms = CorrectionTerms(event_id=event_id, quantity=quantity, reason="wrong", who="test")
        # Its batch may not be opened yet.
        with suppress(TryLater):
            usage_corrections.correct(self.context, self.product_id, organization_id, terms)

    def reaches_back(self) -> None:
        """The subscription turns out to have begun before: quarantined usage finds it."""
        organization_id, subscription_id = self.rng.choice(self.subscriptions)
        with self.database.owner.begin() as connection:
            connection.execute(
                text(
                    "UPDATE tenant.subscription_items SET started_at = started_at - interval '20 minutes' "
                    "WHERE subscription_id = :id AND started_at > :floor AND ended_at IS NULL"
                ),
                {"id": subscription_id, "floor": START - HOUR},
            )
        with self.context.tenant(organization_id) as unit:
            usage_intake.redrive(unit.session, organization_id, self.product_id)

    def changes_plan(self) -> None:
        """From some instant on another item bills; what waits from then on is its."""
        organization_id, subscription_id = self.rng.choice(self.subscriptions)
        at = START + timedelta(seconds=self.rng.randint(1, 30 * 86_400))
        with self.context.tenant(organization_id) as unit:
            old = unit.session.query(SubscriptionItem).filter_by(ended_at=None).one()
            if old.started_at >= at:
                return
            old.ended_at, stripe_item_id, old.stripe_item_id = at, old.stripe_item_id, None
            unit.session.flush()
            new = SubscriptionItem(
                organization_id=organization_id,
                subscription_id=subscription_id,
                product_id=old.product_id,
                plan_id=old.plan_id,
                price_id=old.price_id,
                quantity=1,
                started_at=at,
                stripe_item_id=stripe_item_id,
            )
            unit.session.add(new)
            unit.session.flush()
            change_queries.attribute_usage(unit.session, old, new)

    def bills(self) -> None:
        organization_id, subscription_id = self.rng.choice(self.subscriptions)
        with self.context.tenant(organization_id) as unit:
            subscription = unit.session.get_one(ProductSubscription, (organization_id, subscription_id))
            if subscription.usage_closed_until_at < END:
                drafting.rehearsed(unit, subscription)

    def moves_on(self) -> None:
        """Stripe says that the next period has begun, sooner or later than its events came."""
        with self.database.owner.begin() as connection:
            connection.execute(
                text(
                    "UPDATE tenant.product_subscriptions SET current_period_start_at = :end, "
                    "current_period_end_at = CAST(:end AS timestamptz) + interval '28 days'"
                ),
                {"end": END},
            )

    def ticks(self) -> None:
        rollups.write(self.context)

    def ticks_a_little(self) -> None:
        with self.context.database.intake() as session:
            assert usage_rollups.write_some(session, NOW, 1, 1) is not None

    # -- what must hold --------------------------------------------------------------------------

    def judged(self) -> int:
        """Hold every number of several windows against its events. Returns how many were not zero."""
        inside = START.replace(minute=0, second=0, microsecond=0) + 2 * HOUR
        windows = ((START, END), (END, END + timedelta(days=28)), (START - HOUR, START), (inside, END - HOUR))
        return sum(
            self._judge(organization_id, subscription_id, Period(start, end))
            for organization_id, subscription_id in self.subscriptions
            for start, end in windows
        )

    def _judge(self, organization_id: UUID, subscription_id: UUID, period: Period) -> int:
        expected: dict[tuple[UUID, UUID, str], list[UsageFact]] = {}
        for item_id, meter_id, fact, properties in self._facts(subscription_id, period):
            key = (item_id, meter_id, group_key(properties, self.meters[meter_id].group_by) or "{}")
            expected.setdefault(key, []).append(fact)
        with self.context.tenant(organization_id) as unit:
            items = [item.id for item in unit.session.query(SubscriptionItem)]
            window = UsedWindow(organization_id, subscription_id, items, period.start, period.end)
            used = usage_rollups.read(unit.session, window)
        found = {
            (each.item_id, each.meter_id, group_key(each.grouped, sorted(each.grouped)) or "{}"): each.rollup
            for each in used
        }
        assert found.keys() == expected.keys()
        for key, facts in expected.items():
            aggregation = Aggregation(self.meters[key[1]].aggregation)
            assert found[key].count == len(facts), key
            assert found[key].quantity(aggregation, period) == aggregate(aggregation, facts, period), key
        return len(found)

    def _facts(
        self, subscription_id: UUID, period: Period
    ) -> Iterator[tuple[UUID, UUID, UsageFact, dict[str, Any]]]:
        """The events themselves, read whole and judged in Python."""
        with self.database.owner.connect() as connection:
            records = connection.execute(
                text(
                    """
                    SELECT r.*, c.kind, c.quantity AS corrected FROM tenant.usage_records r
                    LEFT JOIN LATERAL (
                        SELECT kind, quantity FROM tenant.usage_corrections k
                        WHERE (k.organization_id, k.product_id, k.event_id)
                              = (r.organization_id, r.product_id, r.event_id)
                        ORDER BY number DESC LIMIT 1
                    ) c ON true
                    WHERE r.subscription_id = :id
                    """
                ),
                {"id": subscription_id},
            ).all()
        for row in records:
            meter, properties = self.meters[row.meter_id], row.properties or {}
            filters = read_match(meter.filters, field="filters")
            if row.kind == "void" or not period.contains(row.occurred_at):
                continue
            if matches(properties, filters):
                quantity = Fraction(row.quantity if row.corrected is None else row.corrected)
                value = properties.get(meter.unique_property or "")
                unique = None if value is None else str(value)
                yield (
                    row.item_id,
                    row.meter_id,
                    UsageFact(quantity, row.occurred_at, row.event_id, unique),
                    properties,
                )


@pytest.mark.parametrize("chance", range(3))
def test_every_number_is_the_sum_of_its_events_whatever_happens(
    context: Context, database: TestDatabase, chance: int
) -> None:
    seed = random.SystemRandom().randrange(10**9)
    print(f"seed {seed}")
    world = World(context, database, seed)
    happenings = (
        [world.posts] * 5
        + [world.opens] * 4
        + [world.corrects] * 3
        + [world.ticks_a_little] * 3
        + [world.ticks, world.reaches_back, world.changes_plan, world.bills, world.moves_on]
    )
    shown = 0
    for step in range(60):
        happening = world.rng.choice(happenings)
        happening()
        shown = max(shown, world.judged())
        if step % 10 == 9:
            _a_tick_that_takes_its_time(world)
    # The happenings must be worth judging.
    assert shown > 10, f"seed {seed}"
    assert len(_rollups(database)) > 10, f"seed {seed}"


def _a_tick_that_takes_its_time(world: World) -> None:
    """While it runs another does nothing, usage comes in and is corrected; it commits, or dies."""
    dies = world.rng.random() < 0.3
    with ExitStack() as running:
        session = running.enter_context(world.context.database.intake())
        assert usage_rollups.write_some(session, NOW, 2, 1000) is not None
        world.judged()
        with world.context.database.intake() as other:
            assert usage_rollups.write_some(other, NOW, 2, 1000) is None
        world.posts()
        world.opens()
        world.corrects()
        world.judged()
        if dies:
            session.rollback()
    world.judged()


def test_ticks_side_by_side_with_usage_lose_and_double_nothing(
    context: Context, database: TestDatabase
) -> None:
    world = World(context, database, seed=7)

    def tick() -> None:
        for _ in range(12):
            rollups.write(context)

    others = [Thread(target=tick) for _ in range(2)]
    for other in others:
        other.start()
    for _ in range(12):
        world.posts()
        world.opens()
        world.corrects()
        world.corrects()
    for other in others:
        other.join()

    world.judged()
    world.ticks()
    assert world.judged() > 20
    with database.owner.connect() as connection:
        left = connection.execute(
            text(
                "SELECT (SELECT count(*) FROM ops.usage_inbox WHERE rolled_up_at IS NULL) "
                "+ (SELECT count(*) FROM tenant.usage_stale_hours)"
            )
        )
        assert left.scalar_one() == 0


def test_a_double_tick_writes_nothing(context: Context, database: TestDatabase) -> None:
    world = World(context, database, seed=3)
    for _ in range(5):
        world.posts()
    world.opens()
    world.ticks()
    before = _rollups(database)
    world.ticks()
    assert _rollups(database) == before
    assert before


def test_a_correction_of_what_is_not_rolled_up_yet_outlives_the_tick(
    context: Context, database: TestDatabase
) -> None:
    world = World(context, database, seed=1)
    for event_id in ("e1", "e2"):
        event = {**world._event(), "event_id": event_id, "organization": "acme", "metric": "m0"}
        event["timestamp"] = "2026-01-12T08:00:00Z"
        usage.accept_batch(context, world.product_id, [event], idempotency_key=None, digest=event_id)
    world.opens()
    terms = CorrectionTerms(event_id="e2", quantity=Decimal(77), reason="wrong", who="test")
    usage_corrections.correct(context, world.product_id, world.subscriptions[0][0], terms)
    for _ in range(3):  # the first tick reaches only the batch of e1
        world.ticks_a_little()
        assert world.judged() == 2  # of the period, and of hours inside of it
    assert [(row.restates, row.count) for row in _rollups(database)] == [(False, 1), (False, 1), (True, 2)]


def test_a_voided_hour_is_restated_to_nothing(context: Context, database: TestDatabase) -> None:
    world = World(context, database, seed=1)
    event = {
        **world._event(),
        "event_id": "e",
        "organization": "acme",
        "metric": "m0",
        "timestamp": "2026-01-12T08:00:00Z",
    }
    usage.accept_batch(context, world.product_id, [event], idempotency_key=None, digest="d")
    world.opens()
    world.ticks()
    terms = CorrectionTerms(event_id="e", quantity=None, reason="never happened", who="test")
    usage_corrections.correct(context, world.product_id, world.subscriptions[0][0], terms)
    assert world.judged() == 0
    world.ticks()
    assert world.judged() == 0
    assert [(row.restates, row.count) for row in _rollups(database)] == [(False, 1), (True, 0)]


@pytest.mark.parametrize(
    "statement", ["UPDATE {} SET count = 0", "DELETE FROM {}", "INSERT INTO {} SELECT * FROM {}"]
)
def test_rollups_are_appended_by_the_tick_alone(
    context: Context, database: TestDatabase, statement: str
) -> None:
    world = World(context, database, seed=1)
    with (
        pytest.raises(ProgrammingError, match="permission denied"),
        context.database.tenant(world.subscriptions[0][0]) as session,
    ):
        session.execute(text(statement.format(*["tenant.usage_rollups"] * 2)))
    if not statement.startswith("INSERT"):
        with pytest.raises(ProgrammingError, match="permission denied"), context.database.intake() as session:
            session.execute(text(statement.format("tenant.usage_rollups")))


def _rollups(database: TestDatabase) -> list[Any]:
    with database.owner.connect() as connection:
        return list(connection.execute(text("SELECT * FROM tenant.usage_rollups ORDER BY number, hour_at")))
