"""Finalizing here what Stripe has finalized: both totals held against each other, credit, number, seal."""

from billing.money import Money, format_money
from gateway.translate import InvoiceFacts, PaymentFacts
from models.invoices import Invoice
from tasks import balance, invoice_rows, mirroring, payments
from tasks.context import TenantUnit


def disagreement(invoice: Invoice, facts: InvoiceFacts) -> str | None:
    """How Stripe's total differs from ours, in a sentence; None when they agree to the minor unit."""
    # Stripe's total is the one before credit is used.
    ours = Money(invoice.total_minor + invoice.credit_minor, invoice.currency)
    stripes = Money(facts.total_minor, facts.currency)
    if ours == stripes:
        return None
    added = [
        f"{line.description or line.id} ({format_money(Money(line.amount_minor, facts.currency))})"
        for line in facts.lines
        if "line_id" not in line.metadata and not (line.proration or line.subscription_item_id)
    ]
    why = f"; a person added there: {'; '.join(added)}" if added else ""
    return f"our total is {format_money(ours)}, Stripe's is {format_money(stripes)}{why}"


def finish(unit: TenantUnit, invoice: Invoice, facts: InvoiceFacts, paid: list[PaymentFacts]) -> None:
    """Finalize here what Stripe has finalized: its credit, its number, its seal; then it is collected."""
    invoice.hosted_invoice_url = facts.hosted_invoice_url
    # Between the look at the draft and its finalization a person may have added something.
    if (sentence := disagreement(invoice, facts) or balance.use(unit, invoice, facts)) is not None:
        invoice_rows.park(unit, invoice, sentence)
        return
    invoice_rows.number(unit, invoice)
    if facts.status == "paid":
        payments.record_paid(unit, invoice, paid, facts.paid_at or unit.now)
    elif facts.status == "open":
        unit.enqueue(*first_attempt(invoice), subject_id=invoice.id)
    else:
        mirroring.record_end(unit, invoice, facts)  # a person was quicker, and took it back


def first_attempt(invoice: Invoice) -> tuple[str, str]:
    """The job, by kind and key, that collects an invoice as soon as it is final."""
    return "payments.collect", f"{invoice.id}:first"
