"""Explanations of invoice lines as text for a terminal."""

from collections.abc import Iterator

from models.invoices import InvoiceLine
from tasks.context import Context
from tasks.explain import LineReference, explain_line, explain_text, find_line

_FEW_EVENTS, _MANY_EVENTS = 5, 1_000


def explanations(context: Context, reference: str, *, with_events: bool) -> Iterator[tuple[str, bool]]:
    """The text of each line that `reference` names, and whether it recomputes to its amount.

    Args: an invoice number for all of its lines, or number/position for one; `with_events` lists all
    events instead of the first few. Raises NotFound.
    """
    number, _, position = reference.partition("/")
    named = find_line(context, reference)
    positions = [position] if position else _positions(context, named)
    for one in positions:
        line = find_line(context, f"{number}/{one}")
        found = explain_line(context, *line, page_size=_MANY_EVENTS if with_events else _FEW_EVENTS)
        yield explain_text(found), bool(found["recomputed"]["agrees"])
        page = found["events"]["next"] if with_events else None
        while page is not None:
            events = explain_line(context, *line, page, page_size=_MANY_EVENTS)["events"]
            for event in events["items"]:
                yield f"            {event['occurred_at']}  {event['quantity']:>8}  {event['event_id']}", True
            page = events["next"]


def _positions(context: Context, line: LineReference) -> list[str]:
    with context.auditor.system() as session:
        lines = session.query(InvoiceLine).filter_by(
            organization_id=line.organization_id, invoice_id=line.invoice_id
        )
        return [str(position) for position in sorted(one.position for one in lines)]
