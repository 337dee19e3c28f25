"""Explanations of invoice lines as text for a terminal."""

from collections.abc import Iterator
from uuid import UUID

from billing.errors import NotFound
from models.invoices import Invoice, InvoiceLine
from tasks import explain
from tasks.context import Context


def explanations(context: Context, reference: str, *, with_events: bool) -> Iterator[tuple[str, bool]]:
    """The text of each line that `reference` names, and whether it recomputes to its amount.

    Args: an invoice number for all of its lines, or number/position for one. Raises NotFound.
    """
    number, _, position = reference.partition("/")
    positions = [position] if position else [str(n) for n in _positions(context, number)]
    for one in positions:
        organization_id, invoice_id, line_id = explain.find_line(context, f"{number}/{one}")
        found = explain.explain_line(context, organization_id, invoice_id, line_id)
        agrees = bool(found["recomputed"]["agrees"])
        yield explain.explain_text(found), agrees
        if with_events:
            yield from (
                (text, True) for text in _events(context, (organization_id, invoice_id, line_id), found)
            )


def _positions(context: Context, number: str) -> list[int]:
    with context.auditor.system() as session:
        invoice = session.query(Invoice).filter_by(number=number).one_or_none()
        if invoice is None:
            raise NotFound(f"no invoice has the number {number}")
        lines = session.query(InvoiceLine).filter_by(
            organization_id=invoice.organization_id, invoice_id=invoice.id
        )
        return sorted(line.position for line in lines)


def _events(context: Context, ids: tuple[UUID, UUID, UUID], found: dict[str, object]) -> Iterator[str]:
    """Every event of the line, page by page."""
    events, page = found.get("events"), None
    while isinstance(events, dict):
        for event in events["items"]:
            yield f"  {event['occurred_at']}  {event['quantity']:>8}  {event['event_id']}"
        page = events.get("next")
        if page is None:
            return
        events = explain.explain_line(context, *ids, page=page).get("events")
