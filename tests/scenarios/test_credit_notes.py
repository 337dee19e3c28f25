"""Credit notes: in full, by line, by amount; refunded, as credit, out of band; before and after payment."""

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest

from cli.demo.api import ApiRefusal, patiently
from cli.invoices import detail_lines, listed
from gateway import requests
from gateway.errors import Unreachable
from tasks import credit_notes
from tasks.credit_notes import NoteTerms
from tests.scenarios.golden import note_text
from tests.scenarios.test_credit import at_stripe, changes, gives, ledger, say
from tests.scenarios.test_webhooks import stripe_fails
from tests.scenarios.world import Customer, World

Golden = Callable[[str, str], None]


def issues(
    customer: Customer, invoice: dict[str, Any], key: str | None = None, **terms: Any
) -> dict[str, Any]:
    """Credit an invoice; returns the note."""
    path = f"/api/billing/invoices/{invoice['id']}/credit_notes/"
    content = {"reason": "a complaint", **terms}
    note: dict[str, Any] = customer.world.admin.post(path, content, key or str(uuid4()))
    return note


def notes(customer: Customer, invoice: dict[str, Any]) -> list[tuple[str, int]]:
    """(state, amount) of an invoice's notes, oldest first."""
    found = customer.world.admin.get(f"/api/billing/invoices/{invoice['id']}/credit_notes/")["items"]
    return [(each["state"], each["amount_minor"]) for each in found]


def refunds(customer: Customer) -> list[tuple[str, int]]:
    """(status, amount) of every refund, oldest first."""
    return customer.rows("SELECT status, amount_minor FROM tenant.refunds ORDER BY created_at, id")


def test_a_bundle_in_rand_is_credited_bit_by_bit_to_the_cent(world: World, golden: Golden) -> None:
    kay = world.on("2026-04-01", "kay", currency="ZAR", tax_rate="za-vat")
    kay.card()
    kay.subscribes(bundle="starter")
    [first] = kay.invoices  # 649.00 + 459.00 - 109.00 = 999.00, and 15 % VAT of 149.85: 1 148.85
    assert first["total_minor"] == 1_148_85
    autoflow, _ = (line["id"] for line in first["lines"])

    # A third of AutoFlow's line: 649.00 - 63.85 + 87.77 VAT = 672.92. Of 224.31 the discount's share is
    # 63.85 * 224.31/672.92 = 21.28 and the VAT's 87.77 * 224.31/672.92 = 29.26: 216.33 - 21.28 + 29.26.
    third = issues(kay, first, lines=[{"line": autoflow, "amount_minor": 224_31}], settlement="credit")
    golden(note_text(third, kay.slug), "credit_note_by_line.txt")
    # 200.00 of the whole: over 448.61 and 475.93 that are left of the lines, 97.05 and 102.95.
    some = issues(kay, first, amount_minor=200_00, settlement="out_of_band")
    golden(note_text(some, kay.slug), "credit_note_by_amount.txt")
    with pytest.raises(ApiRefusal, match=r"only R.724,54 is left to credit of this invoice"):
        issues(kay, first, amount_minor=724_55, settlement="credit")
    rest = issues(kay, first, settlement="refund")  # 1 148.85 - 224.31 - 200.00
    golden(note_text(rest, kay.slug), "credit_note_of_the_rest.txt")

    made = [third, some, rest]
    for figure in ("subtotal", "discount", "tax"):
        assert sum(note[f"{figure}_minor"] for note in made) == first[f"{figure}_minor"]
    assert sum(note["amount_minor"] for note in made) == first["total_minor"]
    assert [note["number"][-9:] for note in made] == ["CN-000001", "CN-000002", "CN-000003"]
    assert refunds(kay) == [("succeeded", 724_54)]
    assert ledger(kay) == (224_31, [(224_31, 224_31)])
    with pytest.raises(ApiRefusal, match="nothing is left to credit"):
        issues(kay, first, settlement="credit")
    kay.rests()
    assert [row["status"] for row in kay.invoices] == ["paid"]
    world.holds(kay)


