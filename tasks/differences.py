"""What differs between our rows and Stripe's objects of one organization: pure comparison, both ways."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar
from uuid import UUID

from billing.lifecycles import from_stripe_subscription_status
from gateway.translate import (
    ChargeFacts,
    CustomerFacts,
    DisputeFacts,
    InvoiceFacts,
    InvoiceLineFacts,
    PaymentFacts,
    PaymentMethodFacts,
    SubscriptionFacts,
)
from models.invoices import Dispute, Invoice, InvoiceLine, Payment
from models.reconciling import Books, InvoiceRows, ItemRows, SubscriptionRows
from models.subscriptions import PaymentMethod

Kind = Literal["missing_here", "missing_at_stripe", "amount", "status", "other"]
# Stripe makes these lines itself, from the subscription's items; all others carry our line's id.
_STRIPES_OWN = ("recurring", "seats", "proration")
_MONEY_IN = ("succeeded", "refunded")

_Ours = TypeVar("_Ours")
_Theirs = TypeVar("_Theirs")
_Line = TypeVar("_Line")


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing on which our row and Stripe's object do not agree; `sentence` is for a person."""

    kind: Kind
    organization_id: str | None
    object_id: str
    field: str | None
    ours: str | None
    stripe: str | None
    sentence: str

    def to_record(self) -> dict[str, Any]:
        """JSON-safe, as it is stored with its run."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class StripeInvoice:
    """An invoice with all its lines, and its payments."""

    facts: InvoiceFacts
    payments: Sequence[PaymentFacts]


@dataclass(frozen=True, slots=True)
class Mirror:
    """Stripe's side of one organization; no customer, when Stripe has none (or has deleted it)."""

    customer: CustomerFacts | None
    payment_methods: Sequence[PaymentMethodFacts]
    subscriptions: Sequence[SubscriptionFacts]
    invoices: Sequence[StripeInvoice]
    charges: Sequence[ChargeFacts]
    disputes: Sequence[DisputeFacts] = ()


def compare(books: Books, mirror: Mirror) -> list[Difference]:
    """Every difference between the two sides, to the minor unit."""
    seen = _Seen(books.organization.id)
    if mirror.customer is None or mirror.customer.deleted:
        name = str(books.organization.stripe_customer_id)
        return [seen.missing("missing_at_stripe", f"customer {name}", name)]
    return [
        *_customer(seen, books, mirror.customer),
        *_payment_methods(seen, books, mirror.payment_methods),
        *_subscriptions(seen, books.subscriptions, mirror.subscriptions),
        *_invoices(seen, books, mirror.invoices),
        *_refunds(seen, books, mirror.charges),
        *_disputes(seen, books.disputes, mirror.disputes),
    ]


def stranger(customer_id: str) -> Difference:
    """A customer that we made at Stripe and have no organization for."""
    return _Seen(None).missing("missing_here", f"customer {customer_id}", customer_id)


@dataclass(frozen=True, slots=True)
class _Seen:
    """Words differences of one organization."""

    organization_id: UUID | None

    def missing(self, kind: Kind, about: str, object_id: str) -> Difference:
        here = kind == "missing_here"
        return Difference(
            kind,
            self._organization,
            object_id,
            None,
            None if here else object_id,
            object_id if here else None,
            f"{about} is at Stripe, but not here" if here else f"{about} is here, but not at Stripe",
        )

    def fields(
        self, about: str, object_id: str, checks: Iterable[tuple[Kind, str, object, object]]
    ) -> Iterator[Difference]:
        """Those of (kind, field, ours, stripe) that differ."""
        for kind, field, ours, stripe in checks:
            if ours != stripe:
                left, right = _text(ours), _text(stripe)
                sentence = f"{about}: {field} is {left} here and {right} at Stripe"
                yield Difference(kind, self._organization, object_id, field, left, right, sentence)

    @property
    def _organization(self) -> str | None:
        return str(self.organization_id) if self.organization_id else None


