"""The recorder of the demo: what it writes is what it says that it wrote."""

from collections import Counter
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgspec
import pytest

from billing.metering import UsageEvent, check_usage_event
from cli.demo.cast import CAST, START, Member
from cli.demo.generator import Accounts, Recording, record
from cli.demo.recording import Post, read_posts

EVENTS = 4_000


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    return record(tmp_path_factory.mktemp("demo") / "events.jsonl", CAST, EVENTS)


@pytest.fixture(scope="module")
def posts(recording: Recording) -> dict[tuple[str, datetime], list[Post]]:
    return read_posts(recording.path)


def events_of(post: Post) -> list[dict[str, Any]]:
    body: dict[str, Any] = msgspec.json.decode(post.body)
    events: list[dict[str, Any]] = body.get("events", [body])
    return events


def played(posts: dict[tuple[str, datetime], list[Post]], member: Member) -> list[tuple[datetime, Post]]:
    """The member's posts as they go out, each with its organization's now."""
    return [(stop, post) for stop in member.stops() for post in posts.get((member.slug, stop), [])]


def test_the_same_seed_writes_the_same_bytes(tmp_path: Path, recording: Recording) -> None:
    again = record(tmp_path / "again.jsonl", CAST, EVENTS)
    assert again.path.read_bytes() == recording.path.read_bytes()
    assert again.expected == recording.expected


def test_another_seed_writes_another_quarter(tmp_path: Path, recording: Recording) -> None:
    other = record(tmp_path / "other.jsonl", CAST, EVENTS, seed=1)
    assert other.path.read_bytes() != recording.path.read_bytes()


@pytest.mark.parametrize("member", CAST, ids=lambda member: member.slug)
def test_the_expected_accounts_are_what_a_slow_reader_counts(
    member: Member, recording: Recording, posts: dict[tuple[str, datetime], list[Post]]
) -> None:
    """One pass over the file as the door sees it, with nothing but the rules of api.md."""
    first: dict[str, dict[str, Any]] = {}
    answered: set[str] = set()
    duplicate = conflicts = 0
    for _, post in played(posts, member):
        if post.status != 202 or post.key in answered:
            continue
        answered.add(post.key)
        for event in events_of(post):
            before = first.setdefault(event["event_id"], event)
            if before is not event:
                duplicate += before == event
                conflicts += before != event
    after_end = [event for event in first.values() if member.ended_at and instant(event) >= member.ended_at]
    last = max(end for end in member.boundaries())
    waiting = 0 if member.ended_at else sum(instant(event) >= last for event in first.values())
    expected = recording.expected[member.slug]
    assert expected.accounts == Accounts(
        rated=len(first) - waiting - len(after_end),
        waiting=waiting,
        quarantined=conflicts + len(after_end),
        duplicate=duplicate,
    )
    assert sum(period.quantity for period in expected.periods) == sum(
        int(event.get("quantity", 1))
        for event in first.values()
        if instant(event) < last and event not in after_end
    )


def test_every_good_event_passes_the_door_at_its_stop(posts: dict[tuple[str, datetime], list[Post]]) -> None:
    for (_, stop), stopped in posts.items():
        for post in stopped:
            if post.status == 202:
                for event in events_of(post):
                    assert isinstance(check_usage_event(event, stop), UsageEvent), event


def test_a_broken_post_has_one_bad_event_among_good_ones(
    posts: dict[tuple[str, datetime], list[Post]],
) -> None:
    broken = [
        (stop, post) for (_, stop), stopped in posts.items() for post in stopped if post.kind == "broken"
    ]
    assert len({post.field for _, post in broken}) >= 5
    taken = {event["event_id"] for (_, _), stopped in posts.items() for post in stopped
             if post.status == 202 for event in events_of(post)}  # fmt: skip
    for stop, post in broken:
        good, bad, also_good = events_of(post)
        assert isinstance(check_usage_event(good, stop), UsageEvent)
        assert isinstance(check_usage_event(also_good, stop), UsageEvent)
        assert (
            bad.keys() ^ good.keys()
            or any(bad[name] != good[name] for name in ("metric", "organization"))
            or (not isinstance(check_usage_event(bad, stop), UsageEvent))
        )
        assert not taken & {good["event_id"], also_good["event_id"]}, (
            "nothing of a broken POST is said elsewhere"
        )


def test_the_noise_is_there(recording: Recording, posts: dict[tuple[str, datetime], list[Post]]) -> None:
    kinds = Counter(post.kind for stopped in posts.values() for post in stopped)
    assert min(kinds[kind] for kind in ("batch", "single", "broken", "repeat", "resend")) > 0
    known = recording.expected.values()
    assert sum(one.late for one in known) > 0
    assert sum(one.conflicts for one in known) > 0
    assert sum(one.after_end for one in known) > 0
    assert recording.accounts.duplicate > 0


def test_only_a_repeat_has_the_key_of_another_post(tmp_path: Path) -> None:
    # So few that both copies of an event are posted singly at one stop.
    few = read_posts(record(tmp_path / "few.jsonl", CAST, 500).path)
    keys = Counter(post.key for stopped in few.values() for post in stopped if post.kind != "repeat")
    assert max(keys.values()) == 1


def test_late_events_come_after_the_collection_window(
    recording: Recording, posts: dict[tuple[str, datetime], list[Post]]
) -> None:
    for member in CAST:
        seen: set[str] = set()
        late = 0
        for stop, post in played(posts, member):
            for event in events_of(post) if post.status == 202 else ():
                if event["event_id"] not in seen and (
                    member.ended_at is None or instant(event) < member.ended_at
                ):
                    closed = [end for end in member.boundaries() if end < stop]
                    late += bool(closed) and instant(event) < closed[-1] and stop > closed[-1]
                seen.add(event["event_id"])
        assert late == recording.expected[member.slug].late


def test_nothing_is_used_while_suspended(posts: dict[tuple[str, datetime], list[Post]]) -> None:
    for member in CAST:
        if member.silent is not None:
            begin, end = member.silent
            instants = [instant(event) for _, post in played(posts, member) for event in events_of(post)
                        if post.status == 202]  # fmt: skip
            assert not [at for at in instants if begin <= at < end]


def test_a_hundred_thousand_events_are_a_hundred_thousand(tmp_path: Path) -> None:
    recording = record(tmp_path / "full.jsonl", CAST, 100_000)
    distinct = recording.accounts.rated + recording.accounts.waiting
    assert distinct >= 100_000


def test_periods_end_where_the_month_does() -> None:
    acme = CAST[0]
    assert [end.day for end in acme.boundaries()] == [30, 31, 31]
    assert all(end.hour == START.hour for end in acme.boundaries())
    assert Fraction(len(acme.stops())) > len(acme.boundaries())


def instant(event: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(event["timestamp"])
