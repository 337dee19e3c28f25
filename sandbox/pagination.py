"""Cursor lists: newest first, `starting_after`, `ending_before`, `limit`, `created` filters."""

from . import Doc
from .errors import malformed, missing
from .render import list_object, render
from .routing import Call, Page

_COMPARISONS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


def page_of(call: Call, kind: str, url: str, **columns: str | None) -> Page:
    """A page of `kind` by the columns given (None: not filtered).

    Objects on a test clock stay out unless a filter leads to them, as in Stripe.
    """
    where, values = ["kind = ?"], list[object]([kind])
    for column, value in columns.items():
        if value is not None:
            where.append(f"{column} = ?")
            values.append(value)
    if not any(columns.values()):
        where.append("clock IS NULL")
    created = call.params.get("created")
    for word, at in (created or {}).items():
        where.append(f"json_extract(doc, '$.created') {_COMPARISONS[word]} ?")
        values.append(at)
    return Page(url, " AND ".join(where), values)


def narrowed(page: Page, *clauses: tuple[str, object]) -> Page:
    """`page` with further conditions, each an SQL clause with its one value."""
    where = " AND ".join([page.where, *(clause for clause, _ in clauses)])
    return Page(page.url, where, [*page.values, *(value for _, value in clauses)])


def field_is(name: str, value: object) -> tuple[str, object]:
    """A condition on a field of the document."""
    stored = int(value) if isinstance(value, bool) else value
    return f"json_extract(doc, '$.{name}') = ?", stored


def answer(call: Call, page: Page) -> Doc:
    """Run the page with the request's cursor."""
    limit = call.params.get("limit", 10)
    if not isinstance(limit, int) or not 1 <= limit <= 100:
        raise malformed("Invalid integer: limit must be between 1 and 100", param="limit")
    after, before = call.params.get("starting_after"), call.params.get("ending_before")
    if after and before:
        raise malformed("You can specify only one of starting_after and ending_before", param="ending_before")
    where, values = page.where, list(page.values)
    if after or before:
        cursor = str(after or before)
        place = call.world.tx.sequence(cursor)
        if place is None:
            param = "starting_after" if after else "ending_before"
            raise missing("object", cursor, param=param, status=400)
        where += " AND seq < ?" if after else " AND seq > ?"
        values.append(place)
    found = call.world.tx.page(where, values, limit=limit + 1, ascending=bool(before))
    has_more = len(found) > limit
    shown = found[:limit]
    if before:
        shown.reverse()
    return list_object(page.url, [render(call.world.tx, doc) for doc in shown], has_more=has_more)


def slice_list(call: Call, url: str, items: list[Doc]) -> Doc:
    """A page of rendered items that are not documents of their own (invoice lines), in their own sequence."""
    limit = call.params.get("limit", 10)
    if not isinstance(limit, int) or not 1 <= limit <= 100:
        raise malformed("Invalid integer: limit must be between 1 and 100", param="limit")
    ids = [item["id"] for item in items]
    start, end = 0, len(items)
    if after := call.params.get("starting_after"):
        start = _place(ids, after, "starting_after") + 1
    if before := call.params.get("ending_before"):
        end = _place(ids, before, "ending_before")
        start = max(0, end - limit)
    shown = items[start : min(end, start + limit)]
    more = start > 0 if before else start + limit < end
    return list_object(url, shown, has_more=more)


def _place(ids: list[str], cursor: str, param: str) -> int:
    if cursor not in ids:
        raise missing("object", cursor, param=param, status=400)
    return ids.index(cursor)
