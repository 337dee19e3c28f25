"""Make the recorded usage file from a seed, and know what must become of every event in it.

The expectation is worked out here from the events alone, by other code than the billing system's,
so that the summary compares two independent countings.
"""

import random
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from cli.demo.cast import END, METRIC, PRODUCT, START, Member
from cli.demo.recording import Post, PostKind, write_posts

SEED = 20260531
BATCH_SIZE = 500
SINGLES_PER_STOP = 4

_DUPLICATE_SHARE = 90  # one event in so many is said twice
_CONFLICT_SHARE = 1000  # ... comes again with another quantity
_LATE_SHARE = 200  # ... arrives after its period was invoiced
_AFTER_END_SHARE = 350  # ... is reported after its subscription ended (only where one ends)
_WORKFLOWS = ("invoice-intake", "lead-routing", "stock-sync", "support-triage", "payroll-export")
_REGIONS = ("eu", "us", "za")

Event = dict[str, object]


@dataclass(frozen=True, slots=True)
class Accounts:
    """Where usage events are: everything accepted is in exactly one of the other four."""

    rated: int = 0
    waiting: int = 0
    quarantined: int = 0
    duplicate: int = 0

    @property
    def accepted(self) -> int:
        return self.rated + self.waiting + self.quarantined + self.duplicate

    def __add__(self, other: "Accounts") -> "Accounts":
        return Accounts(
            self.rated + other.rated,
            self.waiting + other.waiting,
            self.quarantined + other.quarantined,
            self.duplicate + other.duplicate,
        )


@dataclass(frozen=True, slots=True)
class PeriodUsage:
    """What one organization used before `end_at` and since the boundary before."""

    end_at: datetime
    events: int
    quantity: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What must become of one organization's posts."""

    accounts: Accounts
    periods: tuple[PeriodUsage, ...]
    late: int
    conflicts: int
    after_end: int
    refused_posts: int
    repeated_posts: int


@dataclass(frozen=True, slots=True)
class Recording:
    """The file, how many POSTs are in it, and what must become of them, by organization."""

    path: Path
    posts: int
    expected: dict[str, Expectation]

    @property
    def accounts(self) -> Accounts:
        return sum((one.accounts for one in self.expected.values()), start=Accounts())


@dataclass(slots=True)
class _Script:
    """One organization's events by the stop at which they are posted, and the running counts."""

    member: Member
    rng: random.Random
    stops: tuple[datetime, ...]
    boundaries: tuple[datetime, ...]
    by_stop: dict[datetime, list[Event]]
    posted: list[Post] = field(default_factory=list)
    events: int = 0
    duplicates: int = 0
    conflicts: int = 0
    late: int = 0
    after_end: int = 0
    waiting: int = 0
    refused: int = 0
    repeated: int = 0
    numbered: int = 0
    usage: dict[datetime, tuple[int, int]] = field(default_factory=dict)
    # Ids whose second copy differs: a batch with one of them is not sent twice.
    disputed: set[str] = field(default_factory=set)


