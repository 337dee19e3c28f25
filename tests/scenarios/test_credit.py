"""The credit balance: given with a reason, spent oldest first, before the card."""

import json
from contextlib import suppress
from typing import Any
from uuid import UUID, uuid4

import pytest

from cli.demo.api import ApiRefusal
from gateway import requests
from models.invoices import Invoice
from tests.scenarios.test_webhooks import stripe_fails
from tests.scenarios.world import Customer, World


def gives(customer: Customer, amount_minor: int, reason: str = "an outage", key: str | None = None) -> None:
    path = f"/api/billing/organizations/{customer.slug}/credit/"
    content = {"amount_minor": amount_minor, "reason": reason}
    customer.world.admin.post(path, content, key or str(uuid4()))


def changes(customer: Customer, subscription: str, **terms: Any) -> None:
    path = f"/api/billing/subscriptions/{subscription}/"
    answer = customer.world.admin.send("PATCH", path, json.dumps(terms).encode(), str(uuid4()))
    assert answer.status == 200, answer.content


def at_stripe(customer: Customer, invoice_id: str) -> str:
    """Stripe's id of an invoice."""
    with customer.world.context.tenant(customer.id) as unit:
        return str(unit.session.get_one(Invoice, (customer.id, UUID(invoice_id))).stripe_invoice_id)


def say(customer: Customer, request: requests.Request) -> None:
    """Do something at Stripe behind Dunlin's back."""
    customer.world.context.gateway.send(request, f"person:{uuid4()}")


def ledger(customer: Customer) -> tuple[int, list[tuple[int, int]]]:
    """The balance, and (amount, what is left of it) of every entry."""
    found: Any = customer.world.admin.get(f"/api/billing/organizations/{customer.slug}/credit/")
    entries = [(each["amount_minor"], each["unspent_minor"]) for each in found["items"]]
    return found["balance_minor"], entries


def paid(customer: Customer) -> list[tuple[int, int]]:
    """(credit used, charged) of each invoice, oldest first."""
    return [(each["credit_minor"], each["total_minor"]) for each in customer.invoices]


def test_credit_is_spent_oldest_first_before_the_card_is_charged(world: World) -> None:
    ada = world.on("2026-04-01", "ada", tax_rate="za-vat")
    gives(ada, 30_00)
    ada.card()
    ada.subscribes("autoflow-starter")  # 35.00 and VAT = 40.25: 30.00 of credit, 10.25 by card
    ada.lives_until("2026-04-20")
    gives(ada, 50_00, "a late apology")
    ada.lives_until("2026-06-01T02:00")  # May: 40.25 of the second; June: its last 9.75, and 30.50

    assert paid(ada) == [(30_00, 10_25), (40_25, 0), (9_75, 30_50)]
    assert ada.charges == [("succeeded", 10_25), ("succeeded", 30_50)]
    assert [kind_status[1] for kind_status in ada.totals] == ["paid"] * 3
    assert ledger(ada) == (0, [(30_00, 0), (-30_00, 0), (50_00, 0), (-40_25, 0), (-9_75, 0)])
    world.holds(ada)


def test_the_same_grant_twice_is_given_once_and_only_what_is_left_can_be_taken_back(world: World) -> None:
    bea = world.on("2026-04-01", "bea")
    key = str(uuid4())
    gives(bea, 10_00, key=key)
    gives(bea, 10_00, key=key)
    gives(bea, 5_00)

    gives(bea, -12_00, "given by mistake")
    with pytest.raises(ApiRefusal, match="only"):
        gives(bea, -4_00)

    assert ledger(bea) == (3_00, [(10_00, 0), (5_00, 3_00), (-12_00, 0)])
    world.holds(bea)


def test_an_invoice_that_is_voided_gives_its_credit_back(world: World) -> None:
    finn = world.on("2026-04-01", "finn")
    finn.card()
    finn.subscribes("autoflow-starter")
    gives(finn, 5_00)
    finn.card("pm_card_chargeCustomerFail")
    finn.lives_until("2026-05-01T02:00")
    assert paid(finn)[-1] == (5_00, 30_00)

    say(finn, requests.void_invoice(at_stripe(finn, finn.invoices[-1]["id"])))
    finn.rests()

    assert finn.totals[-1] == ("cycle", "void", 30_00)
    assert ledger(finn) == (5_00, [(5_00, 0), (-5_00, 0), (5_00, 5_00)])
    world.holds(finn)


def test_what_is_too_little_to_charge_goes_on_the_next_invoice(world: World) -> None:
    ada = world.on("2026-04-01", "ada")
    ada.card()
    gives(ada, 34_70)
    ada.subscribes("autoflow-starter")  # 35.00 less 34.70: Stripe charges nothing below 0.50

    ada.lives_until("2026-05-01T02:00")

    assert paid(ada) == [(35_00, 0), (-30, 35_30)]
    assert ledger(ada)[0] == 0
    assert ada.charges == [("succeeded", 35_30)]
    world.holds(ada)


def test_credits_that_outweigh_the_charges_go_to_the_balance(world: World) -> None:
    ada = world.on("2026-04-01", "ada")
    ada.card()
    subscription = ada.subscribes("teamspace-enterprise", quantity=10)  # 10 x 79.00 = 790.00
    ada.lives_until("2026-04-16")
    changes(ada, subscription, quantity=1)  # half of 790.00 back, half of 79.00 charged: -355.50
    ada.lives_until("2026-05-01T02:00")  # May: 79.00 - 355.50 = -276.50, on the balance

    assert paid(ada)[-1] == (-276_50, 0)
    assert ledger(ada) == (276_50, [(276_50, 276_50)])
    ada.lives_until("2026-06-01T02:00")
    assert paid(ada)[-1] == (79_00, 0)
    assert ledger(ada)[0] == 197_50
    assert ada.charges == [("succeeded", 790_00)]
    world.holds(ada)


@pytest.mark.parametrize("fault", ["http_500_after", "timeout_after"])
def test_credit_whose_answer_was_lost_is_given_once(world: World, fault: str) -> None:
    zoe = world.on("2026-04-01", "zoe")
    zoe.card()
    stripe_fails(world, {"operation": "POST /v1/customers/{id}/balance_transactions", "fault": fault})
    with suppress(ApiRefusal):  # a worker goes on with it
        gives(zoe, 20_00)
    zoe.subscribes("autoflow-starter")

    assert paid(zoe) == [(20_00, 15_00)]
    assert ledger(zoe)[0] == 0
    world.holds(zoe)
