"""The catalog as code: the shipped one seeded, any one exported, compared and applied."""

from dataclasses import dataclass
from pathlib import Path

from models import catalog_rows, catalog_state
from models.catalog_state import LiveSubscriptions
from models.database import Session
from tasks.catalog_changes import Action, Change, compare, target
from tasks.catalog_file import parse
from tasks.catalog_spec import CatalogSpec
from tasks.catalog_stored import as_file, stored
from tasks.catalog_writing import write
from tasks.context import Context
from tasks.quarantine import redrive_later

_SHIPPED = Path(__file__).parent / "catalog_seed" / "catalog.toml"


@dataclass(frozen=True, slots=True)
class SeedReport:
    """How many rows of the shipped catalog were made now, and how many were there."""

    created: int
    unchanged: int

    def __str__(self) -> str:
        return f"{self.created} created, {self.unchanged} unchanged"


@dataclass(frozen=True, slots=True)
class Touching:
    """A change, and the live subscriptions to what it changes; None for what nobody subscribes to."""

    change: Change
    subscriptions: int | None


def seed(context: Context) -> SeedReport:
    """Add what is missing of the shipped catalog, in one transaction; what is there stays as it is.

    A catalog that was edited since is therefore not put back. Safe to run at any time, also twice
    at once.
    """
    wanted = parse(shipped())
    changes = _applied(context, wanted, missing_only=True)
    created = sum(change.rows for change in changes)
    return SeedReport(created, wanted.size - created)


def shipped() -> str:
    """The file of the catalog that ships."""
    return _SHIPPED.read_text(encoding="utf-8")


def export(context: Context) -> str:
    """The catalog that is sold now, as a file that `apply` would change nothing with."""
    with context.system() as unit:
        return as_file(stored(unit.session))


def counted(context: Context) -> dict[str, int]:
    """How many tiers, products, plans (each in its version on sale) and bundles there are."""
    with context.system() as unit:
        now = stored(unit.session)
    return {
        "tiers": len(now.tiers),
        "products": len(now.products),
        "plans": len(now.plans),
        "bundles": len(now.bundles),
    }


def diff(context: Context, text: str) -> list[Touching]:
    """What applying the file would change. Raises InvalidTerms, whose field is the place in the file."""
    wanted = parse(text)
    with context.system() as unit:
        changes = _changes(unit.session, wanted)
    return _touching(context, changes)


def apply(context: Context, text: str) -> list[Touching]:
    """Bring the catalog to what the file says, in one transaction; a repeat changes nothing.

    A plan whose price, charges, features or limits change gets a new version: its subscribers stay on
    theirs. What the file does not name stays. Usage in quarantine tries again. Stripe is told by
    `stripe_catalog.sync`.
    Raises: InvalidTerms, whose field is the place in the file; nothing is written then.
    """
    changes = _applied(context, parse(text))
    if changes:
        redrive_later(context, f"catalog:{context.wall().isoformat()}")
    return _touching(context, changes)


def _applied(context: Context, wanted: CatalogSpec, *, missing_only: bool = False) -> list[Change]:
    with context.system() as unit:
        catalog_rows.lock_catalog(unit.session)
        changes = _changes(unit.session, wanted, missing_only=missing_only)
        write(unit.session, changes, unit.now)
    return changes


def _changes(session: Session, wanted: CatalogSpec, *, missing_only: bool = False) -> list[Change]:
    before = stored(session)
    return compare(before, target(before, wanted, missing_only=missing_only))


def _touching(context: Context, changes: list[Change]) -> list[Touching]:
    with context.auditor.system() as session:
        live = catalog_state.live_subscriptions(session)
    return [Touching(change, _subscriptions(change, live)) for change in changes]


def _subscriptions(change: Change, live: LiveSubscriptions) -> int | None:
    """Nobody can have what is new; a tier or a tax rate is not subscribed to."""
    if change.action in (Action.add, Action.extend):
        return 0
    if change.kind == "meter":
        return live.of_product.get(change.code.partition(".")[0], 0)
    per_code = {"plan": live.of_plan, "product": live.of_product, "bundle": live.of_bundle}.get(change.kind)
    return None if per_code is None else per_code.get(change.code, 0)
