"""Stories of invoices: the cycle draft with our lines, declines, 3-D Secure, corrections, repeated words."""

from gateway import requests, translate
from gateway.errors import Declined, KeyReused, Refused
from tests.contract.account import DAY_S, Account, Clocked, a_line, a_price

HOUR_S = 3_600


def next_draft(ada: Clocked, facts: translate.SubscriptionFacts) -> translate.InvoiceFacts:
    """The draft of the cycle that begins when the running period ends."""
    assert facts.period_end_at is not None
    ada.advances(int(facts.period_end_at.timestamp()) + 60)
    [draft] = ada.invoices(status="draft")
    return draft


def test_the_cycle_draft_waits_for_our_lines_once_taken_over(account: Account) -> None:
    ada = Clocked(account)
    facts = ada.subscribes(a_price(account, 75_00))
    draft = next_draft(ada, facts)
    assert (draft.billing_reason, draft.auto_advance, draft.total_minor) == (
        "subscription_cycle",
        True,
        75_00,
    )
    assert (draft.period_start_at, draft.period_end_at) == (facts.period_start_at, facts.period_end_at)
    assert [line.period_start_at for line in draft.lines] == [facts.period_end_at]

    taken = translate.invoice(account.send(requests.take_over_invoice(draft.id)))
    assert (taken.auto_advance, taken.metadata["owner"]) == (False, "dunlin")
    ended_at = int(draft.period_end_at.timestamp())
    ada.advances(ended_at + 3 * HOUR_S)
    assert ada.invoice(draft.id).status == "draft"

    lines = [
        a_line("12,000 runs beyond 10,000", 180_00, ended_at, metadata={"line_id": "l-1"}),
        a_line("correction of July", -5_00, ended_at, metadata={"line_id": "l-2"}, product="autoflow"),
    ]
    with_lines = translate.invoice(account.send(requests.add_lines(draft.id, lines)))
    assert (with_lines.subtotal_minor, with_lines.total_minor) == (250_00, 250_00)
    added = {line.metadata.get("line_id"): line for line in ada.invoice(draft.id).lines}
    assert (added["l-1"].amount_minor, added["l-2"].amount_minor) == (180_00, -5_00)
    assert added["l-2"].metadata["product"] == "autoflow"
    assert int(added["l-1"].period_start_at.timestamp()) == ended_at - DAY_S

    final = translate.invoice(account.send(requests.finalize_invoice(draft.id)))
    assert (final.status, final.amount_due_minor, final.auto_advance) == ("open", 250_00, False)
    assert final.number is not None
    account.refusal(requests.add_lines(draft.id, lines[:1]), Refused)

    paid = translate.invoice(account.send(requests.pay_invoice(draft.id)))
    assert (paid.status, paid.amount_paid_minor, paid.amount_remaining_minor) == ("paid", 250_00, 0)
    types = account.event_types(draft.id)
    assert types.index("invoice.created") < types.index("invoice.finalized") < types.index("invoice.paid")
    assert "invoice.payment_failed" not in types


def test_a_discount_of_the_subscription_spares_the_lines_we_add(account: Account) -> None:
    ada = Clocked(account)
    coupon = account.send(requests.create_coupon("Tenth off", percent_off="10"))
    facts = ada.subscribes(a_price(account, 75_00), discounts=[coupon["id"]])
    draft = next_draft(ada, facts)
    account.send(requests.take_over_invoice(draft.id))
    lines = [
        a_line("spared", 100_00, account.now),
        a_line("cut", 50_00, account.now, discountable=True),
    ]
    account.send(requests.add_lines(draft.id, lines))
    # 75.00 + 100.00 + 50.00, less 10 % of 75.00 and of 50.00
    after = ada.invoice(draft.id)
    assert (after.subtotal_minor, after.discount_minor, after.total_minor) == (225_00, 12_50, 212_50)


