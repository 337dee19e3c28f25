"""Payment and setup intents, refunds, credit notes, disputes, test clocks: hardly moved since 2024."""

from gateway.translate.facts import (
    ChargeFacts,
    CreditNoteFacts,
    DeclineFacts,
    DisputeFacts,
    PaymentIntentFacts,
    RefundFacts,
    SetupIntentFacts,
    TestClockFacts,
)
from gateway.translate.shapes import Shape, inner, needed, needed_instant, reference, rows, text, whole, words


def payment_intent(shape: Shape) -> PaymentIntentFacts:
    """A payment intent. Raises MalformedPayload."""
    error = inner(shape, "last_payment_error")
    return PaymentIntentFacts(
        id=needed(shape, "id"),
        status=needed(shape, "status"),
        amount_minor=whole(shape, "amount"),
        currency=_currency(shape),
        customer_id=reference(shape.get("customer")),
        payment_method_id=reference(shape.get("payment_method")) or reference(error.get("payment_method")),
        latest_charge_id=reference(shape.get("latest_charge")),
        decline=DeclineFacts(text(error, "code"), text(error, "decline_code"), text(error, "advice_code"))
        if error
        else None,
    )


def setup_intent(shape: Shape) -> SetupIntentFacts:
    """A setup intent. Raises MalformedPayload."""
    return SetupIntentFacts(
        id=needed(shape, "id"),
        status=needed(shape, "status"),
        customer_id=reference(shape.get("customer")),
        payment_method_id=reference(shape.get("payment_method")),
        metadata=words(shape),
        client_secret=text(shape, "client_secret"),
    )


def charge(shape: Shape) -> ChargeFacts:
    """A charge. Raises MalformedPayload."""
    return ChargeFacts(
        id=needed(shape, "id"),
        payment_intent_id=reference(shape.get("payment_intent")),
        refunded_minor=whole(shape, "amount_refunded"),
        disputed=bool(shape.get("disputed")),
    )


def refund(shape: Shape) -> RefundFacts:
    """A refund. Raises MalformedPayload."""
    return RefundFacts(
        id=needed(shape, "id"),
        payment_intent_id=reference(shape.get("payment_intent")),
        charge_id=reference(shape.get("charge")),
        amount_minor=whole(shape, "amount"),
        currency=_currency(shape),
        status=text(shape, "status"),
        failure_reason=text(shape, "failure_reason"),
        metadata=words(shape),
    )


def credit_note(shape: Shape) -> CreditNoteFacts:
    """A credit note. Raises MalformedPayload."""
    return CreditNoteFacts(
        id=needed(shape, "id"),
        invoice_id=reference(needed(shape, "invoice")) or "",
        customer_id=reference(needed(shape, "customer")) or "",
        number=text(shape, "number"),
        status=needed(shape, "status"),
        type=needed(shape, "type"),
        total_minor=whole(shape, "total"),
        currency=_currency(shape),
        **_ways(shape),
        reason=text(shape, "memo") or text(shape, "reason"),
        metadata=words(shape),
    )


def dispute(shape: Shape) -> DisputeFacts:
    """A dispute. Raises MalformedPayload."""
    return DisputeFacts(
        id=needed(shape, "id"),
        charge_id=reference(needed(shape, "charge")) or "",
        payment_intent_id=reference(shape.get("payment_intent")),
        amount_minor=whole(shape, "amount"),
        currency=_currency(shape),
        reason=needed(shape, "reason"),
        status=needed(shape, "status"),
    )


def test_clock(shape: Shape) -> TestClockFacts:
    """A test clock. Raises MalformedPayload."""
    return TestClockFacts(
        id=needed(shape, "id"),
        status=needed(shape, "status"),
        frozen_at=needed_instant(shape, "frozen_time"),
    )


# Named for Stripe's object; pytest would collect it wherever a test imports it.
test_clock.__test__ = False  # type: ignore[attr-defined]


def _ways(shape: Shape) -> dict[str, int]:
    """How the total was settled. Until clover a note had one refund, without its amount, and no amount
    before payment but its type; the note never says how much became credit: what nothing else took.
    """
    total = whole(shape, "total")
    before = whole(shape, "pre_payment_amount") or (total if shape.get("type") == "pre_payment" else 0)
    refunded = sum(whole(each, "amount_refunded") for each in rows(shape, "refunds"))
    outside, rest = whole(shape, "out_of_band_amount"), total - before
    if reference(shape.get("refund")) and not refunded:
        refunded = rest - outside
    left = rest - refunded - outside
    is_credit = reference(shape.get("customer_balance_transaction")) is not None
    return {
        "reduces_due_minor": before,
        "refund_minor": refunded,
        "credit_minor": left if is_credit else 0,
        "out_of_band_minor": outside if is_credit else outside + left,
    }


def _currency(shape: Shape) -> str:
    return str(needed(shape, "currency")).upper()
