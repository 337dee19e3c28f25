"""What `dunlin usage` says, and a correction by a person at the shell."""

import getpass
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from fractions import Fraction

from billing.errors import NotFound
from billing.exact import exact_text
from billing.metering import parse_quantity
from models import reading
from models.accounts import ProductDayAccounts
from models.quarantine import ConflictRow, Content, QuarantineGroup
from tasks.accounts import kept_accounts, product_totals, usage_accounts
from tasks.context import Context
from tasks.organizations import resolve
from tasks.usage_corrections import CorrectionTerms
from tasks.usage_corrections import correct as correct_event

_EFFECTS = {
    "with_its_period": "it counts with its period, which is not invoiced yet",
    "adjustment": "the next invoice carries the difference; `dunlin invoices adjust` bills it at once",
    "quarantined": "the event stays in quarantine, as corrected",
    "invoiced": "this correction is on an invoice already",
}


def accounts_of(
    context: Context, first: date | None, last: date | None, *, kept: bool
) -> list[ProductDayAccounts]:
    """The accounts of some days, as kept or counted now; of a week, if no day is named."""
    if kept:
        return kept_accounts(context, first, last)
    today = context.wall().date()
    found = usage_accounts(context, first or (last or today) - timedelta(days=6), last or today)
    return sorted(found, key=lambda each: (str(each.day), each.product_code), reverse=True)


def account_lines(days: Sequence[ProductDayAccounts]) -> Iterator[str]:
    """A table with a mark for each day, and the sums."""
    names = ("accepted", "rated", "waiting", "quarantined", "duplicate")
    yield f"{'day':<12}{'product':<14}" + "".join(f"{name:>14}" for name in names)
    for each in [*days, *product_totals(days)]:
        counts = "".join(f"{getattr(each, name):>14,}" for name in names)
        mark = "adds up" if each.adds_up else f"DIFFERS BY {each.accepted - each.placed:,}"
        batches = f", in {each.unbalanced} batches" if each.unbalanced else ""
        yield f"{each.day or 'sum'!s:<12}{each.product_code:<14}{counts}  {mark}{batches}"


def group_text(group: QuarantineGroup) -> str:
    """One line: who, what, why, how many, of when."""
    span = f"{group.first_at:%Y-%m-%d} to {group.last_at:%Y-%m-%d}"
    return (
        f"{group.events:>12,}  {group.organization}  {group.product}/{group.metric}  {group.reason}  {span}"
    )


def conflict_lines(conflict: ConflictRow) -> Iterator[str]:
    """Both contents of a conflict, one under the other."""
    state = "settled" if conflict.settled else "open"
    yield (
        f"{conflict.received_at:%Y-%m-%d %H:%M}  {conflict.organization}  {conflict.product}  "
        f"{conflict.event_id}  {state}"
    )
    yield f"    kept     {_content(conflict.kept)}"
    yield f"    refused  {_content(conflict.refused)}"


def _content(content: Content) -> str:
    quantity = exact_text(Fraction(content.quantity))
    properties = f"  {content.properties}" if content.properties else ""
    return f"{quantity} {content.metric}  {content.occurred_at:%Y-%m-%d %H:%M:%S}{properties}"


def correct(context: Context, event: tuple[str, str, str], quantity: str | None, reason: str) -> str:
    """Correct (organization, product, event id); no quantity: void. Returns what follows, in a sentence."""
    organization, code, event_id = event
    with context.database.system() as session:
        product = reading.product_by_code(session, code)
    if product is None:
        raise NotFound("no such product", field="product")
    terms = CorrectionTerms(
        event_id=event_id,
        quantity=None if quantity is None else parse_quantity(quantity),
        reason=reason,
        who=f"{getpass.getuser()} at the shell",
    )
    found = correct_event(context, product.id, resolve(context, organization), terms)
    standing = "" if found.created else "it stands already; "
    return f"correction {found.correction.number} of {event_id}: {standing}{_EFFECTS[found.effect]}"