def _customer(seen: _Seen, books: Books, facts: CustomerFacts) -> Iterator[Difference]:
    owner = books.organization
    default = next((each for each in _attached(books) if each.is_default), None)
    yield from seen.fields(
        f"customer {facts.id}",
        facts.id,
        [
            # Stripe learns a customer's currency with the first invoice.
            ("other", "currency", owner.currency, facts.currency or owner.currency),
            (
                "other",
                "default payment method",
                default.stripe_payment_method_id if default else None,
                facts.default_payment_method_id,
            ),
            ("amount", "credit balance", books.credit_minor, -facts.balance_minor),
        ],
    )


def _payment_methods(seen: _Seen, books: Books, facts: Sequence[PaymentMethodFacts]) -> Iterator[Difference]:
    ours = {each.stripe_payment_method_id: each for each in _attached(books)}
    yield from _unpaired(seen, "payment method", ours, {each.id: each for each in facts})
    for row, theirs in _paired(ours, {each.id: each for each in facts}):
        about = f"payment method {theirs.id}"
        yield from seen.fields(
            about,
            theirs.id,
            [
                ("other", "last four digits", row.last_four, theirs.last4),
                ("other", "expiry", (row.exp_year, row.exp_month), (theirs.exp_year, theirs.exp_month)),
            ],
        )


def _attached(books: Books) -> list[PaymentMethod]:
    return [each for each in books.payment_methods if each.detached_at is None]


def _subscriptions(
    seen: _Seen, rows: Sequence[SubscriptionRows], facts: Sequence[SubscriptionFacts]
) -> Iterator[Difference]:
    # One that has not reached Stripe is named by its own id, which Stripe then lacks; one that Stripe
    # refused has ended.
    ours = {
        each.subscription.stripe_subscription_id or str(each.subscription.id): each
        for each in rows
        if each.subscription.stripe_subscription_id or each.subscription.ended_at is None
    }
    theirs = {each.id: each for each in facts}
    yield from _unpaired(seen, "subscription", ours, theirs)
    for row, found in _paired(ours, theirs):
        yield from seen.fields(f"subscription {found.id}", found.id, _subscription_checks(row, found))
        yield from _items(seen, row, found)


def _subscription_checks(
    rows: SubscriptionRows, facts: SubscriptionFacts
) -> Iterator[tuple[Kind, str, object, object]]:
    row = rows.subscription
    yield "status", "status", row.status, from_stripe_subscription_status(facts.status).value
    will_end = facts.cancel_at_period_end or facts.cancel_at is not None
    yield "status", "cancellation at the period's end", row.cancel_at_period_end, will_end
    yield "status", "end", row.ended_at, facts.ended_at
    yield "other", "end of the trial", row.trial_end_at, facts.trial_end_at
    if row.ended_at is None:
        # Before a shorter interval begins Stripe counts the last part of the running period already.
        shortens = any(each.item.started_at == row.current_period_end_at for each in rows.items)
        start_at = facts.period_start_at if shortens else row.current_period_start_at
        yield (
            "other",
            "period",
            _span(start_at, row.current_period_end_at),
            _span(facts.period_start_at, facts.period_end_at),
        )


def _items(seen: _Seen, rows: SubscriptionRows, facts: SubscriptionFacts) -> Iterator[Difference]:
    ended_at = rows.subscription.ended_at
    live = [each for each in rows.items if each.item.ended_at is None or each.item.ended_at == ended_at]
    # Terms that were to begin when the subscription ended are the last ones that Stripe was told.
    live.sort(key=lambda each: each.item.started_at)
    ours = {each.item.stripe_item_id or str(each.item.id): each for each in live}
    theirs = {each.id: each for each in facts.items}
    yield from _unpaired(seen, "subscription item", ours, theirs)
    for row, found in _paired(ours, theirs):
        yield from seen.fields(
            f"subscription item {found.id}",
            found.id,
            [
                ("other", "price", row.stripe_price_id, found.price_id),
                ("amount", "quantity", row.item.quantity, found.quantity),
            ],
        )


