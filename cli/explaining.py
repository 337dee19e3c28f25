"""Explanations of invoices and their lines as text for a terminal, page by page."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from tasks.context import Context
from tasks.explain import (
    LineReference,
    differs,
    explain_invoice,
    explain_line,
    explain_text,
    find_invoice,
    find_line,
)
from tasks.explanation_text import event_rows, sums_text

_FEW_EVENTS = 5


def explained(context: Context, reference: str, *, page_size: int | None) -> dict[str, Any]:
    """What `reference` names: an invoice whole, or by NUMBER/POSITION one line. Raises NotFound.

    `page_size` is that of the first page of events; None for a few.
    """
    size = page_size or _FEW_EVENTS
    if "/" in reference:
        return explain_line(context, *find_line(context, reference), page_size=size)
    return explain_invoice(context, *find_invoice(context, reference), page_size=size)


def agrees(found: dict[str, Any]) -> bool:
    """Whether all of it that is ours was computed again to the same."""
    return bool(found["agrees"]) if "sums" in found else not differs(found["recomputed"])


def text_of(context: Context, found: dict[str, Any], *, page_size: int | None) -> Iterator[str]:
    """Lines of text; with a `page_size` every event of each line, fetched page after page as it is read."""
    lines = found.get("lines", [found])
    for line in lines:
        yield from explain_text(line).splitlines()
        if page_size is not None:
            yield from _further_events(context, line, page_size)
        yield ""
    if "sums" in found:
        yield from sums_text(found).splitlines()


def _further_events(context: Context, found: dict[str, Any], page_size: int) -> Iterator[str]:
    names = found["invoice"]["organization"], found["invoice"]["id"], found["line"]["id"]
    page = found["events"]["next"]
    while page is not None:
        line = LineReference(*map(UUID, names))
        events = explain_line(context, *line, page, page_size=page_size)["events"]
        yield from event_rows(events)
        page = events["next"]
