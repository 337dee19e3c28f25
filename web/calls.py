"""What a view gets and gives, and the row of the route table that describes it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import msgspec
from werkzeug.datastructures import Headers

from billing.errors import NotFound
from billing.metering import FieldError
from models.organization_queries import is_named
from models.reading import OwnedKind, Page, owner_of
from tasks.context import Context
from tasks.keys import Caller, Scope
from tasks.organizations import resolve
from web.problems import InvalidFields

KIB, MIB = 2**10, 2**20
MAX_LIMIT = 200
DEFAULT_LIMIT = 50

Kind = Literal["product", "organization", "admin"]
Method = Literal["GET", "POST", "PATCH", "DELETE"]

PRODUCT: frozenset[Kind] = frozenset(("product",))
PRODUCT_READS: frozenset[Kind] = frozenset(("product", "admin"))
ORGANIZATION: frozenset[Kind] = frozenset(("organization", "admin"))
ADMIN: frozenset[Kind] = frozenset(("admin",))
PUBLIC: frozenset[Kind] = frozenset()


@dataclass(frozen=True, slots=True)
class Answer:
    """A view's answer: `body` is encoded as JSON, or sent as it is when it is bytes of `content_type`."""

    body: Any
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    # What a repeat is told instead, where the body holds a secret that must not be stored.
    kept: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request, authenticated and decoded, as a view sees it."""

    context: Context
    caller: Caller | None
    path: Mapping[str, str]
    query: Mapping[str, str]
    headers: Headers
    raw: bytes
    # An instance of the route's body type; None when it has none.
    body: Any
    # When this process began to serve.
    started_at: datetime
    # The id of what the caller wants: the same one in every repeat under its `Idempotency-Key`.
    intention: UUID

    def known(self) -> Caller:
        """The caller of a route that is not public."""
        assert self.caller is not None, "the route table lets nobody in without a key here"
        return self.caller

    def organization_id(self, reference: str | None) -> UUID:
        """The organization that this call is about: named, or the key's own.

        Raises NotFound for another organization's reference, exactly as for an unknown one.
        """
        own = self.known().organization_id
        if reference is None:
            if own is None:
                raise InvalidFields([FieldError("organization", "is required with this kind of key")])
            return own
        if own is None:
            return resolve(self.context, reference)
        # Never looked up: another's name costs the same statements as one that nobody has.
        with self.context.database.system() as session:
            if not is_named(session, own, reference):
                raise NotFound("no such organization", field="organization")
        return own

    def organization_of(self, kind: OwnedKind) -> tuple[UUID, UUID]:
        """The organization and the id of the object that the path names. Raises NotFound.

        An organization's key only ever looks inside its organization; an admin's key looks up whose it is.
        """
        missing = f"no such {kind.replace('_', ' ')}"
        object_id = self.path_id("id", missing)
        own = self.known().organization_id
        if own is None:
            own = self.context.auditor.at_once(lambda asked: owner_of(asked, kind, object_id))
        if own is None:
            raise NotFound(missing)
        return own, object_id

    def path_id(self, name: str, missing: str) -> UUID:
        """An id in the path; a malformed one is as unknown as any other."""
        try:
            return UUID(self.path[name])
        except ValueError:
            raise NotFound(missing) from None

    def limit(self, default: int) -> int:
        """How many rows `?limit=` asks for. Raises InvalidFields."""
        limit = self.query.get("limit", str(default))
        if not (limit.isascii() and limit.isdigit() and len(limit) <= 3 and 1 <= int(limit) <= MAX_LIMIT):
            raise InvalidFields([FieldError("limit", f"must be 1 to {MAX_LIMIT}")])
        return int(limit)

    def page(self) -> Page:
        """The page that `?limit=` and `?cursor=` ask for. Raises InvalidFields."""
        limit = self.limit(DEFAULT_LIMIT)
        cursor = self.query.get("cursor")
        try:
            return Page(limit=limit, before=UUID(cursor) if cursor is not None else None)
        except ValueError:
            raise InvalidFields([FieldError("cursor", "is not one that a list gave")]) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One row of the route table: from it come the URL rule, the guard, the caps and the OpenAPI page.

    `access` empty means public. `body` and `answer` are the msgspec types of the JSON in and out.
    `keeps_answer` is false where the use case recognizes a repeat by itself.
    """

    method: Method
    path: str
    view: Callable[[Call], Answer]
    access: frozenset[Kind]
    summary: str
    tag: str
    answer: Any = None
    status: int = 200
    body: type[msgspec.Struct] | None = None
    # The types of a body that the view reads by itself, for the OpenAPI page.
    read_by_view: tuple[type[msgspec.Struct], ...] = ()
    query: Mapping[str, str] = field(default_factory=dict)
    max_body: int = 64 * KIB
    keeps_answer: bool = True
    # A door that takes much and works later: it has a limit of its own.
    stores_first: bool = False
    # What a key must be good for; a GET reads, everything else writes, if nothing is said.
    needs: Scope | None = None
    content_type: str = "application/json"
    refusals: tuple[int, ...] = ()

    @property
    def bodies(self) -> tuple[type[msgspec.Struct], ...]:
        """The types of which the body is one."""
        return (self.body,) if self.body is not None else self.read_by_view

    @property
    def takes_key(self) -> bool:
        """Whether it may come with an `Idempotency-Key`: what changes something, and knows who asks."""
        return self.method != "GET" and bool(self.access)

    @property
    def scope(self) -> Scope:
        return self.needs or ("read" if self.method == "GET" else "write")

    @property
    def endpoint(self) -> str:
        return f"{self.method} {self.path}"
