"""What staff do to an invoice that is not paid: void it, write it off, have it paid now."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from cli.demo.api import ApiRefusal
from gateway.errors import Refused
from tasks import closing
from tests.scenarios.test_credit import gives, ledger
from tests.scenarios.test_credit_notes import issues
from tests.scenarios.world import Customer, World


def does(customer: Customer, deed: str, invoice: dict[str, Any], **terms: Any) -> dict[str, Any]:
    """Void, write off or pay an invoice; returns the answer."""
    path = f"/api/billing/invoices/{invoice['id']}/{deed}/"
    answer: dict[str, Any] = customer.world.admin.post(path, terms, str(uuid4()))
    return answer


def with_a_failed_invoice(world: World, name: str, card: str = "pm_card_chargeCustomerFail") -> Customer:
    """A customer whose May could not be collected at 01:00 on the 1st."""
    customer = world.on("2026-04-01", name)
    customer.card()
    customer.subscribes("autoflow-starter")
    customer.card(card)
    customer.lives_until("2026-05-01T02:00")
    return customer


def card_ids(customer: Customer) -> list[str]:
    """The ids of the customer's cards, oldest first."""
    rows = customer.rows("SELECT id::text FROM tenant.payment_methods ORDER BY attached_at, id")
    return [row[0] for row in rows]


def audited(customer: Customer, invoice: dict[str, Any]) -> list[str]:
    with customer.world.context.database.system() as session:
        rows = session.connection().exec_driver_sql(
            "SELECT action FROM ops.audit_log WHERE object_id = %s ORDER BY at", (invoice["id"],)
        )
        return [row[0] for row in rows]


def test_a_voided_invoice_is_not_owed_and_its_usage_is_not_billed_again(world: World) -> None:
    finn = world.on("2026-04-01", "finn")
    finn.card()
    finn.subscribes("autoflow-starter")
    gives(finn, 5_00)
    finn.uses("2026-04-01T00:00", 1_500)  # 500 above the allowance at 2 cents = 10.00
    finn.card("pm_card_chargeCustomerFail")
    finn.lives_until("2026-05-02")  # 35.00 + 10.00 - 5.00 of credit
    assert finn.access() == "grace"

    answer = does(finn, "void", finn.invoices[-1])
    again = does(finn, "void", finn.invoices[-1])

    assert (answer["status"], answer["total_minor"], answer["due_minor"]) == ("void", 40_00, 0)
    assert again == answer
    assert ledger(finn)[0] == 5_00
    assert finn.access() == "full"
    finn.card()
    finn.lives_until("2026-06-01T02:00")
    assert finn.totals[1:] == [("cycle", "void", 40_00), ("cycle", "paid", 30_00)]  # June: 35.00 - 5.00
    assert finn.charges == [("succeeded", 35_00), ("failed", 40_00), ("succeeded", 30_00)]
    assert [step[17:] for step in finn.dunning][-1] == "stopped"
    assert audited(finn, finn.invoices[1]) == ["invoice.void"]
    states = finn.rows("SELECT DISTINCT state FROM tenant.usage_records")
    assert states == [("rated",)]
    world.holds(finn)


def test_what_is_paid_draft_or_credited_cannot_be_voided(world: World) -> None:
    bea = with_a_failed_invoice(world, "bea")
    first, failed = bea.invoices
    with pytest.raises(ApiRefusal, match="paid is final"):
        does(bea, "void", first)
    with pytest.raises(ApiRefusal, match="paid is final"):
        does(bea, "write_off", first)
    with pytest.raises(ApiRefusal, match="the invoice is paid"):
        does(bea, "pay", first)

    issues(bea, failed, amount_minor=10_00)

    with pytest.raises(ApiRefusal, match="credit the rest"):
        does(bea, "void", failed)
    bea.lives_until("2026-06-01T00:30")  # June's draft waits for its window
    with pytest.raises(ApiRefusal, match="only an issued invoice"):
        does(bea, "void", bea.invoices[-1])
    assert [status for _, status, _ in bea.totals] == ["paid", "open", "draft"]
    bea.lives_until("2026-06-01T02:00")
    world.holds(bea)


def test_a_written_off_invoice_is_still_owed_and_access_stays_suspended(world: World) -> None:
    finn = with_a_failed_invoice(world, "finn")
    finn.lives_until("2026-05-10")
    assert finn.access() == "suspended"

    answer = does(finn, "write_off", finn.invoices[-1])
    finn.lives_until("2026-05-12")

    assert (answer["status"], answer["due_minor"]) == ("uncollectible", 35_00)
    # At Stripe the subscription is active by that: nothing was paid, so nobody gets in.
    [subscription] = world.admin.get(f"/api/billing/subscriptions/?organization={finn.slug}")["items"]
    assert (subscription["status"], finn.access()) == ("active", "suspended")
    assert finn.dunning[-1] == "2026-05-10 00:00 stopped"
    world.holds(finn)

    assert does(finn, "pay", finn.invoices[-1])["result"] == "declined"  # and nothing is pursued again
    assert finn.dunning[-1] == "2026-05-10 00:00 stopped"
    finn.card()
    finn.rests()
    assert finn.totals[-1] == ("cycle", "uncollectible", 35_00)  # a new card is not charged for it unasked
    assert does(finn, "pay", finn.invoices[-1])["result"] == "paid"
    assert (finn.totals[-1], finn.access()) == (("cycle", "paid", 35_00), "full")
    world.holds(finn)


