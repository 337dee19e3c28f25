"""The usage events of an invoice line, page by page, each with its corrections."""

import base64
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from fractions import Fraction
from typing import Any
from uuid import UUID

from billing.errors import InvalidTerms, InvalidUsage
from billing.exact import exact_text
from billing.groups import Match, read_match
from billing.metering import matches, parse_instant
from models import explaining, usage_corrections
from models.database import Session
from models.explaining import CitedEvent, LineRows

_MOST_PER_PAGE = 1_000


def page_of(session: Session, rows: LineRows, page: str | None, page_size: int) -> dict[str, Any]:
    """One page of the line's events and the cursor of the next; JSON-safe.

    Raises: InvalidTerms for a bad cursor.
    """
    after = None if page is None else _cursor_read(page)
    return _events(session, rows, after, min(max(page_size, 1), _MOST_PER_PAGE))


def adjusts(rows: LineRows) -> Mapping[str, Any]:
    """What an adjustment says of the lines that it adjusts; empty for any other line."""
    told: Mapping[str, Any] = rows.line.explanation.get("adjusts") or {}
    return told


def _events(
    session: Session, rows: LineRows, after: tuple[datetime, str] | None, page_size: int
) -> dict[str, Any]:
    if rows.line.meter_id is None:
        return {"items": [], "next": None, "total": 0}
    # One more than asked for tells whether there is a next page.
    found = explaining.cited_events(session, rows.line, after, page_size + 1)
    shown = found[:page_size]
    filters = read_match(rows.line.explanation.get("filters") or {}, field="filters")
    corrections = _corrections(session, rows, shown)
    return {
        "items": [
            _event_record(event, filters, corrections.get((event.product_id, event.event_id), []))
            for event in shown
        ],
        "next": _cursor(shown[-1]) if len(found) > page_size else None,
        "total": explaining.count_events(session, rows.line),
    }


def _corrections(
    session: Session, rows: LineRows, events: Sequence[CitedEvent]
) -> dict[tuple[UUID, str], list[dict[str, Any]]]:
    """Every correction of these events, the oldest first; `counted_here` by this line or one it adjusts."""
    heard = {rows.line.id, *(UUID(each) for each in adjusts(rows).get("line_ids", ()))}
    found: dict[tuple[UUID, str], list[dict[str, Any]]] = {}
    for product_id in {event.product_id for event in events}:
        ids = [event.event_id for event in events if event.product_id == product_id]
        standing = usage_corrections.of_events(session, rows.line.organization_id, product_id, ids)
        for each in standing:
            found.setdefault((product_id, each.event_id), []).append(
                {
                    "id": str(each.id),
                    "kind": each.kind,
                    "quantity": None if each.quantity is None else exact_text(Fraction(each.quantity)),
                    "reason": each.reason,
                    "who": each.who,
                    "received_at": _instant(each.received_at),
                    "line_id": None if each.invoice_line_id is None else str(each.invoice_line_id),
                    "counted_here": each.invoice_line_id in heard,
                }
            )
    return found


def _event_record(event: CitedEvent, filters: Match, corrections: list[dict[str, Any]]) -> dict[str, Any]:
    """The event as it came, and its corrections; `counts` says whether the line counts it."""
    heard = [each for each in corrections if each["counted_here"]]
    void = bool(heard) and heard[-1]["kind"] == "void"
    return {
        "event_id": event.event_id,
        "occurred_at": _instant(event.occurred_at),
        "quantity": exact_text(Fraction(event.quantity)),
        "properties": event.properties or {},
        "counts": matches(event.properties or {}, filters) and not void,
        "batch_id": str(event.batch_id),
        "corrections": corrections,
    }


def _cursor(event: CitedEvent) -> str:
    place = json.dumps([_instant(event.occurred_at), event.event_id])
    return base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")


def _cursor_read(page: str) -> tuple[datetime, str]:
    try:
        at, event_id = json.loads(base64.urlsafe_b64decode(page + "=" * (-len(page) % 4)))
        return parse_instant(at), str(event_id)
    except (ValueError, TypeError, InvalidUsage) as error:
        raise InvalidTerms("is not a cursor of this list", field="page") from error


def _instant(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
