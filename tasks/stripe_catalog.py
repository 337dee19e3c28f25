"""The catalog at Stripe: products, prices, coupons and tax rates, each made once and remembered here."""

import hashlib
import json
import threading
from collections.abc import Callable, Container, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from typing import Literal

from billing.errors import BillingError
from billing.keys import stripe_key
from gateway import requests
from gateway.errors import Unreachable
from gateway.requests import Request
from models import catalog_queries as queries
from models import intentions
from models.catalog import Product
from models.database import Session
from models.ops import StripeCall
from tasks import catalog_objects as objects
from tasks.catalog_objects import Found, Wanted
from tasks.context import Context
from tasks.stripe_calls import Unresolved, call

# Stripe answers in some 300 ms and makes one object at a time; test mode allows 25 calls a second.
_THREADS = 4
# An intention this old that left no trace at Stripe was never carried out.
_NO_TRACE_AFTER = timedelta(minutes=10)

_Outcome = Literal["created", "adopted", "updated", "archived", "unchanged"]


class AnotherAccount(BillingError):
    """The ids in this database belong to another Stripe account than the configured key."""

    code = "another_stripe_account"


@dataclass(slots=True)
class SyncReport:
    """What a sync did; in a dry run, what it would do.

    `created`, `updated` and `archived` count writes at Stripe; `adopted` what was found there and only
    noted here.
    """

    created: int = 0
    adopted: int = 0
    updated: int = 0
    archived: int = 0
    unchanged: int = 0

    def __str__(self) -> str:
        return (
            f"{self.created} created, {self.adopted} found at Stripe, {self.updated} updated, "
            f"{self.archived} archived, {self.unchanged} unchanged"
        )


def sync(
    context: Context, *, dry_run: bool = False, progress: Callable[[str], None] | None = None
) -> SyncReport:
    """Make at Stripe what the catalog has and Stripe has not, and note the ids; a repeat does nothing.

    An object that stands at Stripe under our name with our figures is adopted, so a database that was
    restored does not double the catalog. Two syncs at once send the same keys and get the same objects.
    Prices of plan versions no longer sold are archived once the new ones stand; who has one keeps it.
    `progress` gets one line per change. A dry run reads Stripe and writes nowhere; it counts the prices
    and coupons of a product that has no id yet as created, though they may be found once it has one.
    Raises: GatewayError, Unresolved, AnotherAccount.
    """
    run = _Sync(context, dry_run, progress or (lambda _line: None))
    run.settle(objects.products)
    run.renew_products()
    # Prices and coupons name the products' ids, which stand in the rows by now.
    for read in (objects.prices, objects.bundle_coupons, objects.coupons, objects.tax_rates):
        run.settle(read)
    run.archive_prices()
    return run.report


def bring(context: Context, read: Callable[[Session], Iterable[Wanted]]) -> None:
    """Make at Stripe what one kind of rows lacks there. Raises as `sync`."""
    _Sync(context, False, lambda _line: None).settle(read)