def _invoices(seen: _Seen, books: Books, found: Sequence[StripeInvoice]) -> Iterator[Difference]:
    # A draft that is still collecting usage has not been sent to Stripe yet.
    ours = {
        each.invoice.stripe_invoice_id or str(each.invoice.id): each
        for each in books.invoices
        if each.invoice.stripe_invoice_id is not None or each.invoice.finalized_at is not None
    }
    theirs = {each.facts.id: each for each in found}
    items = {each.item.id: each for rows in books.subscriptions for each in rows.items}
    yield from _unpaired(seen, "invoice", ours, theirs)
    for row, mirrored in _paired(ours, theirs):
        facts = mirrored.facts
        about = f"invoice {row.invoice.number or facts.id}"
        yield from seen.fields(about, facts.id, _invoice_checks(row.invoice, facts))
        credited = books.credited_minor.get(row.invoice.id, 0)
        yield from seen.fields(about, facts.id, [("amount", "credit notes", credited, facts.credited_minor)])
        yield from _payments(seen, about, row.payments, mirrored.payments)
        if _is_rated(row.invoice):
            yield from _lines(seen, about, row, facts.lines, items)


def _is_rated(invoice: Invoice) -> bool:
    return invoice.finalized_at is not None or invoice.pushed_at is not None


def _invoice_checks(row: Invoice, facts: InvoiceFacts) -> Iterator[tuple[Kind, str, object, object]]:
    yield "status", "status", row.status, facts.status
    yield "other", "currency", row.currency, facts.currency
    if _is_rated(row):
        yield "amount", "subtotal", row.subtotal_minor, facts.subtotal_minor
        yield "amount", "discount", row.discount_minor, facts.discount_minor
        yield "amount", "tax", row.tax_minor, facts.tax_minor - facts.tax_included_minor
        # Stripe takes a customer's credit off what is due, after its total.
        yield "amount", "total", row.total_minor + row.credit_minor, facts.total_minor
    yield "amount", "paid", row.paid_minor, facts.amount_paid_minor
    if row.status in ("open", "uncollectible"):
        yield "amount", "due", row.due_minor, facts.amount_remaining_minor
    if facts.status in ("draft", "open"):
        yield "other", "collection by Stripe itself", False, facts.auto_advance


def _payments(
    seen: _Seen, about: str, rows: Sequence[Payment], facts: Sequence[PaymentFacts]
) -> Iterator[Difference]:
    # Money that came another way than through Stripe has no intent, and no payment there.
    ours = {
        each.stripe_payment_intent_id: each
        for each in rows
        if each.status in _MONEY_IN and each.stripe_payment_intent_id is not None
    }
    theirs = {each.payment_intent_id or each.id: each for each in facts if each.status == "paid"}
    yield from _unpaired(seen, f"{about}: payment", ours, theirs)
    for row, found in _paired(ours, theirs):
        yield from seen.fields(
            f"{about}: payment {found.payment_intent_id}",
            found.id,
            [
                ("amount", "amount", row.amount_minor, found.amount_paid_minor),
                ("other", "currency", row.currency, found.currency),
            ],
        )


def _refunds(seen: _Seen, books: Books, charges: Sequence[ChargeFacts]) -> Iterator[Difference]:
    """What went back of each payment, whoever sent it back."""
    theirs: Counter[str] = Counter()
    for each in charges:
        theirs[each.payment_intent_id or each.id] += each.refunded_minor
    for name in sorted(theirs.keys() | books.refunded_minor.keys()):
        ours = books.refunded_minor.get(name, 0)
        yield from seen.fields(f"payment {name}", name, [("amount", "refunded", ours, theirs[name])])


def _disputes(seen: _Seen, rows: Sequence[Dispute], facts: Sequence[DisputeFacts]) -> Iterator[Difference]:
    ours, theirs = {each.stripe_dispute_id: each for each in rows}, {each.id: each for each in facts}
    yield from _unpaired(seen, "dispute", ours, theirs)
    for row, found in _paired(ours, theirs):
        yield from seen.fields(
            f"dispute {found.id}",
            found.id,
            [
                ("status", "status", row.status, found.status),
                ("amount", "amount", row.amount_minor, found.amount_minor),
                ("other", "currency", row.currency, found.currency),
            ],
        )


