"""The credit balance: given by staff, spent by invoices before a card is charged, told to Stripe.

The ledger is ours and Stripe's customer balance is its mirror. Stripe uses the balance when it finalizes
an invoice; what it used is held against what our own ledger says it must have used.
"""

from dataclasses import dataclass
from uuid import UUID

from billing import balance
from billing.errors import Conflict, InvalidTerms
from billing.keys import stripe_key
from billing.money import Money, format_money
from gateway import requests
from gateway.translate import InvoiceFacts
from models import sale_terms
from models.invoices import CreditEntry, Invoice
from models.work import ClaimedJob
from tasks.context import Context, TenantUnit
from tasks.organizations import ensure_customer
from tasks.queue import job
from tasks.stripe_calls import call

_MOST_MINOR = 10**11


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """One entry, and what is left of it when the oldest credit is spent first."""

    entry: CreditEntry
    invoice_number: str | None
    unspent_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """An organization's credit in its currency, the oldest entry first."""

    currency: str
    balance_minor: int
    entries: list[LedgerEntry]


def grant(context: Context, organization_id: UUID, amount_minor: int, reason: str, key: str) -> CreditEntry:
    """Give an organization credit, or with an amount below zero take unspent credit back.

    `key` names the intention: a repeat finds the entry. Raises: InvalidTerms; Conflict for a key that
    gave something else, or credit that is not there; GatewayError (a worker then tells Stripe).
    """
    if not 0 < abs(amount_minor) <= _MOST_MINOR:
        raise InvalidTerms("must be another amount than nothing", field="amount_minor")
    if not reason.strip() or len(reason) > 300:
        raise InvalidTerms("must have 1 to 300 characters", field="reason")
    ensure_customer(context, organization_id)
    with context.database.organization_lock(organization_id):
        with context.tenant(organization_id) as unit:
            entry = _granted(unit, amount_minor, reason.strip(), f"grant:{key}")
            unit.enqueue("balance.tell_stripe", str(entry.id), subject_id=entry.id)
            rings = unit.take_rings()
        with context.ringing_at_last(rings):
            tell(context, organization_id)
    return entry


def _granted(unit: TenantUnit, amount_minor: int, reason: str, key: str) -> CreditEntry:
    organization = unit.organization
    found = sale_terms.credit_entry(unit.session, organization.id, key)
    if found is not None:
        if (found.amount_minor, found.reason) != (amount_minor, reason):
            raise Conflict("this key gave other credit", field="Idempotency-Key")
        return found
    there = sale_terms.balance(unit.session, organization.id, organization.currency)
    if amount_minor < 0 and there + amount_minor < 0:
        left = format_money(Money(there, organization.currency))
        raise Conflict(f"only {left} of credit is left", field="amount_minor")
    return _add(unit, key, Money(amount_minor, organization.currency), reason, None)


def _add(unit: TenantUnit, key: str, amount: Money, reason: str, invoice: Invoice | None) -> CreditEntry:
    entry = CreditEntry(
        organization_id=unit.organization.id,
        key=key,
        currency=amount.currency,
        amount_minor=amount.minor,
        reason=reason,
        invoice_id=invoice.id if invoice is not None else None,
        created_at=unit.now,
    )
    unit.session.add(entry)
    unit.session.flush()
    return entry


@job("balance.tell_stripe", queue="stripe")
def tell_stripe(context: Context, claimed: ClaimedJob) -> None:
    """Stripe's balance gets the entries that staff made, each once."""
    ensure_customer(context, claimed.organization)
    tell(context, claimed.organization)


def tell(context: Context, organization_id: UUID) -> None:
    """Bring untold entries to Stripe's balance. The caller holds the organization's lock."""
    with context.tenant(organization_id) as unit:
        untold = sale_terms.untold_credit(unit.session, organization_id)
        customer_id = str(unit.organization.stripe_customer_id)
    for entry in untold:
        request = requests.create_balance_transaction(
            customer_id,
            # Stripe's balance is what the customer owes: credit is below zero.
            -entry.amount_minor,
            entry.currency,
            description=entry.reason,
            metadata={"credit_entry_id": entry.id},
        )
        made = call(context, request, stripe_key("credit", entry.id), organization_id)
        with context.tenant(organization_id) as unit:
            told = unit.session.get_one(CreditEntry, (organization_id, entry.id))
            told.stripe_transaction_id = str(made["id"])