def test_a_decline_is_told_and_a_new_card_recovers(account: Account) -> None:
    ada = Clocked(account)
    facts = ada.subscribes(a_price(account, 35_00))
    ada.takes_card("pm_card_chargeCustomerFail")
    draft = next_draft(ada, facts)
    account.send(requests.take_over_invoice(draft.id))
    account.send(requests.finalize_invoice(draft.id))

    declined = account.refusal(requests.pay_invoice(draft.id), Declined)
    assert (declined.code, declined.requires_action) == ("card_declined", False)
    assert declined.decline_code is not None
    failed = ada.invoice(draft.id)
    assert (failed.status, failed.amount_paid_minor, failed.auto_advance) == ("open", 0, False)
    assert ada.subscription(facts.id).status == "past_due"
    [attempt] = [translate.payment(row) for row in account.rows("invoice_payment", invoice=draft.id)]
    assert (attempt.status, attempt.amount_paid_minor) == ("open", 0)
    assert attempt.payment_intent_id == declined.payment_intent_id
    intent = translate.payment_intent(account.fetch("payment_intent", str(attempt.payment_intent_id)))
    assert intent.status == "requires_payment_method"
    assert intent.decline is not None
    assert intent.decline.decline_code == declined.decline_code
    assert "invoice.payment_failed" in account.event_types(draft.id)

    ada.takes_card("pm_card_visa")
    paid = translate.invoice(account.send(requests.pay_invoice(draft.id)))
    assert (paid.status, paid.amount_paid_minor) == ("paid", 35_00)
    assert ada.subscription(facts.id).status == "active"
    assert account.event_types(draft.id).count("invoice.paid") == 1


def test_three_d_secure_needs_the_customer(account: Account) -> None:
    ada = Clocked(account)
    ada.takes_card("pm_card_authenticationRequired")
    owed = ada.owes(90_00)
    assert owed.confirmation_secret
    assert owed.confirmation_secret not in repr(owed)

    declined = account.refusal(requests.pay_invoice(owed.id), Declined)
    assert declined.requires_action
    assert ada.invoice(owed.id).status == "open"
    assert ada.invoice(owed.id).hosted_invoice_url
    again = account.refusal(requests.pay_invoice(owed.id), Declined)
    assert again.requires_action
    assert ada.invoice(owed.id).amount_paid_minor == 0


def test_what_is_not_owed_is_voided_and_what_is_lost_is_marked(account: Account) -> None:
    ada = Clocked(account)
    mistaken, lost = ada.owes(20_00), ada.owes(30_00)

    voided = translate.invoice(account.send(requests.void_invoice(mistaken.id)))
    assert voided.status == "void"
    assert voided.voided_at is not None
    account.refusal(requests.pay_invoice(mistaken.id), Refused)
    account.refusal(requests.void_invoice(mistaken.id), Refused)

    marked = translate.invoice(account.send(requests.mark_uncollectible(lost.id)))
    assert (marked.status, marked.amount_remaining_minor) == ("uncollectible", 30_00)
    late = translate.invoice(account.send(requests.pay_invoice(lost.id)))
    assert (late.status, late.amount_paid_minor) == ("paid", 30_00)
    account.refusal(requests.void_invoice(lost.id), Refused)

    draft = account.send(requests.create_invoice(ada.id, "USD", {"invoice_id": "i-2"}))
    account.refusal(requests.void_invoice(draft["id"]), Refused)
    assert account.send(requests.delete_invoice(draft["id"]))["deleted"] is True
    account.refusal(requests.finalize_invoice(draft["id"]), Refused)
    assert account.event_types(mistaken.id)[-1] == "invoice.voided"
    assert "invoice.marked_uncollectible" in account.event_types(lost.id)


def test_a_credit_note_gives_back_and_a_refund_gives_the_rest(account: Account) -> None:
    ada = Clocked(account)
    paid = translate.invoice(account.send(requests.pay_invoice(ada.owes(100_00).id)))
    [payment] = [translate.payment(row) for row in account.rows("invoice_payment", invoice=paid.id)]
    assert payment.payment_intent_id is not None

    note = translate.credit_note(
        account.send(
            requests.create_credit_note(
                paid.id,
                lines=[{"invoice_line_item": paid.lines[0].id, "amount": 40_00}],
                refund_minor=40_00,
                reason="product_unsatisfactory",
            )
        )
    )
    assert (note.status, note.total_minor, note.invoice_id) == ("issued", 40_00, paid.id)
    credited = ada.invoice(paid.id)
    assert (credited.status, credited.credited_minor, credited.total_minor) == ("paid", 40_00, 100_00)

    refund = translate.refund(
        account.send(requests.create_refund(payment.payment_intent_id, 60_00, metadata={"refund_id": 1}))
    )
    assert (refund.status, refund.amount_minor, refund.currency) == ("succeeded", 60_00, "USD")
    account.refusal(requests.create_refund(payment.payment_intent_id, 1), Refused)
    refunds = account.rows("refund", payment_intent=payment.payment_intent_id)
    assert sorted(row["amount"] for row in refunds) == [40_00, 60_00]
    charge = account.fetch("charge", str(refund.charge_id))
    assert (charge["amount_refunded"], charge["refunded"]) == (100_00, True)
    assert "charge.refunded" in account.event_types(charge["id"])
    assert "credit_note.created" in account.event_types(note.id)


