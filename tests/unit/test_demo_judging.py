"""The verdict of the demo: yes for a right quarter, and no for each way in which it can be wrong."""

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from cli.demo.cast import ACME, CAST, Member
from cli.demo.facts import Dunning, Explained, Facts
from cli.demo.generator import Expectation, PeriodUsage, Recording, record
from cli.demo.judging import judge
from cli.demo.player import Played
from models.accounts import ProductDayAccounts
from models.invariants import Breach
from models.ops import ReconciliationRun

Break = Callable[[Facts, list[Played]], Facts]


@pytest.fixture
def recording(tmp_path: Path) -> Recording:
    return record(tmp_path / "events.jsonl", CAST, 2_000)


@pytest.fixture
def played(recording: Recording) -> list[Played]:
    return [
        Played(
            member,
            refused_posts=recording.expected[member.slug].refused_posts,
            repeated_posts=recording.expected[member.slug].repeated_posts,
            accesses=[(act.at, act.value, act.value) for act in member.acts if act.kind == "expect_access"],
        )
        for member in CAST
    ]


@pytest.fixture
def facts(recording: Recording, tmp_path: Path) -> Facts:
    """A quarter in which everything went as it must."""
    expected = recording.accounts
    invoices = {member.slug: invoices_of(member, recording.expected[member.slug]) for member in CAST}
    documents = [tmp_path / f"{n}.pdf" for n in range(sum(map(len, invoices.values())))]
    for path in documents:
        path.write_bytes(b"%PDF" + bytes(2_000))
    return Facts(
        usage=[
            ProductDayAccounts(
                "autoflow", None, expected.accepted, expected.rated, expected.waiting,
                expected.quarantined, expected.duplicate,
            )
        ],
        invoices=invoices,
        dunning=[Dunning("fynbos-labs", "recovered", 3, ())],
        explained=[line for member in CAST for line in lines_of(member, recording.expected[member.slug])],
        run=ReconciliationRun(started_at=datetime(2026, 9, 1, tzinfo=UTC), compared={}, differences=[]),
        breaches=[],
        documents=documents,
        webhooks=100,
        unhandled=0,
        dead=[],
    )  # fmt: skip


def invoices_of(member: Member, expectation: Expectation) -> list[dict[str, Any]]:
    made = []
    for _ in member.purchases:
        made.append(invoice("first", member.anchor))
        for period in expectation.periods:
            kind = "final" if period.end_at == member.ended_at else "cycle"
            made.append(invoice(kind, period.end_at))
    return made


def invoice(kind: str, end: datetime) -> dict[str, Any]:
    figures = {"paid_minor": 100, "total_minor": 100, "period_end_at": end.isoformat()}
    return {"id": "i", "number": "X-1", "kind": kind, "status": "paid"} | figures


def lines_of(member: Member, expectation: Expectation) -> list[Explained]:
    """A usage line for each period, made before the last run was known, and the adjustment for that."""
    lines = []
    for period in expectation.periods:
        before = member.charge(period.end_at, period.quantity - 1)
        late = member.charge(period.end_at, period.quantity) - before
        lines.append(line(member, "usage", period, -1, before))
        lines.append(line(member, "adjustment", period, 0, late))
    return lines


def line(member: Member, kind: str, period: PeriodUsage, off: int, minor: int) -> Explained:
    return Explained(
        organization=member.slug,
        invoice="X-1",
        position=1,
        kind=kind,
        period_end_at=period.end_at,
        quantity=Fraction(period.quantity + off),
        amount_minor=minor,
        agrees=True,
        text="",
    )


def no_longer(facts: Facts, played: list[Played], recording: Recording) -> list[str]:
    return [finding.title for finding in judge(facts, played, recording) if not finding.holds]


def test_a_right_quarter_holds(facts: Facts, played: list[Played], recording: Recording) -> None:
    assert no_longer(facts, played, recording) == []


def one_event_lost(facts: Facts, _: list[Played]) -> Facts:
    [autoflow] = facts.usage
    return dataclasses.replace(facts, usage=[dataclasses.replace(autoflow, rated=autoflow.rated - 1)])