def _lines(
    seen: _Seen,
    about: str,
    rows: InvoiceRows,
    facts: Sequence[InvoiceLineFacts],
    items: Mapping[UUID, ItemRows],
) -> Iterator[Difference]:
    """Line by line: ours by the id that we gave Stripe, Stripe's own by their subscription item."""
    sent = {each.metadata.get("line_id") for each in facts}
    ours = _numbered(
        (str(line.id) if str(line.id) in sent else _line_name(line, items), line.amount_minor, line)
        for line in rows.lines
    )
    waited = {_waited(line) for line in rows.lines}
    theirs = _numbered((_stripes_line_name(each, waited), each.amount_minor, each) for each in facts)
    yield from _unpaired(seen, f"{about}: line", ours, theirs)
    for row, found in _paired(ours, theirs):
        yield from seen.fields(
            f"{about}: line {row.position} ({row.description})",
            found.id,
            [("amount", "amount", row.amount_minor, found.amount_minor)],
        )


def _numbered(named: Iterable[tuple[str, int, _Line]]) -> dict[str, _Line]:
    """Lines by name; those of one name, such as two changes within a second, by amount as well."""
    found: dict[str, _Line] = {}
    seen: Counter[str] = Counter()
    for name, _, line in sorted(named, key=lambda each: each[:2]):
        seen[name] += 1
        found[name if seen[name] == 1 else f"{name} no. {seen[name]}"] = line
    return found


def _line_name(line: InvoiceLine, items: Mapping[UUID, ItemRows]) -> str:
    stripes_own = line.kind in _STRIPES_OWN and line.item_id is not None
    item = items.get(line.item_id) if stripes_own and line.item_id else None
    if item is not None and line.kind == "proration":
        named = _proration_name(item.stripe_price_id, line.amount_minor, line.period_start_at)
        return _waited(line) or named
    return (item.item.stripe_item_id if item else None) or str(line.id)


def _waited(line: InvoiceLine) -> str | None:
    """The invoice item that this proration was at Stripe before it stood on an invoice, where we know it."""
    told: Mapping[str, Any] = line.explanation.get("proration") or {}
    return told.get("stripe_invoice_item")


def _stripes_line_name(line: InvoiceLineFacts, waited: Collection[str | None]) -> str:
    if line.invoice_item_id is not None and line.invoice_item_id in waited:
        return line.invoice_item_id
    if line.proration:
        return _proration_name(line.price_id, line.amount_minor, line.period_start_at)
    return line.metadata.get("line_id") or line.subscription_item_id or line.id


def _proration_name(price_id: str | None, amount_minor: int, changed_at: datetime) -> str:
    """A change leaves a credit and a charge, at one instant; Stripe's lines of it name no item."""
    side = "credit" if amount_minor < 0 else "charge"
    return f"{price_id}, {side} of {changed_at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _unpaired(
    seen: _Seen, about: str, ours: Mapping[str, object], theirs: Mapping[str, object]
) -> Iterator[Difference]:
    for name in ours.keys() - theirs.keys():
        yield seen.missing("missing_at_stripe", f"{about} {name}", name)
    for name in theirs.keys() - ours.keys():
        yield seen.missing("missing_here", f"{about} {name}", name)


def _paired(ours: Mapping[str, _Ours], theirs: Mapping[str, _Theirs]) -> Iterator[tuple[_Ours, _Theirs]]:
    for name in ours.keys() & theirs.keys():
        yield ours[name], theirs[name]


def _span(start_at: datetime | None, end_at: datetime | None) -> tuple[object, object]:
    return start_at, end_at


def _text(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, tuple):
        return " to ".join(str(_text(each)) for each in value)
    return str(value)
