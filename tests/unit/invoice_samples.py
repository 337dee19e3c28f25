"""Invoices to print, made in memory: rows as the database would give them back."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID, uuid5

from billing.rating import ChargeTerms, rate
from models.catalog import Meter, Product, SubscriptionBundle
from models.credit_note_queries import NoteDetail
from models.credit_notes import CreditNote, CreditNoteLine
from models.document_queries import DocumentLine, InvoiceDocument, NoteDocument
from models.invoices import Invoice, InvoiceLine, Payment
from models.organizations import Organization

MARCH = datetime(2026, 3, 1, 10, 15, tzinfo=UTC)
APRIL = datetime(2026, 4, 1, 10, 15, tzinfo=UTC)
MAY = datetime(2026, 5, 1, 10, 15, tzinfo=UTC)
# Off a test clock an instant has microseconds.
FINALIZED = APRIL + timedelta(hours=1, microseconds=123_456)

_SPACE = UUID("6f7f0c1e-6f5e-4f0e-9d55-2a6d1f1b7c10")
AUTOFLOW = Product(id=uuid5(_SPACE, "autoflow"), code="autoflow", name="AutoFlow AI", color="#4F46E5")
BUILDEASY = Product(id=uuid5(_SPACE, "buildeasy"), code="buildeasy", name="BuildEasy", color="#10B981")
TEAMSPACE = Product(id=uuid5(_SPACE, "teamspace"), code="teamspace", name="TeamSpace", color="#F59E0B")
RUNS = Meter(id=uuid5(_SPACE, "runs"), code="workflow_runs", name="Workflow runs", unit="run")

ACME = Organization(
    id=uuid5(_SPACE, "acme"),
    slug="acme",
    name="Acme Incorporated",
    email="billing@acme.example",
    address={"line1": "500 Market Street", "city": "San Francisco", "postal_code": "94105", "country": "US"},
)
KAROO = Organization(
    id=uuid5(_SPACE, "karoo"),
    slug="karoo",
    name="Karoo Müllerei & Söhne (Pty) Ltd",
    email="rekeninge@karoo.example",
    address={
        "line1": "14 Kerkstraat",
        "city": "Graaff-Reinet",
        "postal_code": "6280",
        "state": "Eastern Cape",
        "country": "ZA",
    },
)


@dataclass(slots=True)
class Sheet:
    """An invoice in the making; figures are summed from its lines."""

    organization: Organization = field(default_factory=lambda: ACME)
    currency: str = "USD"
    bundle: SubscriptionBundle | None = None
    lines: list[DocumentLine] = field(default_factory=list)
    payments: list[Payment] = field(default_factory=list)
    credit_notes: list[CreditNote] = field(default_factory=list)

    def charge(
        self, product: Product, description: str, unit_price: int, quantity: int = 1, **amounts: int
    ) -> None:
        """A recurring line for the coming period."""
        line = self._line(product, description, unit_price * quantity, MAY, **amounts)
        line.kind, line.quantity, line.unit_price = "recurring", Decimal(quantity), Decimal(unit_price)
        self.lines.append(DocumentLine(line, product, None))

    def usage(self, quantity: str, terms: ChargeTerms, events: int, **amounts: int) -> None:
        """A line for the workflow runs of the closed period."""
        rating = rate(Fraction(quantity), terms)
        line = self._line(AUTOFLOW, "AutoFlow AI: Workflow runs", rating.amount.minor, APRIL, **amounts)
        line.kind, line.quantity, line.meter_id = "usage", Decimal(quantity), RUNS.id
        line.period_start_at = MARCH
        line.explanation = {"rating": rating.to_record(), "facts": events}
        self.lines.append(DocumentLine(line, AUTOFLOW, RUNS))

    def attempt(self, status: str, at: datetime, message: str | None = None) -> None:
        self.payments.append(
            Payment(
                attempt=len(self.payments) + 1,
                amount_minor=self.invoice("open").total_minor,
                currency=self.currency,
                status=status,
                decline_message=message,
                attempted_at=at,
            )
        )

    def invoice(self, status: str, **changes: Any) -> Invoice:
        own = [entry.line for entry in self.lines]
        subtotal = sum(line.amount_minor for line in own)
        discount = sum(line.discount_minor for line in own)
        tax = sum(line.tax_minor for line in own)
        total = subtotal - discount + tax
        figures: dict[str, Any] = {
            "id": uuid5(_SPACE, "invoice"),
            "organization_id": self.organization.id,
            "kind": "cycle",
            "status": status,
            "number": None if status == "draft" else f"{self.organization.slug.upper()}-000042",
            "currency": self.currency,
            "period_start_at": MARCH,
            "period_end_at": APRIL,
            "subtotal_minor": subtotal,
            "discount_minor": discount,
            "tax_minor": tax,
            "credit_minor": 0,
            "total_minor": total,
            "paid_minor": total if status == "paid" else 0,
            "reduced_minor": 0,
            "tax_name": "VAT" if tax else None,
            "tax_percentage": Decimal("15.0000") if tax else None,
            "tax_inclusive": False,
            "created_at": APRIL,
            "finalized_at": None if status == "draft" else FINALIZED,
            "paid_at": FINALIZED if status == "paid" else None,
            "hosted_invoice_url": "https://pay.example/i/1" if status == "open" else None,
        }
        return Invoice(**{**figures, **changes})

    def document(self, status: str, **changes: Any) -> InvoiceDocument:
        return InvoiceDocument(
            self.invoice(status, **changes),
            self.organization,
            self.bundle,
            self.lines,
            self.payments,
            self.credit_notes,
        )

    def credit(self, reason: str, **ways: int) -> CreditNote:
        """A note of the invoice, settled in these ways."""
        amount = sum(ways.values())
        note = CreditNote(
            id=uuid5(_SPACE, f"note {len(self.credit_notes)}"),
            number=f"{self.organization.slug.upper()}-CN-{len(self.credit_notes) + 1:06d}",
            state="issued",
            currency=self.currency,
            subtotal_minor=amount,
            discount_minor=0,
            tax_minor=0,
            amount_minor=amount,
            reason=reason,
            created_at=MAY,
            issued_at=MAY,
            **{"reduces_due_minor": 0, "refund_minor": 0, "credit_minor": 0, "out_of_band_minor": 0, **ways},
        )
        self.credit_notes.append(note)
        return note

    def note_document(self) -> NoteDocument:
        """The last note's document: it credits every line whole."""
        note, lines = self.credit_notes[-1], []
        for entry in self.lines:
            line = entry.line
            total = line.amount_minor - line.discount_minor + line.tax_minor
            part = CreditNoteLine(
                invoice_line_id=line.id,
                quantity=line.quantity if line.kind == "recurring" else Decimal(0),
                currency=self.currency,
                amount_minor=line.amount_minor,
                discount_minor=line.discount_minor,
                tax_minor=line.tax_minor,
                total_minor=total,
            )
            lines.append((part, line, entry.product))
        note.subtotal_minor = sum(part.amount_minor for part, _, _ in lines)
        note.discount_minor = sum(part.discount_minor for part, _, _ in lines)
        note.tax_minor = sum(part.tax_minor for part, _, _ in lines)
        invoice = self.invoice("paid")
        return NoteDocument(NoteDetail(note, invoice.number, lines), invoice, self.organization)

    def _line(
        self,
        product: Product,
        description: str,
        amount: int,
        end: datetime,
        *,
        discount: int = 0,
        tax: int = 0,
    ) -> InvoiceLine:
        return InvoiceLine(
            product_id=product.id,
            description=description,
            currency=self.currency,
            amount_minor=amount,
            discount_minor=discount,
            tax_minor=tax,
            period_start_at=APRIL,
            period_end_at=end,
            explanation={},
        )