def test_seats_are_credited_by_quantity(world: World) -> None:
    bea = world.on("2026-04-01", "bea", tax_rate="za-vat")
    bea.card()
    bea.subscribes("teamspace-starter", quantity=3)  # 3 x 25.00 = 75.00, and 11.25 VAT: 86.25
    [first] = bea.invoices
    [seats] = (line["id"] for line in first["lines"])

    one: dict[str, Any] = {"lines": [{"line": seats, "quantity": "1"}], "settlement": "refund"}
    made = [issues(bea, first, None, **one) for _ in range(3)]  # 28.75 each, of which 3.75 is tax

    assert [(note["amount_minor"], note["tax_minor"]) for note in made] == [(28_75, 3_75)] * 3
    with pytest.raises(ApiRefusal, match="nothing is left"):
        issues(bea, first, None, **one)
    assert refunds(bea) == [("succeeded", 28_75)] * 3
    assert bea.charges == [("refunded", 86_25)]
    shown = "\n".join(detail_lines(world.context, bea.id, UUID(first["id"])))
    assert seats in shown and "CN-000003  issued  $28.75  a complaint" in shown
    assert list(listed(world.context, bea.slug, "paid")) == [f"{first['number']}  paid  $86.25"]
    world.holds(bea)


def test_what_credit_paid_goes_back_to_the_credit(world: World) -> None:
    ada = world.on("2026-04-01", "ada")
    gives(ada, 10_00)
    ada.card()
    ada.subscribes("autoflow-starter")  # 35.00: 10.00 of credit, 25.00 by card
    [first] = ada.invoices

    note = issues(ada, first, settlement="refund")

    assert (note["amount_minor"], note["refund_minor"], note["credit_minor"]) == (35_00, 25_00, 10_00)
    assert refunds(ada) == [("succeeded", 25_00)]
    assert ledger(ada)[0] == 10_00
    world.holds(ada)


def test_the_same_intention_twice_is_one_note(world: World) -> None:
    ada = world.on("2026-04-01", "ada")
    ada.card()
    ada.subscribes("autoflow-starter")
    [first] = ada.invoices
    key = str(uuid4())

    once = issues(ada, first, key, amount_minor=5_00, settlement="refund")
    again = issues(ada, first, key, amount_minor=5_00, settlement="refund")

    assert once == again
    assert notes(ada, first) == [("issued", 5_00)]
    with pytest.raises(ApiRefusal, match="key"):
        issues(ada, first, key, amount_minor=6_00, settlement="refund")
    world.holds(ada)


def test_a_note_before_payment_lowers_what_is_due_and_what_is_charged(world: World) -> None:
    finn = world.on("2026-04-01", "finn")
    finn.card()
    finn.subscribes("autoflow-starter")
    finn.card("pm_card_chargeCustomerFail")
    finn.lives_until("2026-05-01T02:00")
    failed = finn.invoices[-1]
    with pytest.raises(ApiRefusal, match="nothing has been paid"):
        issues(finn, failed, amount_minor=5_00, settlement="refund")

    with pytest.raises(ApiRefusal, match=r"\$0\.30 would stay due"):
        issues(finn, failed, amount_minor=34_70)

    issues(finn, failed, amount_minor=12_00)
    assert (finn.invoices[-1]["due_minor"], finn.invoices[-1]["status"]) == (23_00, "open")
    with pytest.raises(ApiRefusal, match=r"only \$23\.00 is left"):
        issues(finn, failed, amount_minor=23_01)
    finn.card()
    finn.rests()

    paid = finn.invoices[-1]
    assert (paid["status"], paid["total_minor"], paid["reduced_minor"], paid["paid_minor"]) == (
        "paid",
        35_00,
        12_00,
        23_00,
    )
    assert finn.charges == [("succeeded", 35_00), ("failed", 35_00), ("succeeded", 23_00)]
    issues(finn, paid, settlement="refund")  # the 23.00 that came in
    assert refunds(finn) == [("succeeded", 23_00)]
    world.holds(finn)


def test_a_note_of_all_that_is_due_ends_the_pursuit(world: World) -> None:
    finn = world.on("2026-04-01", "finn")
    finn.card()
    finn.subscribes("autoflow-starter")
    finn.card("pm_card_chargeCustomerFail")
    finn.lives_until("2026-05-10")
    assert finn.access() == "suspended"

    issues(finn, finn.invoices[-1])
    finn.lives_until("2026-05-20")

    settled = finn.invoices[-1]
    assert (settled["status"], settled["paid_minor"], settled["due_minor"]) == ("paid", 0, 0)
    assert finn.access() == "full"
    assert finn.dunning[-1] == "2026-05-10 00:00 stopped"
    assert [status for status, _ in finn.charges] == ["succeeded", *["failed"] * 4]
    world.holds(finn)