class _Sync:
    """One run: what it found at Stripe, and what it did."""

    def __init__(self, context: Context, dry_run: bool, progress: Callable[[str], None]) -> None:
        self.context = context
        self.dry_run = dry_run
        self.progress = progress
        self.report = SyncReport()
        self.listings: dict[tuple[str, str], list[Found]] = {}
        # What stands at Stripe belongs to one row, also where another one wants the very same.
        self.taken: set[str] = set()
        self.taking = threading.Lock()

    def settle(self, read: Callable[[Session], Iterable[Wanted]]) -> None:
        """Bring the rows of one kind to Stripe, some at a time; the first failure ends the run."""
        with self.context.database.system() as session:
            rows = list(read(session))
        self.taken |= {row.stripe_id for row in rows if row.stripe_id is not None}
        with _pool() as pool:
            for wanted, outcome in zip(rows, pool.map(self._settle_one, rows), strict=True):
                self._tell(outcome, wanted.label)

    def renew_products(self) -> None:
        """Give Stripe's products our present names and descriptions; archive what is no longer sold."""
        with self.context.database.system() as session:
            products = [product for product in queries.all_products(session) if product.stripe_product_id]
        if not products:
            return
        standing = {found["id"]: found for found in self.context.gateway.list("product")}
        for product in products:
            found = standing.get(product.stripe_product_id)
            if found is None:
                raise AnotherAccount(
                    f"product {product.code} is {product.stripe_product_id} here, and Stripe does not know it"
                )
            self._renew_product(product, found)

    def _renew_product(self, product: Product, found: Found) -> None:
        wanted: dict[str, object] = {
            "name": product.name,
            "description": product.description,
            "active": product.status == "active",
        }
        changes = {name: value for name, value in wanted.items() if (found[name] or "") != (value or "")}
        if not changes:
            return
        self._tell("updated", f"product {product.code}: {', '.join(sorted(changes))}")
        self._say(requests.update_product(found["id"], **changes), "product-update", product.id)

    def archive_prices(self) -> None:
        """Have Stripe sell no more at the prices of superseded plan versions."""
        with self.context.auditor.system() as session:
            ended = queries.ended_prices(session)
        if not ended:
            return
        active = {found["id"] for found in self.context.gateway.list("price", {"active": True})}
        for price, plan in ended:
            if price.stripe_price_id in active:
                self._tell("archived", f"price {objects.price_name(price, plan)}")
                self._say(requests.archive_price(str(price.stripe_price_id)), "price-archive", price.id)

    def _say(self, request: Request, *parts: object) -> None:
        """Set fields of an object. Saying it twice does no harm, so it is said again when in doubt."""
        if self.dry_run:
            return
        # Stripe is not as it was told to be: an intention that succeeded has been undone since.
        settled = ("succeeded", "refused")
        while True:
            key, _ = self._open_intention(settled, *parts, _digest(request))
            try:
                call(self.context, request, key)
            except Unresolved:
                self._resolve(
                    key, "refused", error={"message": "too old to be sent again", "code": "no_trace"}
                )
            else:
                return

    def _settle_one(self, wanted: Wanted) -> _Outcome:
        if wanted.stripe_id is not None:
            return "unchanged"
        key, intention = self._intention(wanted)
        found = self._find(wanted.request) if intention is None else None
        if not self.dry_run:
            stripe_id = found["id"] if found is not None else self._make(wanted, key, intention)
            with self.context.database.system() as session:
                queries.give_stripe_id(session, wanted.column, wanted.row_id, stripe_id)
        return "created" if found is None else "adopted"

    def _intention(self, wanted: Wanted) -> tuple[str, StripeCall | None]:
        """The key to use, and what was already said under it; a refused one is given up for the next.

        The content is part of the key: a row that was mended, or a database that was restored and then
        edited, means something else and must not meet what Stripe remembers under the old key.
        """
        table = wanted.column.class_.__tablename__
        return self._open_intention(("refused",), table, wanted.row_id, _digest(wanted.request))

    def _open_intention(self, settled: Container[str], *parts: object) -> tuple[str, StripeCall | None]:
        with self.context.database.system() as session:
            for attempt in count(1):
                key = stripe_key(*map(str, parts), attempt)
                intention = queries.intention_by_key(session, key)
                if intention is None or intention.state not in settled:
                    break
        return key, intention

    def _make(self, wanted: Wanted, key: str, before: StripeCall | None) -> str:
        """Make the object, or find what an earlier sending made: Stripe repeats a 500 under its key."""
        try:
            return str(call(self.context, wanted.request, key)["id"])
        except (Unresolved, Unreachable):
            found = self._find(wanted.request, anew=True)
            if found is not None:
                self._resolve(key, "succeeded", reply=found)
                return str(found["id"])
            if before is None or self.context.wall() - before.created_at < _NO_TRACE_AFTER:
                raise
        self._resolve(key, "refused", error={"message": "left no trace at Stripe", "code": "no_trace"})
        return self._make(wanted, *self._intention(wanted))

    def _resolve(self, key: str, state: str, **outcome: object) -> None:
        with self.context.database.system() as session:
            intention = queries.intention_by_key(session, key)
            assert intention is not None, "it was stored before it was sent"
            intentions.settle(session, intention.id, state, self.context.wall(), **outcome)

    def _find(self, request: Request, *, anew: bool = False) -> Found | None:
        """The object at Stripe that is this row's already."""
        if request.params.get("product") == "":
            return None  # a dry run: without its product there is no price
        kind, filters, matches = objects.LOOKUPS[request.operation]
        params = filters(request.params)
        listing = (kind, repr(params))
        if anew or listing not in self.listings:
            self.listings[listing] = list(self.context.gateway.list(kind, params))
        with self.taking:
            free = (found for found in self.listings[listing] if found["id"] not in self.taken)
            found = next((each for each in free if matches(request.params, each)), None)
            if found is not None:
                self.taken.add(found["id"])
        return found

    def _tell(self, outcome: _Outcome, label: str) -> None:
        setattr(self.report, outcome, getattr(self.report, outcome) + 1)
        if outcome != "unchanged":
            self.progress(f"{'to be ' if self.dry_run else ''}{outcome}: {label}")


def _digest(request: Request) -> str:
    content = json.dumps(request.params, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


@contextmanager
def _pool() -> Iterator[ThreadPoolExecutor]:
    """Threads that start nothing new once one of them failed."""
    pool = ThreadPoolExecutor(_THREADS)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
