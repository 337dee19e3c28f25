"""Who plays in the demo, what each buys, and what happens to each on which day."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from fractions import Fraction

from billing.periods import Interval, nth_boundary

# The 31st, so that the month-end rule shows: 31 May, 30 June, 31 July, 31 August.
START = datetime(2026, 5, 31, 8, tzinfo=UTC)
MONTHS = 3
# A day past the third boundary: the third invoice is out, and the fourth period has usage waiting.
END = nth_boundary(START, Interval.month, MONTHS) + timedelta(days=1)

PRODUCT = "autoflow"
METRIC = "workflow_runs"

GOOD_CARD = "pm_card_visa"
# Attaches like any card; every later charge of it is declined.
FAILING_CARD = "pm_card_chargeCustomerFail"


class ActKind(StrEnum):
    """What a person or a product does at a stop, after the usage up to it was posted."""

    use_card = "use_card"
    expect_access = "expect_access"
    cancel = "cancel"


@dataclass(frozen=True, slots=True)
class Act:
    """One act at an instant of the organization's clock; `value` is a card, or the access expected."""

    at: datetime
    kind: ActKind
    value: str = ""


@dataclass(frozen=True, slots=True)
class Purchase:
    """What one subscription is made of: a plan or a bundle, with seats."""

    plan: str | None = None
    bundle: str | None = None
    quantity: int = 1
    trial_days: int = 0


@dataclass(frozen=True, slots=True)
class Tariff:
    """What the price list says of runs: up to this many, so much each (minor units); None is no end.

    Written down a second time here on purpose: the summary checks the invoices against it.
    """

    bands: tuple[tuple[int | None, Fraction], ...]

    def charge(self, runs: int) -> int:
        """The price of one period's runs, in whole minor units, half rounded up."""
        exact, below = Fraction(0), 0
        for up_to, price in self.bands:
            within = (runs if up_to is None else min(runs, up_to)) - below
            exact += max(within, 0) * price
            below = up_to or runs
        return int(exact + Fraction(1, 2))