def one_plan() -> Sheet:
    """AutoFlow Professional in USD with 42,415 runs: 10,000 are included."""
    sheet = Sheet()
    sheet.charge(AUTOFLOW, "AutoFlow AI Professional", 7500)
    tiers = [{"up_to": "100000", "unit_price": "1.5"}, {"unit_price": "1"}]
    record = {"model": "graduated", "currency": "USD", "included": "10000", "tiers": tiers}
    sheet.usage("42415", ChargeTerms.from_record(record), events=41_900)
    return sheet


def zar_bundle() -> Sheet:
    """The Starter bundle in ZAR, five seats, VAT of 15 %, and usage above the allowance."""
    bundle = SubscriptionBundle(code="starter", name="Starter Bundle")
    sheet = Sheet(organization=KAROO, currency="ZAR", bundle=bundle)
    sheet.charge(AUTOFLOW, "AutoFlow AI Starter", 64_900, discount=6_385, tax=8_777)
    record = {"model": "per_unit", "currency": "ZAR", "included": "1000", "unit_price": "35"}
    sheet.usage("1843", ChargeTerms.from_record(record), events=1_843, tax=4_426)
    sheet.charge(TEAMSPACE, "TeamSpace Starter", 45_900, quantity=5, discount=4_515, tax=33_748)
    return sheet


def many_lines(count: int) -> Sheet:
    """A long invoice over all three products, with descriptions that must wrap."""
    sheet = Sheet()
    products = (AUTOFLOW, BUILDEASY, TEAMSPACE)
    for number in range(count):
        product = products[number * 3 // count]
        words = " for a department with a rather long name that must wrap" if number % 7 == 0 else ""
        sheet.charge(
            product, f"{product.name} Professional, department {number + 1}{words}", 4000 + number, 3
        )
    return sheet
