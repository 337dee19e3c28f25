"""How a list of the admin is described: its columns, filters, and what stands under a row."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from models.admin_lists import ListQuery

Kind = Literal[
    "text",
    "word",
    "code",
    "long",
    "time",
    "money",
    "number",
    "badge",
    "yes",
    "json",
    "prices",
    "product",
    "contents",
]


@dataclass(frozen=True, slots=True)
class Column:
    """One column: the row's field, its heading, and how its value is shown (`long`: cut in lists).

    `page` and `key` make the value a link to another row: of which page, and by which field.
    """

    field: str
    label: str
    kind: Kind = "text"
    page: str = ""
    key: str = "id"


@dataclass(frozen=True, slots=True)
class ListPage:
    """One list of the admin, at `/admin/<area>/<name>/`.

    `choices` are the filters offered as menus; every filter of the query works in the address.
    `related` are lists shown under a row: title, page, and the filter that takes the row's id.
    """

    area: str
    name: str
    title: str
    one: str
    query: ListQuery
    columns: tuple[Column, ...]
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    related: tuple[tuple[str, str, str], ...] = ()
    # A list that is only shown under a row of another.
    inner: bool = False

    @property
    def path(self) -> str:
        return f"{self.area}/{self.name}"


def of_organization() -> Column:
    return Column("organization", "Organization", page="organizations/organization", key="organization_id")


def of_invoice() -> Column:
    return Column("invoice", "Invoice", "code", page="billing/invoice", key="invoice_id")