_STARTER_USD = Tariff(((1_000, Fraction(0)), (None, Fraction(2))))
_STARTER_ZAR = Tariff(((1_000, Fraction(0)), (None, Fraction(35))))
_PROFESSIONAL_USD = Tariff(((10_000, Fraction(0)), (100_000, Fraction(3, 2)), (None, Fraction(1))))


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One organization of the cast.

    `weight` is its share of the usage events; `most_runs` the largest quantity of one event;
    `anchor` the instant that its usage periods are counted from, and `ended_at` where they stop.
    `silent` is a span in which the product is not used: the organization is suspended.
    """

    slug: str
    name: str
    email: str
    currency: str
    country: str
    purchases: tuple[Purchase, ...]
    tariff: Tariff
    weight: int
    most_runs: int
    story: str
    tax_rate: str | None = None
    anchor: datetime = START
    ended_at: datetime | None = None
    silent: tuple[datetime, datetime] | None = None
    acts: tuple[Act, ...] = ()

    def charge(self, end_at: datetime, runs: int) -> int:
        """What the runs of the period that ends then must cost; those in the trial cost nothing."""
        return 0 if START < self.anchor == end_at else self.tariff.charge(runs)

    def boundaries(self) -> tuple[datetime, ...]:
        """The ends of its usage periods up to the demo's end, in sequence; the last may be its own end."""
        ends = [self.anchor] if self.anchor > START else []
        n = 1
        while (boundary := nth_boundary(self.anchor, Interval.month, n)) < min(END, self.ended_at or END):
            ends.append(boundary)
            n += 1
        return (*ends, self.ended_at) if self.ended_at else tuple(ends)

    def stops(self) -> tuple[datetime, ...]:
        """Where its clock stands still: each week, each boundary, each act, the end."""
        weekly = {START + timedelta(weeks=n) for n in range(1, (END - START).days // 7 + 1)}
        acts = {act.at for act in self.acts if act.at > START}
        return tuple(sorted(weekly | set(self.boundaries()) | acts | {END}))


_FIRST_RENEWAL = nth_boundary(START, Interval.month, 1)
# The draft waits an hour for late usage, so the charge fails an hour after the boundary.
_FIRST_FAILURE = _FIRST_RENEWAL + timedelta(hours=1)
_SUSPENDED = _FIRST_FAILURE + timedelta(days=7, minutes=30)
_NEW_CARD = _FIRST_FAILURE + timedelta(days=9)
_CANCELLED = _FIRST_RENEWAL + timedelta(days=12)
_TRIAL_DAYS = 14

ACME = Member(
    slug="acme-robotics",
    name="Acme Robotics",
    email="finance@acme-robotics.test",
    currency="USD",
    country="US",
    purchases=(Purchase(plan="autoflow-professional"), Purchase(plan="teamspace-professional", quantity=8)),
    tariff=_PROFESSIONAL_USD,
    weight=58,
    most_runs=10,
    story="healthy: AutoFlow Professional by usage, TeamSpace Professional for 8 seats",
    acts=(Act(START, ActKind.expect_access, "full"), Act(END, ActKind.expect_access, "full")),
)
KAROO = Member(
    slug="karoo-studio",
    name="Karoo Studio",
    email="rekeninge@karoo-studio.test",
    currency="ZAR",
    country="ZA",
    purchases=(Purchase(bundle="starter", trial_days=_TRIAL_DAYS),),
    tariff=_STARTER_ZAR,
    weight=14,
    most_runs=2,
    story="Starter bundle in rand, 14 days of trial, 15 % VAT",
    tax_rate="za-vat",
    anchor=START + timedelta(days=_TRIAL_DAYS),
    acts=(
        Act(START, ActKind.expect_access, "full"),
        Act(START + timedelta(days=_TRIAL_DAYS + 7), ActKind.expect_access, "full"),
    ),
)
FYNBOS = Member(
    slug="fynbos-labs",
    name="Fynbos Labs",
    email="accounts@fynbos-labs.test",
    currency="USD",
    country="ZA",
    purchases=(Purchase(plan="autoflow-starter"),),
    tariff=_STARTER_USD,
    weight=14,
    most_runs=3,
    story="its card fails on renewal: three retries, grace, suspension, a new card, recovery",
    silent=(_SUSPENDED, _NEW_CARD),
    acts=(
        Act(START, ActKind.expect_access, "full"),
        Act(START + timedelta(days=21), ActKind.use_card, FAILING_CARD),
        Act(_FIRST_RENEWAL, ActKind.expect_access, "full"),
        Act(_FIRST_FAILURE + timedelta(hours=1), ActKind.expect_access, "grace"),
        Act(_FIRST_FAILURE + timedelta(days=6), ActKind.expect_access, "grace"),
        Act(_SUSPENDED, ActKind.expect_access, "suspended"),
        Act(_NEW_CARD, ActKind.use_card, GOOD_CARD),
        Act(_NEW_CARD, ActKind.expect_access, "full"),
        Act(END, ActKind.expect_access, "full"),
    ),
)
BAOBAB = Member(
    slug="baobab-media",
    name="Baobab Media",
    email="billing@baobab-media.test",
    currency="USD",
    country="KE",
    purchases=(Purchase(plan="autoflow-professional"),),
    tariff=_PROFESSIONAL_USD,
    weight=14,
    most_runs=6,
    story="cancels in mid-period with usage still to bill",
    ended_at=_CANCELLED,
    acts=(
        Act(START, ActKind.expect_access, "full"),
        Act(_CANCELLED, ActKind.cancel),
        Act(_CANCELLED + timedelta(days=2), ActKind.expect_access, "none"),
    ),
)
CAST = (ACME, KAROO, FYNBOS, BAOBAB)