def test_credits_inside_an_invoice_are_credited_with_it(world: World) -> None:
    ada = world.on("2026-04-01", "ada", tax_rate="za-vat")
    ada.card()
    subscription = ada.subscribes("teamspace-starter", quantity=4)
    ada.lives_until("2026-04-16")
    changes(ada, subscription, quantity=2)  # half of 100.00 back, half of 50.00 charged
    ada.lives_until("2026-05-01T02:00")  # 50.00 of May, -50.00 and +25.00 of April: 25.00, and 3.75 VAT
    second = ada.invoices[-1]
    assert (second["subtotal_minor"], second["total_minor"]) == (25_00, 28_75)

    [back] = [line["id"] for line in second["lines"] if line["amount_minor"] < 0]
    with pytest.raises(ApiRefusal, match="this line gave money back"):
        issues(ada, second, lines=[{"line": back}], settlement="credit")
    half = issues(ada, second, amount_minor=14_37, settlement="credit")
    rest = issues(ada, second, settlement="credit")

    assert half["tax_minor"] + rest["tax_minor"] == 3_75
    assert half["subtotal_minor"] + rest["subtotal_minor"] == 25_00
    assert ledger(ada)[0] == 28_75
    world.holds(ada)


def test_a_note_that_a_person_split_several_ways_at_stripe_is_booked(world: World) -> None:
    ada = world.on("2026-04-01", "ada")
    ada.card()
    ada.subscribes("autoflow-starter")
    [first] = ada.invoices

    request = requests.create_credit_note(
        at_stripe(ada, first["id"]),
        amount_minor=20_00,
        refund_minor=10_00,
        credit_minor=7_00,
        out_of_band_minor=3_00,
    )
    say(ada, request)
    ada.rests()

    [found] = ada.invoices[0]["credit_notes"]
    ways = ("reduces_due", "refund", "credit", "out_of_band")
    assert [found[f"{way}_minor"] for way in ways] == [0, 10_00, 7_00, 3_00]
    assert found["number"].endswith("-CN-000001") and found["stripe_number"].endswith("-CN-01")
    assert (refunds(ada), ledger(ada)[0]) == ([("succeeded", 10_00)], 7_00)
    issues(ada, first, settlement="refund")  # 15.00 more, of the 25.00 that the card has not got back
    world.holds(ada)


def test_a_lost_answer_is_no_lost_note_and_no_second_one(world: World) -> None:
    ada = world.on("2026-04-01", "ada")
    ada.card()
    ada.subscribes("autoflow-starter")
    [first] = ada.invoices
    key = str(uuid4())
    # Stripe issues the note and refunds, and its answer is lost, also at the client's two repetitions: the
    # door answers 503, and the same request comes again.
    stripe_fails(world, {"operation": "POST /v1/credit_notes", "fault": "timeout_after", "times": 3})

    once = issues(ada, first, key, amount_minor=5_00, settlement="refund")
    again = issues(ada, first, key, amount_minor=5_00, settlement="refund")
    ada.rests()

    assert once == again
    assert (again["state"], again["amount_minor"]) == ("issued", 5_00)
    assert notes(ada, first) == [("issued", 5_00)]
    assert refunds(ada) == [("succeeded", 5_00)]
    world.holds(ada)


def test_a_worker_goes_on_where_the_web_process_could_not(world: World) -> None:
    bea = world.on("2026-04-01", "bea")
    bea.card()
    bea.subscribes("autoflow-starter")
    [first] = bea.invoices
    stripe_fails(world, {"operation": "POST /v1/credit_notes", "fault": "http_500_before", "times": 3})

    terms = NoteTerms(reason="a complaint", settlement="credit", amount_minor=5_00)
    with pytest.raises(Unreachable):
        credit_notes.issue(world.context, bea.id, UUID(first["id"]), terms, str(uuid4()), actor="a process")
    seen = patiently(lambda: notes(bea, first), lambda found: found == [("issued", 5_00)], 60.0)

    assert seen == [("issued", 5_00)]

    assert ledger(bea)[0] == 5_00
    world.holds(bea)