def a_batch_left_over(facts: Facts, _: list[Played]) -> Facts:
    return dataclasses.replace(facts, unhandled=1)


def an_event_billed_twice(facts: Facts, _: list[Played]) -> Facts:
    last = dataclasses.replace(facts.explained[-1], quantity=facts.explained[-1].quantity + 1)
    return dataclasses.replace(facts, explained=[*facts.explained[:-1], last])


def a_price_off_by_one(facts: Facts, _: list[Played]) -> Facts:
    first = dataclasses.replace(facts.explained[0], amount_minor=facts.explained[0].amount_minor + 1)
    return dataclasses.replace(facts, explained=[first, *facts.explained[1:]])


def a_period_without_usage_line(facts: Facts, _: list[Played]) -> Facts:
    return dataclasses.replace(facts, explained=facts.explained[:-2])


def access_kept(_facts: Facts, played: list[Played]) -> Facts:
    fynbos = next(one for one in played if one.member.slug == "fynbos-labs")
    at, _, wanted = fynbos.accesses[-1]
    fynbos.accesses[-1] = (at, "suspended", wanted)
    return _facts


def an_invoice_missing(facts: Facts, _: list[Played]) -> Facts:
    del facts.invoices["karoo-studio"][1]
    return dataclasses.replace(facts, documents=facts.documents[1:])


def an_invoice_open(facts: Facts, _: list[Played]) -> Facts:
    facts.invoices["baobab-media"][0].update(status="open", paid_minor=0)
    return facts


def nobody_dunned(facts: Facts, _: list[Played]) -> Facts:
    return dataclasses.replace(facts, dunning=[])


def a_line_that_differs(facts: Facts, _: list[Played]) -> Facts:
    return dataclasses.replace(
        facts, explained=[dataclasses.replace(facts.explained[0], agrees=False), *facts.explained[1:]]
    )


def a_difference(facts: Facts, _: list[Played]) -> Facts:
    facts.run.differences = [{"kind": "amount"}]
    return facts


def a_breach(facts: Facts, _: list[Played]) -> Facts:
    return dataclasses.replace(facts, breaches=[Breach("I2", None, "X-1", "lines do not sum")])


def a_dead_job(facts: Facts, _: list[Played]) -> Facts:
    return dataclasses.replace(facts, dead=["job invoicing.close: boom"])


def an_empty_document(facts: Facts, _: list[Played]) -> Facts:
    facts.documents[0].write_bytes(b"")
    return facts


def a_surprise(facts: Facts, played: list[Played]) -> Facts:
    played[0].surprises.append("answered 500")
    return facts


def a_broken_post_taken(facts: Facts, played: list[Played]) -> Facts:
    played[0].refused_posts -= 1
    return facts


@pytest.mark.parametrize(
    ("damage", "title"),
    [
        (one_event_lost, "usage accounts"),
        (a_batch_left_over, "usage accounts"),
        (an_event_billed_twice, "usage charged"),
        (a_price_off_by_one, "usage charged"),
        (a_period_without_usage_line, "usage charged"),
        (access_kept, "access as the products are told"),
        (an_invoice_missing, "one invoice for each period"),
        (an_invoice_open, "invoices paid"),
        (nobody_dunned, "dunning"),
        (a_line_that_differs, "lines computed again from their events"),
        (a_difference, "reconciliation with Stripe"),
        (a_breach, "billing invariants"),
        (a_dead_job, "work that gave up"),
        (an_empty_document, "documents"),
        (a_surprise, "answers at the usage door"),
        (a_broken_post_taken, "answers at the usage door"),
    ],
)
def test_one_thing_wrong_is_one_no(
    damage: Break, title: str, facts: Facts, played: list[Played], recording: Recording
) -> None:
    assert no_longer(damage(facts, played), played, recording) == [title]


@pytest.mark.parametrize(
    ("runs", "minor"),
    [(0, 0), (10_000, 0), (10_001, 2), (10_002, 3), (100_000, 135_000), (103_051, 138_051)],
)
def test_the_second_price_list_of_professional(runs: int, minor: int) -> None:
    assert ACME.tariff.charge(runs) == minor