def test_the_same_words_under_the_same_key_are_said_once(account: Account) -> None:
    ada = Clocked(account)
    key = account.key("replay")
    request = requests.create_invoice(ada.id, "USD", {"invoice_id": "i-3"})
    first, second = account.send(request, key), account.send(request, key)
    assert first["id"] == second["id"]
    account.refusal(requests.create_invoice(ada.id, "USD", {"invoice_id": "i-4"}), KeyReused, key)
    assert len(ada.invoices(status="draft")) == 1

    # a refusal that was executed is replayed too, even after the card is good: a new attempt takes a new key
    ada.takes_card("pm_card_chargeCustomerFail")
    owed, attempt = ada.owes(15_00), account.key("pay")
    account.refusal(requests.pay_invoice(owed.id), Declined, attempt)
    ada.takes_card("pm_card_visa")
    account.refusal(requests.pay_invoice(owed.id), Declined, attempt)
    assert ada.invoice(owed.id).amount_paid_minor == 0
    assert account.send(requests.pay_invoice(owed.id))["status"] == "paid"


def test_an_invoice_of_many_lines_is_read_whole(account: Account) -> None:
    ada = Clocked(account)
    draft = account.send(requests.create_invoice(ada.id, "USD", {"invoice_id": "i-5"}))
    lines = [a_line(f"day {day}", 1_00 + day, account.now, metadata={"day": day}) for day in range(24)]
    account.send(requests.add_lines(draft["id"], lines))
    whole = ada.invoice(draft["id"])
    assert whole.lines_complete
    assert len(whole.lines) == 24
    assert whole.total_minor == sum(line.amount_minor for line in whole.lines) == 24 * 1_00 + sum(range(24))
    account.send(requests.delete_invoice(draft["id"]))


def test_a_note_by_amount_is_settled_several_ways_and_one_before_payment_lowers_what_is_due(
    account: Account,
) -> None:
    ada = Clocked(account)
    paid = translate.invoice(account.send(requests.pay_invoice(ada.owes(100_00).id)))
    owed = ada.owes(50_00)  # before there is credit that it would use
    request = requests.create_credit_note(
        paid.id,
        amount_minor=60_00,
        refund_minor=30_00,
        credit_minor=20_00,
        out_of_band_minor=10_00,
        memo="a complaint",
        metadata={"credit_note_id": "n-1"},
    )
    note = translate.credit_note(account.send(request))
    ways = (note.reduces_due_minor, note.refund_minor, note.credit_minor, note.out_of_band_minor)
    assert (note.total_minor, ways) == (60_00, (0, 30_00, 20_00, 10_00))
    assert (note.reason, note.metadata["credit_note_id"]) == ("a complaint", "n-1")
    # more than is left of the invoice, and parts that do not add up
    account.refusal(requests.create_credit_note(paid.id, amount_minor=40_01, credit_minor=40_01), Refused)
    account.refusal(requests.create_credit_note(paid.id, amount_minor=10_00, credit_minor=9_99), Refused)

    before = translate.credit_note(account.send(requests.create_credit_note(owed.id, amount_minor=15_00)))
    assert (before.reduces_due_minor, before.total_minor) == (15_00, 15_00)
    lowered = ada.invoice(owed.id)
    assert (lowered.status, lowered.amount_remaining_minor, lowered.total_minor) == ("open", 35_00, 50_00)
    account.send(requests.create_credit_note(owed.id, amount_minor=35_00))
    assert ada.invoice(owed.id).status == "paid"
