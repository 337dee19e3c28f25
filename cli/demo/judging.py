"""Does it hold? What the system says against what the generator and the cast know."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from itertools import zip_longest

from cli.demo.cast import Member
from cli.demo.facts import Facts
from cli.demo.generator import Accounts, Recording
from cli.demo.player import Played


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that must hold; `detail` says what was seen, whether it does or not."""

    title: str
    holds: bool
    detail: str


def judge(facts: Facts, played: Sequence[Played], recording: Recording) -> list[Finding]:
    """Every finding of the quarter, in the sequence of the summary."""
    return [
        _answers(played, recording),
        _accounts(facts, recording),
        _usage_charged(facts, played, recording),
        _access(played),
        _invoiced(facts, played),
        _settled(facts),
        _dunned(facts),
        _explained(facts),
        _finding("reconciliation with Stripe", facts.run.differences, "differences"),
        _finding("billing invariants", facts.breaches, "breaches"),
        _finding("work that gave up", facts.dead, "dead rows"),
        _documented(facts),
    ]


def _finding(title: str, problems: Sequence[object], what: str) -> Finding:
    shown = "; ".join(str(problem) for problem in problems[:3])
    return Finding(title, not problems, f"{len(problems)} {what}" + (f": {shown}" if shown else ""))


def _answers(played: Sequence[Played], recording: Recording) -> Finding:
    """Every POST got the answer that the recording says, each broken one its refusal."""
    surprises = [surprise for one in played for surprise in one.surprises]
    refused = sum(one.refused_posts for one in played)
    repeated = sum(one.repeated_posts for one in played)
    expected_refused = sum(one.refused_posts for one in recording.expected.values())
    expected_repeated = sum(one.repeated_posts for one in recording.expected.values())
    complete = (refused, repeated) == (expected_refused, expected_repeated)
    detail = f"{recording.posts:,} POSTs, {refused} broken ones refused whole, {repeated} repeats recognized"
    if surprises:
        detail += f"; {len(surprises)} surprises, the first: {surprises[0]}"
    return Finding("answers at the usage door", complete and not surprises, detail)


def usage_totals(facts: Facts) -> Accounts:
    """The system's accounts over all products."""
    return sum(
        (Accounts(one.rated, one.waiting, one.quarantined, one.duplicate) for one in facts.usage),
        start=Accounts(),
    )


def _accounts(facts: Facts, recording: Recording) -> Finding:
    seen, expected = usage_totals(facts), recording.accounts
    adds_up = all(one.adds_up for one in facts.usage)
    accepted = sum(one.accepted for one in facts.usage)
    holds = adds_up and seen == expected and accepted == expected.accepted and facts.unhandled == 0
    detail = f"{accepted:,} accepted = {_written(seen)}"
    if not holds:
        detail += f"; the generator knows {expected.accepted:,} = {_written(expected)}"
    return Finding("usage accounts", holds, detail)


def _written(accounts: Accounts) -> str:
    return (
        f"{accounts.rated:,} rated + {accounts.waiting:,} waiting + "
        f"{accounts.quarantined:,} quarantined + {accounts.duplicate:,} duplicate"
    )


def _metered(facts: Facts, recording: Recording, member: Member) -> list[str]:
    """What differs, period by period, from the generator's own sum and the price list's price for it."""
    quantities: dict[datetime, Fraction] = {}
    amounts: dict[datetime, int] = {}
    for line in facts.explained:
        if line.organization == member.slug and line.kind in ("usage", "adjustment"):
            # The latest line of a period knows all of it; the amounts of all its lines add up.
            quantities[line.period_end_at] = line.quantity
            amounts[line.period_end_at] = amounts.get(line.period_end_at, 0) + line.amount_minor
    seen = [(end, quantity, amounts[end]) for end, quantity in sorted(quantities.items())]
    expected = [
        (period.end_at, Fraction(period.quantity), member.charge(period.end_at, period.quantity))
        for period in recording.expected[member.slug].periods
    ]
    return [f"{member.slug}: {a} instead of {b}" for a, b in zip_longest(seen, expected) if a != b]


def _usage_charged(facts: Facts, played: Sequence[Played], recording: Recording) -> Finding:
    wrong = [sentence for one in played for sentence in _metered(facts, recording, one.member)]
    finding = _finding("usage charged", wrong, "differ")
    count = sum(len(recording.expected[one.member.slug].periods) for one in played)
    return Finding(
        finding.title,
        finding.holds,
        f"quantity and price of {count} periods by a second count, {finding.detail}",
    )


def _access(played: Sequence[Played]) -> Finding:
    wrong = [
        f"{one.member.slug} on {at:%d %b}: {seen} instead of {wanted}"
        for one in played
        for at, seen, wanted in one.accesses
        if seen != wanted
    ]
    return _finding("access as the products are told", wrong, "surprises")


def _invoiced(facts: Facts, played: Sequence[Played]) -> Finding:
    """One first invoice per subscription, exactly one for every boundary of each, and no other."""
    wrong = []
    for one in played:
        seen = sorted(
            (invoice["period_end_at"][:10], invoice["kind"])
            for invoice in facts.invoices[one.member.slug]
            if invoice["kind"] != "first"
        )
        expected = sorted(_closings(one.member) * len(one.member.purchases))
        firsts = sum(invoice["kind"] == "first" for invoice in facts.invoices[one.member.slug])
        if seen != expected or firsts != len(one.member.purchases):
            wrong.append(f"{one.member.slug}: {firsts} first and {seen} instead of {expected}")
    return _finding("one invoice for each period", wrong, "organizations differ")


def _closings(member: Member) -> list[tuple[str, str]]:
    return [
        (end.date().isoformat(), "final" if end == member.ended_at else "cycle")
        for end in member.boundaries()
    ]


def _settled(facts: Facts) -> Finding:
    """At the end nothing is draft, open or parked: every invoice is paid to the last unit."""
    unpaid = [
        f"{slug} {invoice['number'] or invoice['id']}: {invoice['status']}"
        for slug, invoices in facts.invoices.items()
        for invoice in invoices
        if invoice["status"] != "paid" or invoice["paid_minor"] != invoice["total_minor"]
    ]
    count = sum(len(invoices) for invoices in facts.invoices.values())
    finding = _finding("invoices paid", unpaid, "not")
    return Finding(finding.title, finding.holds and count > 0, f"{count} invoices, {finding.detail} paid")


def _dunned(facts: Facts) -> Finding:
    """The one card that failed: retried by policy, in grace, suspended, recovered; nobody else."""
    cases = [(case.organization, case.state, case.retries_done) for case in facts.dunning]
    told = ", ".join(f"{slug} {state} after {retries} retries" for slug, state, retries in cases)
    return Finding("dunning", cases == [("fynbos-labs", "recovered", 3)], told or "nobody")


def _explained(facts: Facts) -> Finding:
    wrong = [f"{line.invoice}/{line.position}" for line in facts.explained if not line.agrees]
    finding = _finding("lines computed again from their events", wrong, "differ")
    return Finding(finding.title, finding.holds, f"{len(facts.explained)} lines, {finding.detail}")


def _documented(facts: Facts) -> Finding:
    finalized = sum(
        invoice["number"] is not None for invoices in facts.invoices.values() for invoice in invoices
    )
    good = len(facts.documents) == finalized and all(path.stat().st_size > 1000 for path in facts.documents)
    return Finding("documents", good, f"{len(facts.documents)} PDFs of {finalized} finalized invoices")
