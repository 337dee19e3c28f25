"""Many rows by one statement: they travel as one JSON text, which Postgres takes apart.

A row is a mapping of column names to values; all rows of a call name the same columns.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import BindParameter, Column, Dialect, Table, TextClause, bindparam, text
from sqlalchemy.orm import Session
from sqlalchemy.sql.schema import ScalarElementColumnDefault

from models.base import Base

Row = Mapping[str, Any]


def as_json(rows: Sequence[Row]) -> str:
    """Rows as the parameter of a `listed` statement."""
    return msgspec.json.encode(rows).decode()


def listed(types: Mapping[str, str], alias: str) -> str:
    """SQL of the rows in the parameter `rows` as a table: column -> type."""
    columns = ", ".join(f'"{name}" {kind}' for name, kind in types.items())
    return f"json_to_recordset(CAST(:rows AS json)) AS {alias}({columns})"


def insert(session: Session, model: type[Base], rows: Sequence[Row]) -> None:
    """Add rows; a column that they do not name gets its default."""
    if rows:
        statement = _insert(_table(model), tuple(rows[0]), session.get_bind().dialect)
        session.execute(statement, {"rows": as_json(rows)})


def insert_missing(session: Session, model: type[Base], rows: Sequence[Row]) -> set[UUID]:
    """Add those rows that no unique key knows yet. Returns their ids."""
    if not rows:
        return set()
    statement = _insert(_table(model), tuple(rows[0]), session.get_bind().dialect, missing=True)
    return set(session.execute(statement, {"rows": as_json(rows)}).scalars())


def update(session: Session, model: type[Base], rows: Sequence[Row]) -> None:
    """Change rows, each named by its primary key, in the sequence given."""
    if rows:
        statement = _update(_table(model), tuple(rows[0]), session.get_bind().dialect)
        session.execute(statement, {"rows": as_json(rows)})


def _table(model: type[Base]) -> Table:
    assert isinstance(model.__table__, Table)
    return model.__table__


@cache
def _insert(table: Table, names: tuple[str, ...], dialect: Dialect, *, missing: bool = False) -> TextClause:
    columns = ", ".join(f'"{name}"' for name in names)
    defaults = [_default(column) for column in table.columns if column.name not in names and column.default]
    extra = "".join(f', "{default.key}"' for default in defaults)
    values = "".join(f", :{default.key}" for default in defaults)
    given = listed(_types(table, names, dialect), "r")
    statement = f"INSERT INTO {table.fullname} ({columns}{extra}) SELECT {columns}{values} FROM {given}"
    if missing:
        statement += " ON CONFLICT DO NOTHING RETURNING id"
    return text(statement).bindparams(*defaults)


def _default(column: Column[Any]) -> BindParameter[Any]:
    """What SQLAlchemy would write where nothing is given."""
    default = column.default
    assert isinstance(default, ScalarElementColumnDefault), f"say {column.name} in each row"
    return bindparam(column.name, default.arg, column.type)


@cache
def _update(table: Table, names: tuple[str, ...], dialect: Dialect) -> TextClause:
    keys = [column.name for column in table.primary_key]
    changes = ", ".join(f'"{name}" = r."{name}"' for name in names if name not in keys)
    same = " AND ".join(f't."{name}" = r."{name}"' for name in keys)
    given = listed(_types(table, names, dialect), "r")
    return text(f"UPDATE {table.fullname} t SET {changes} FROM {given} WHERE {same}")


def _types(table: Table, names: tuple[str, ...], dialect: Dialect) -> dict[str, str]:
    return {name: table.columns[name].type.compile(dialect) for name in names}
