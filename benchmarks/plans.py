"""How Postgres answers the statements that the code really sends, and what must not be in such a plan."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, event
from sqlalchemy.orm import Session

# A table of fewer rows is read whole because that is the best plan.
_LARGE = 5_000
# An index scan that throws away more rows than this is a sequential scan in disguise.
_MOST_REMOVED = 1_000
# A block range holds some thousand rows, of which it knows only the bounds.
_MOST_RECHECKED = 20_000


@dataclass(frozen=True, slots=True)
class Finding:
    """How Postgres answered one statement of a path."""

    path: str
    scans: tuple[str, ...]
    span_ms: float
    faults: tuple[str, ...]


@contextmanager
def recorded(session: Session) -> Iterator[list[tuple[str, Any]]]:
    """The statements that a session sends meanwhile, with their values."""
    asked: list[tuple[str, Any]] = []

    def remember(_connection: object, _cursor: object, statement: str, values: Any, *_rest: object) -> None:
        # A setting has no plan.
        if not statement.startswith("SET "):
            asked.append((statement, values))

    connection = session.connection()
    event.listen(connection, "before_cursor_execute", remember)
    try:
        yield asked
    finally:
        event.remove(connection, "before_cursor_execute", remember)


def explained(connection: Connection, path: str, statement: str, values: Any) -> Finding:
    """Run a statement for its plan, in the transaction and role that the connection is in."""
    explain = f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}"
    (plan,) = connection.exec_driver_sql(explain, values).scalar_one()
    scans, faults = [], []
    for node in _nodes(plan["Plan"]):
        if "Relation Name" in node:
            by = node.get("Index Name", "")
            scans.append(f"{node['Node Type']} {node['Relation Name']}" + (f" by {by}" if by else ""))
            faults += _faults(connection, node)
        elif "Index Name" in node:
            scans.append(f"{node['Node Type']} {node['Index Name']}")
    return Finding(path, tuple(dict.fromkeys(scans)), plan["Execution Time"], tuple(faults))


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from _nodes(child)


def _faults(connection: Connection, node: dict[str, Any]) -> list[str]:
    table = f"{node.get('Schema', '')}.{node['Relation Name']}".lstrip(".")
    faults = []
    if node["Node Type"] == "Seq Scan" and _size(connection, node["Relation Name"]) > _LARGE:
        faults.append(f"reads {table} whole")
    if node["Node Type"] != "Seq Scan" and node.get("Rows Removed by Filter", 0) > _MOST_REMOVED:
        faults.append(f"throws away {node['Rows Removed by Filter']:,} rows of {table}")
    if node.get("Rows Removed by Index Recheck", 0) > _MOST_RECHECKED:
        faults.append(f"rechecks {node['Rows Removed by Index Recheck']:,} rows of {table}")
    return faults


def _size(connection: Connection, table: str) -> int:
    found = connection.exec_driver_sql(
        "SELECT reltuples::bigint FROM pg_class WHERE relname = %(name)s AND relkind = 'r'", {"name": table}
    )
    return int(found.scalar_one())


def tell(found: Sequence[Finding]) -> int:
    """Print what was found; 1 when there are faults in it."""
    for each in found:
        print(f"{'BAD ' if each.faults else 'ok  '}{each.span_ms:8.2f} ms  {each.path}")
        for scan in each.scans:
            print(f"                     {scan}")
        for fault in each.faults:
            print(f"                     !! {fault}")
    bad = sum(bool(each.faults) for each in found)
    print(f"{len(found)} statements, {bad} of them bad")
    return 1 if bad else 0