def test_pay_now_leaves_the_planned_retry_and_says_what_happened(world: World) -> None:
    finn = with_a_failed_invoice(world, "finn")

    declined = does(finn, "pay", finn.invoices[-1])

    assert (declined["result"], declined["status"], declined["due_minor"]) == ("declined", "open", 35_00)
    assert declined["decline_code"] == "generic_decline"
    assert declined["hosted_invoice_url"].startswith("http")
    finn.lives_until("2026-05-02T02:00")  # the retry of the 2nd comes as planned, and the plan goes on
    assert [step[:10] for step in finn.dunning if step.endswith("payment_failed")] == [
        "2026-05-01",
        "2026-05-01",
        "2026-05-02",
    ]
    assert len([step for step in finn.dunning if step.endswith("retry_planned")]) == 2
    [good, _] = card_ids(finn)
    paid = does(finn, "pay", finn.invoices[-1], payment_method=good)
    assert (paid["result"], paid["status"], paid["due_minor"]) == ("paid", "paid", 0)
    finn.lives_until("2026-05-20")
    assert finn.charges == [("succeeded", 35_00), *[("failed", 35_00)] * 3, ("succeeded", 35_00)]
    assert finn.dunning[-1].endswith("recovered")
    world.holds(finn)


def test_a_card_that_wants_its_holder_is_told_apart(world: World) -> None:
    kay = with_a_failed_invoice(world, "kay", "pm_card_authenticationRequired")

    answer = does(kay, "pay", kay.invoices[-1])

    assert (answer["result"], answer["decline_code"]) == ("needs_action", "authentication_required")
    assert answer["hosted_invoice_url"].startswith("http")
    world.holds(kay)


def test_money_that_came_another_way_pays_without_a_card(world: World) -> None:
    lou = with_a_failed_invoice(world, "lou")
    with pytest.raises(ApiRefusal, match="out of band"):
        does(lou, "pay", lou.invoices[-1], out_of_band=True, payment_method=card_ids(lou)[0])
    with pytest.raises(ApiRefusal, match="no such payment method"):
        does(lou, "pay", lou.invoices[-1], payment_method=str(uuid4()))

    answer = does(lou, "pay", lou.invoices[-1], out_of_band=True)
    lou.lives_until("2026-05-20")

    assert (answer["result"], answer["status"]) == ("paid", "paid")
    assert lou.charges == [("succeeded", 35_00), ("failed", 35_00), ("succeeded", 35_00)]
    assert lou.dunning[-1].endswith("recovered")
    assert lou.access() == "full"
    with pytest.raises(ApiRefusal, match="can be refunded"):
        issues(lou, lou.invoices[-1], settlement="refund")
    issues(lou, lou.invoices[-1], settlement="out_of_band")
    world.holds(lou)


def test_a_new_card_that_fails_after_the_last_retry_is_no_defect(world: World) -> None:
    finn = with_a_failed_invoice(world, "finn")
    finn.lives_until("2026-05-07")  # all three retries have failed

    finn.card("pm_card_chargeCustomerFail")
    finn.rests()
    assert does(finn, "pay", finn.invoices[-1])["result"] == "declined"

    assert [step[17:] for step in finn.dunning].count("retries_exhausted") == 1
    dead = finn.rows("SELECT kind FROM ops.jobs WHERE state = 'dead'")
    assert dead == []
    world.holds(finn)


def test_a_card_that_stripe_does_not_know_leaves_no_attempt_open(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    finn = with_a_failed_invoice(world, "finn")
    failed = finn.invoices[-1]
    with monkeypatch.context() as patched:
        patched.setattr(closing, "_card", lambda *_: "pm_gone")
        with pytest.raises(Refused):
            closing.pay(world.context, finn.id, UUID(failed["id"]), closing.PaymentTerms(), "a person")

    finn.card()
    finn.rests()

    assert finn.charges == [("succeeded", 35_00), *[("failed", 35_00)] * 2, ("succeeded", 35_00)]
    assert [step[17:] for step in finn.dunning].count("payment_failed") == 1
    world.holds(finn)


def test_an_invoice_of_nothing_thanks_for_no_money(world: World) -> None:
    kay = world.on("2026-04-01", "kay")
    kay.card()
    kay.subscribes("autoflow-starter", trial_days=14)

    kinds = {kind for (kind,) in kay.rows("SELECT kind FROM tenant.notifications WHERE channel = 'mail'")}
    assert "invoice.finalized" in kinds and "invoice.paid" not in kinds
