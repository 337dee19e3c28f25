"""What `dunlin usage` says, and a correction by a person at the shell."""

import getpass
from collections.abc import Iterator

from billing.errors import NotFound
from billing.metering import parse_quantity
from models import reading
from models.quarantine import ConflictRow, Content, QuarantineGroup
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
    return (
        f"{content.quantity:f} {content.metric}  {content.occurred_at:%Y-%m-%d %H:%M:%S}  "
        f"{content.properties or ''}"
    ).rstrip()


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
