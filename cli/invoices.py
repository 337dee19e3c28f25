"""Invoices and credit notes as the commands find, read and show them."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import cast
from uuid import UUID

from billing.credit_notes import Wanted
from billing.errors import InvalidTerms, NotFound
from billing.money import Money, format_money
from models import credit_note_queries, reading
from models.credit_note_queries import NoteDetail
from models.invoices import Invoice
from models.parking import ParkedInvoice
from models.reading import Page, named_invoice
from tasks.closing import PaymentResult
from tasks.context import Context
from tasks.credit_notes import NoteTerms, Way
from tasks.organizations import resolve

_PAGE = 200


def find(context: Context, reference: str) -> tuple[UUID, UUID]:
    """The organization and the id of the invoice that is named by number or id. Raises NotFound."""
    with context.auditor.system() as session:
        found = named_invoice(session, reference)
    if found is None:
        raise NotFound("no such invoice")
    return found


def listed(context: Context, organization: str, status: str | None) -> Iterator[str]:
    """Every invoice of an organization, newest first. Raises NotFound."""
    organization_id = resolve(context, organization)
    page: Page | None = Page(limit=_PAGE)
    while page is not None:
        with context.tenant(organization_id) as unit:
            rows, following = reading.invoices(unit.session, organization_id, page, status=status)
        yield from map(invoice_line, rows)
        page = Page(limit=_PAGE, before=following) if following else None


def detail_lines(context: Context, organization_id: UUID, invoice_id: UUID) -> Iterator[str]:
    """An invoice with all that is on it; a line's id is what `credit --line` takes. Raises NotFound."""
    with context.tenant(organization_id) as unit:
        found = reading.invoice(unit.session, organization_id, invoice_id)
        if found is None:
            raise NotFound("no such invoice")
        notes = credit_note_queries.of_invoice(unit.session, found.invoice)
    invoice = found.invoice
    yield invoice_line(invoice)
    for line, product, _ in found.lines:
        yield f"  {line.id}  {_money(line.amount_minor, line.currency):>14}  {product}: {line.description}"
    sums = (
        ("subtotal", invoice.subtotal_minor),
        ("discount", -invoice.discount_minor),
        (f"{invoice.tax_name or 'tax'} on top", invoice.tax_minor),
        ("credit used", -invoice.credit_minor),
        ("total", invoice.total_minor),
        ("credit notes before payment", -invoice.reduced_minor),
        ("paid", -invoice.paid_minor),
    )
    for name, minor in sums:
        if minor or name == "total":
            yield f"  {name:<36}  {_money(minor, invoice.currency):>14}"
    for payment in found.payments:
        why = f"  {payment.decline_code}" if payment.decline_code else ""
        outcome = f"{payment.status}  {_money(payment.amount_minor, payment.currency)}{why}"
        yield f"  payment {payment.attempt} on {payment.attempted_at:%Y-%m-%d %H:%M}  {outcome}"
    for note in notes:
        amount = _money(note.amount_minor, note.currency)
        yield f"  {note.number or 'credit note'}  {note.state}  {amount}  {note.reason}"


def _money(minor: int, currency: str) -> str:
    return format_money(Money(minor, currency))


def invoice_line(invoice: Invoice) -> str:
    """How an invoice stands, on one line."""
    due = format_money(Money(invoice.due_minor, invoice.currency))
    total = format_money(Money(invoice.total_minor, invoice.currency))
    owed = f", {due} of it unpaid" if invoice.status in ("open", "uncollectible") else ""
    return f"{invoice.number or invoice.id}  {invoice.status}  {total}{owed}"


def parked_lines(parked: ParkedInvoice) -> Iterator[str]:
    """A parked invoice: whose, of which period, our total as far as it is known, and why it waits."""
    row = parked.invoice
    total = format_money(Money(row.total_minor + row.credit_minor, row.currency)) if row.rated_at else "-"
    period = f"{row.period_start_at:%Y-%m-%d} to {row.period_end_at:%Y-%m-%d}"
    yield f"{row.id}  {parked.organization}  {row.kind}  {period}  {total}  {row.stripe_invoice_id or '-'}"
    yield f"    since {row.parked_at:%Y-%m-%d %H:%M}: {row.parked_reason}"


def result_line(result: PaymentResult) -> str:
    """What a payment on demand came to, on one line."""
    if result.result == "paid":
        return "paid"
    act = f"; the customer can act on {result.hosted_invoice_url}" if result.hosted_invoice_url else ""
    return f"{result.result.replace('_', ' ')}: {result.message} ({result.decline_code}){act}"


def note_terms(reason: str, amount: int | None, lines: Sequence[str], settle: str | None) -> NoteTerms:
    """The terms of `dunlin invoices credit`. Raises InvalidTerms."""
    wanted = dict(map(_line, lines))
    if len(wanted) < len(lines):
        raise InvalidTerms("names a line twice", field="line")
    return NoteTerms(reason=reason, settlement=cast(Way | None, settle), amount_minor=amount, lines=wanted)


def _line(text: str) -> tuple[UUID, Wanted]:
    name, sign, part = text.partition("=")
    if not sign:
        name, sign, part = text.partition("x")
    try:
        if not sign:
            return UUID(name), Wanted()
        if "=" in text:
            return UUID(name), Wanted(amount_minor=int(part))
        return UUID(name), Wanted(quantity=Fraction(part))
    except (ValueError, ZeroDivisionError):
        raise InvalidTerms(f"{text!r} is not ID, ID=MINOR_UNITS or IDxQUANTITY", field="line") from None


def note_lines(found: NoteDetail) -> Iterator[str]:
    """A note with its lines and where its amount went."""
    note = found.note
    yield f"{note.number}  {format_money(Money(note.amount_minor, note.currency))}  of {found.invoice_number}"
    for line, source, _ in found.lines:
        yield f"  {format_money(Money(line.total_minor, note.currency)):>14}  {source.description}"
    ways = (
        ("taken off what was due", note.reduces_due_minor),
        ("refunded", note.refund_minor),
        ("added to the credit", note.credit_minor),
        ("settled out of band", note.out_of_band_minor),
    )
    for way, minor in ways:
        if minor:
            yield f"  {format_money(Money(minor, note.currency)):>14}  {way}"