def ledger(context: Context, organization_id: UUID) -> Ledger:
    """The whole ledger of an organization. Raises NotFound."""
    with context.tenant(organization_id) as unit:
        currency = unit.organization.currency
        rows = sale_terms.credit_entries(unit.session, organization_id, currency)
    unspent = balance.unspent([entry.amount_minor for entry, _ in rows])
    entries = [
        LedgerEntry(entry=entry, invoice_number=number, unspent_minor=left)
        for (entry, number), left in zip(rows, unspent, strict=True)
    ]
    return Ledger(currency=currency, balance_minor=sum(unspent), entries=entries)


@dataclass(frozen=True, slots=True)
class Settlement:
    """What a finalized invoice does to the balance: what it `used`, and what was too little to charge."""

    payable: Money
    used: Money
    carried: Money

    @property
    def credit(self) -> Money:
        """What of the invoice the balance pays, as Stripe has it."""
        return self.used + self.carried

    @property
    def total(self) -> Money:
        return self.payable - self.credit


def settled(invoice: Invoice, facts: InvoiceFacts, there: Money) -> Settlement | str:
    """How a draft that Stripe has just finalized uses a balance of `there`.

    In a sentence instead: how Stripe's use differs from ours.
    """
    payable = Money(invoice.total_minor + invoice.credit_minor, invoice.currency)
    # What stood there when Stripe finalized it: credit given since then is for the next invoice.
    used = balance.used(Money(-facts.starting_balance_minor, facts.currency), payable)
    theirs = Money(facts.total_minor - facts.amount_due_minor, facts.currency)
    carried = theirs - used
    if carried.minor and not (theirs == payable and balance.is_carried(carried)):
        return f"of {format_money(payable)} the balance pays {format_money(used)}, not {format_money(theirs)}"
    if balance.used(there, used) != used:
        return f"Stripe's balance gave {format_money(used)}, our ledger has {format_money(there)}"
    return Settlement(payable, used, carried)


def use(unit: TenantUnit, invoice: Invoice, facts: InvoiceFacts) -> str | None:
    """Let a draft that Stripe has just finalized use the balance, once: its credit and its entries.

    Returns None, or how Stripe's use differs from ours, in a sentence; nothing is written then. The
    caller holds the organization's lock.
    """
    there = Money(sale_terms.balance(unit.session, unit.organization.id, invoice.currency), invoice.currency)
    found = settled(invoice, facts, there)
    if isinstance(found, str):
        return found
    used, carried = found.used, found.carried
    if used.minor:
        _add(unit, f"invoice:{invoice.id}", -used, _reason(used, found.payable), invoice)
    if carried.minor:
        _add(unit, f"carried:{invoice.id}", -carried, "too little to charge: on the next invoice", invoice)
    invoice.credit_minor, invoice.total_minor = found.credit.minor, found.total.minor
    unit.session.flush()
    return None


def rehearse(unit: TenantUnit, invoice: Invoice) -> None:
    """Let a rehearsed invoice use the balance as it stands now: what `use` would make of it."""
    payable = Money(invoice.total_minor + invoice.credit_minor, invoice.currency)
    there = Money(sale_terms.balance(unit.session, unit.organization.id, invoice.currency), invoice.currency)
    used = balance.used(there, payable)
    invoice.credit_minor, invoice.total_minor = used.minor, payable.minor - used.minor
    unit.session.flush()


def _reason(used: Money, payable: Money) -> str:
    if used.minor > 0:
        return "used by an invoice"
    return "an invoice below zero" if payable.minor < 0 else "carried over, now on an invoice"


def give_back(unit: TenantUnit, invoice: Invoice) -> None:
    """An invoice that was voided used no credit: what it used is there again, as at Stripe."""
    key = f"void:{invoice.id}"
    if invoice.credit_minor and sale_terms.credit_entry(unit.session, unit.organization.id, key) is None:
        _add(unit, key, Money(invoice.credit_minor, invoice.currency), "back from a voided invoice", invoice)