def record(path: Path, members: Sequence[Member], events: int, seed: int = SEED) -> Recording:
    """Write the recorded file for `members`: `events` distinct events in all, and their noise.

    The same arguments give the same bytes.
    """
    weights = sum(member.weight for member in members)
    scripts = [
        _script(member, events * member.weight // weights + 1, random.Random(f"{seed}:{member.slug}"))
        for member in members
    ]
    posts = (post for script in scripts for post in script.posted)
    in_time = sorted(posts, key=lambda post: post.stop_at)
    path.parent.mkdir(parents=True, exist_ok=True)
    count = write_posts(path, in_time)
    return Recording(path, count, {script.member.slug: _expectation(script) for script in scripts})


def _script(member: Member, events: int, rng: random.Random) -> _Script:
    stops = member.stops()
    script = _Script(member, rng, stops, member.boundaries(), {stop: [] for stop in stops})
    for number, at in enumerate(_instants(member, events, rng)):
        _place(script, _event(member, number, at, rng), at)
    if member.ended_at is not None:
        _place_after_end(script, member.ended_at, events // _AFTER_END_SHARE + 1)
    for stop in stops:
        script.posted.extend(_posts(script, stop))
    return script


def _instants(member: Member, events: int, rng: random.Random) -> Iterator[datetime]:
    """Instants of the member's subscribed days, whole milliseconds, ascending."""
    end = member.ended_at or END
    span_ms = (end - START) // timedelta(milliseconds=1)
    made = 0
    for offset in sorted(rng.randrange(span_ms) for _ in range(events)):
        at = START + timedelta(milliseconds=offset)
        if member.silent is None or not member.silent[0] <= at < member.silent[1]:
            made += 1
            yield at
    # What fell into the silent span is used just before it: the total stays what was asked for.
    if member.silent is not None:
        for n in range(events - made):
            yield member.silent[0] - timedelta(milliseconds=10 * (n + 1))


def _event(member: Member, number: int, at: datetime, rng: random.Random) -> Event:
    event: Event = {"event_id": f"run-{member.slug}-{number:06d}", "organization": member.slug}
    event |= {"product": PRODUCT, "metric": METRIC}
    quantity = rng.randint(1, member.most_runs)
    if quantity > 1 or number % 3:  # 1 is the default and may be left out
        event["quantity"] = quantity if number % 5 == 0 else str(quantity)
    event["timestamp"] = _written(at)
    event["properties"] = {"workflow": rng.choice(_WORKFLOWS), "region": rng.choice(_REGIONS)}
    return event


def _written(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"


def _quantity(event: Event) -> int:
    return int(str(event.get("quantity", 1)))


def _place(script: _Script, event: Event, at: datetime) -> None:
    """Count one event and decide at which stop it is posted, and whether once more."""
    script.events += 1
    period = bisect_right(script.boundaries, at)
    in_closed_period = period < len(script.boundaries)
    if in_closed_period:
        end = script.boundaries[period]
        events, quantity = script.usage.get(end, (0, 0))
        script.usage[end] = (events + 1, quantity + _quantity(event))
    else:
        script.waiting += 1
    stop = _stop_at_or_after(script, at + timedelta(milliseconds=1))
    dice = script.rng.random()
    # Only when a later period closes too is there an invoice to carry what came late.
    if period < len(script.boundaries) - 1 and dice * _LATE_SHARE < 1:
        # Two hours: past the collection window of the period's own invoice.
        script.by_stop[_stop_at_or_after(script, script.boundaries[period] + timedelta(hours=2))].append(
            event
        )
        script.late += 1
        return
    script.by_stop[stop].append(event)
    _say_again(script, event, stop)


def _say_again(script: _Script, event: Event, stop: datetime) -> None:
    dice = script.rng.random()
    next_stop = script.stops[min(script.stops.index(stop) + 1, len(script.stops) - 1)]
    if dice * _CONFLICT_SHARE < 1 and next_stop > stop:
        # At a later stop: which copy is the first, and so the one that counts, is then certain.
        script.by_stop[next_stop].append(event | {"quantity": str(_quantity(event) + 1)})
        script.disputed.add(str(event["event_id"]))
        script.conflicts += 1
    elif (dice - 0.5) * _DUPLICATE_SHARE < 1 and dice >= 0.5:
        script.by_stop[stop if dice * 10_000 % 2 < 1 else next_stop].append(event)
        script.duplicates += 1


def _place_after_end(script: _Script, ended_at: datetime, events: int) -> None:
    """The product goes on reporting for a day: there is no subscription to bill that to."""
    for number in range(events):
        at = ended_at + timedelta(minutes=1 + 1440 * number // events)
        event = _event(script.member, 900_000 + number, at, script.rng)
        script.by_stop[_stop_at_or_after(script, at)].append(event)
        script.disputed.add(str(event["event_id"]))
    script.events += events
    script.after_end += events


def _stop_at_or_after(script: _Script, at: datetime) -> datetime:
    return script.stops[bisect_left(script.stops, at)]


def _posts(script: _Script, stop: datetime) -> Iterator[Post]:
    events = script.by_stop[stop]
    script.rng.shuffle(events)
    for event in events[:SINGLES_PER_STOP]:
        yield _post(script, stop, "single", [event])
    last: tuple[Post, list[Event]] | None = None
    for begin in range(SINGLES_PER_STOP, len(events), BATCH_SIZE):
        batch = events[begin : begin + BATCH_SIZE]
        post = _post(script, stop, "batch", batch)
        last = (post, batch)
        yield post
    if last is not None:
        yield from _noise(script, stop, *last)


def _noise(script: _Script, stop: datetime, post: Post, batch: list[Event]) -> Iterator[Post]:
    """At some stops a POST is repeated, sent anew, or preceded by a broken copy of usage."""
    turn = script.stops.index(stop)
    if turn % 4 == 0:
        script.repeated += 1
        yield msgspec.structs.replace(post, kind="repeat")
    if turn % 5 == 1 and not script.disputed.intersection(str(event["event_id"]) for event in batch):
        script.duplicates += len(batch)
        yield _post(script, stop, "resend", batch)
    if turn % 2 == 1:
        script.refused += 1
        yield _broken(script, stop)


def _post(
    script: _Script, stop: datetime, kind: PostKind, events: list[Event], fault: str | None = None
) -> Post:
    body = events[0] if kind == "single" else {"events": events}
    # A number of its own: two copies of one event, posted singly, are two POSTs and no repeat.
    script.numbered += 1
    return Post(
        organization=script.member.slug,
        stop_at=stop,
        key=f"{script.member.slug}:{stop:%Y%m%dT%H%M}:{kind}:{script.numbered}",
        kind=kind,
        status=422 if kind == "broken" else 202,
        events=len(events),
        body=msgspec.Raw(msgspec.json.encode(body)),
        field=fault,
    )


# What is wrong with event 1 of a broken POST: the field, and what is put there (None takes it away).
_FAULTS: tuple[tuple[str, object], ...] = (
    ("metric", "workflow_walks"),
    ("quantity", "NaN"),
    ("timestamp", "2026-06-07T08:00:00"),
    ("event_id", None),
    ("quantity", "1000000000000"),
    ("organization", "nobody-at-all"),
    ("colour", "green"),
)


def _broken(script: _Script, stop: datetime) -> Post:
    """Three good events that nobody sends again around one bad: none of them may be taken."""
    name, value = _FAULTS[script.refused % len(_FAULTS)]
    at = stop - timedelta(minutes=1)
    events = [_event(script.member, 800_000 + 10 * script.refused + n, at, script.rng) for n in range(3)]
    events[1] = {key: kept for key, kept in events[1].items() if key != name}
    if value is not None:
        events[1][name] = value
    return _post(script, stop, "broken", events, fault=name)


def _expectation(script: _Script) -> Expectation:
    accounts = Accounts(
        rated=script.events - script.waiting - script.after_end,
        waiting=script.waiting,
        quarantined=script.conflicts + script.after_end,
        duplicate=script.duplicates,
    )
    return Expectation(
        accounts=accounts,
        periods=tuple(PeriodUsage(end, *script.usage.get(end, (0, 0))) for end in script.boundaries),
        late=script.late,
        conflicts=script.conflicts,
        after_end=script.after_end,
        refused_posts=script.refused,
        repeated_posts=script.repeated,
    )
