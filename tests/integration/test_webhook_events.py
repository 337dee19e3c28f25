"""The inbox: events of one object cost one fetch; versions that we have not learnt are parked."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy.orm import Session

from cli.triggering.fixtures import event
from gateway.errors import Refused
from gateway.requests import Request
from gateway.webhooks import sign
from models import mailbox
from models.invoices import Invoice
from models.ops import Job, WebhookEvent
from models.organizations import Organization
from models.work import ClaimedJob
from tasks import invoicing, webhooks
from tasks.context import Context
from tests.integration.factories import (
    TestDatabase,
    acme_with_a_quarter,
    fresh_database,
    offline_context,
    organization,
)
from tests.integration.stripe_double import StripeDouble, stripe_double

WALL = datetime(2026, 4, 3, tzinfo=UTC)
CURRENT, OLD, UNKNOWN = "2026-10-28.endive", "2024-06-20", "2027-03-01.frisee"


@pytest.fixture(scope="module")
def database() -> Iterator[TestDatabase]:
    with fresh_database("webhook_events") as made:
        yield made


@pytest.fixture
def stripe(database: TestDatabase) -> Iterator[StripeDouble]:
    database.empty()
    with stripe_double() as double, Session(database.owner) as session, session.begin():
        acme_with_a_quarter(session)
        session.flush()
        double.mirrors(session)
        session.commit()
        yield double


@pytest.fixture
def context(database: TestDatabase, stripe: StripeDouble) -> Iterator[Context]:
    with offline_context(database, wall=WALL, stripe_api_base=stripe.url) as made:
        yield made


def hear(context: Context, event_type: str, about: dict[str, Any], version: str = CURRENT) -> str:
    payload = event(event_type, version, about, WALL)
    raw = json.dumps(payload).encode()
    webhooks.accept_event(context, raw, sign(raw, "whsec_1", WALL))
    return str(payload["id"])


def row(database: TestDatabase, event_id: str) -> WebhookEvent:
    with Session(database.owner) as session:
        return session.query(WebhookEvent).filter_by(event_id=event_id).one()


def test_five_events_of_one_subscription_and_two_of_another_object_cost_two_fetches(
    context: Context, stripe: StripeDouble, database: TestDatabase
) -> None:
    (subscription,) = stripe.objects["subscriptions"]
    (customer,) = stripe.objects["customers"]
    heard = [hear(context, "customer.subscription.updated", subscription, CURRENT) for _ in range(4)]
    heard += [hear(context, "customer.subscription.created", subscription, OLD)]
    heard += [hear(context, "customer.updated", customer) for _ in range(2)]
    stripe.asked.clear()

    webhooks.drain(context)

    assert [row(database, each).state for each in heard] == ["done"] * 7
    assert stripe.asked.count(f"/v1/subscriptions/{subscription['id']}") == 1
    assert stripe.asked.count(f"/v1/customers/{customer['id']}") == 1


def test_an_unknown_version_is_parked_with_its_reason_and_can_be_driven_again(
    context: Context, stripe: StripeDouble, database: TestDatabase
) -> None:
    (subscription,) = stripe.objects["subscriptions"]
    parked = hear(context, "customer.subscription.updated", subscription, UNKNOWN)
    stripe.asked.clear()

    webhooks.drain(context)

    found = row(database, parked)
    assert (found.state, found.api_version) == ("dead", UNKNOWN)
    assert UNKNOWN in str(found.last_error)
    assert stripe.asked == []
    learnt = {**found.payload, "api_version": CURRENT}
    database.break_by(
        "UPDATE ops.webhook_inbox SET payload = CAST(:payload AS jsonb)", payload=json.dumps(learnt)
    )
    with context.system() as unit:
        assert mailbox.redrive(unit.session, WebhookEvent, found.id)
    webhooks.drain(context)
    assert row(database, parked).state == "done"
    assert stripe.asked == [f"/v1/subscriptions/{subscription['id']}"]


def test_a_draft_that_stripe_could_not_finalize_is_parked_with_the_reason(
    context: Context, stripe: StripeDouble, database: TestDatabase
) -> None:
    about = stripe.objects["invoices"][-1]
    make_draft(database, about["id"])
    about.update(status="draft", last_finalization_error={"message": "no tax location"})

    hear(context, "invoice.finalization_failed", about)
    webhooks.drain(context)

    assert parked_reason(database, about["id"]) == "Stripe could not finalize it: no tax location"


def test_a_draft_that_a_person_deleted_is_parked(
    context: Context, stripe: StripeDouble, database: TestDatabase
) -> None:
    about = stripe.objects["invoices"].pop()
    make_draft(database, about["id"])

    hear(context, "invoice.deleted", about)
    webhooks.drain(context)

    assert parked_reason(database, about["id"]) == "its draft was deleted at Stripe"


def test_a_customer_that_a_person_deleted_parks_the_organization(
    context: Context, stripe: StripeDouble, database: TestDatabase
) -> None:
    (customer,) = stripe.objects["customers"]
    customer["deleted"] = True

    hear(context, "customer.deleted", customer)
    webhooks.drain(context)

    with Session(database.owner) as session:
        owner = session.query(Organization).filter_by(stripe_customer_id=customer["id"]).one()
    assert "deleted at Stripe" in str(owner.parked_reason)


def make_draft(database: TestDatabase, stripe_invoice_id: str) -> None:
    changed = database.break_by(
        "UPDATE tenant.invoices SET status = 'draft', finalized_at = NULL, paid_minor = 0 "
        "WHERE stripe_invoice_id = :id",
        id=stripe_invoice_id,
    )
    assert changed == 1


def parked_reason(database: TestDatabase, stripe_invoice_id: str) -> str | None:
    with Session(database.owner) as session:
        return session.query(Invoice).filter_by(stripe_invoice_id=stripe_invoice_id).one().parked_reason


def test_an_event_without_a_body_is_parked_and_the_next_one_goes_on(
    context: Context, stripe: StripeDouble, database: TestDatabase
) -> None:
    (customer,) = stripe.objects["customers"]
    payload = {**event("customer.updated", CURRENT, customer, WALL), "data": {}}
    raw = json.dumps(payload).encode()
    webhooks.accept_event(context, raw, sign(raw, "whsec_1", WALL))
    next_one = hear(context, "customer.updated", customer)

    webhooks.drain(context)

    found = row(database, str(payload["id"]))
    assert (found.state, found.last_error) == ("dead", "the event carries no object")
    assert row(database, next_one).state == "done"


def test_an_undelivered_event_that_cannot_be_read_keeps_no_other_from_being_imported(
    context: Context, stripe: StripeDouble, database: TestDatabase
) -> None:
    (customer,) = stripe.objects["customers"]
    sound = event("customer.updated", CURRENT, customer, WALL)
    broken = {**event("customer.updated", CURRENT, customer, WALL), "data": {}}
    stripe.objects["events"] = [sound, broken]

    webhooks.import_missed(context)
    webhooks.drain(context)

    assert row(database, str(sound["id"])).state == "done"
    assert row(database, str(broken["id"])).state == "dead"


def test_an_event_that_cannot_be_applied_gives_up_after_five_tries(
    context: Context, stripe: StripeDouble, database: TestDatabase
) -> None:
    (subscription,) = stripe.objects["subscriptions"]
    about = dict(subscription)
    del subscription["status"]  # what every version carries
    heard = hear(context, "customer.subscription.updated", about)

    for _ in range(5):
        webhooks.drain(context)
        database.break_by("UPDATE ops.webhook_inbox SET not_before_at = now() - interval '1 second'")
    webhooks.drain(context)

    found = row(database, heard)
    assert (found.state, found.last_error) == ("dead", "MalformedPayload: subscription lacks status")


def test_a_dispute_whose_payment_cannot_be_told_does_not_hold_up_the_others(
    context: Context, stripe: StripeDouble, database: TestDatabase
) -> None:
    (customer,) = stripe.objects["customers"]
    stripe.objects["payment_intents"] = []
    dispute = {"id": "du_1", "object": "dispute", "payment_intent": "pi_none", "charge": "ch_1"}
    lost, next_one = (
        hear(context, "charge.dispute.created", dispute),
        hear(context, "customer.updated", customer),
    )

    webhooks.drain(context)

    assert row(database, next_one).state == "done"
    waiting = row(database, lost)
    assert (waiting.state, waiting.attempts) == ("queued", 1)


@pytest.mark.parametrize(
    "fault",
    [
        ("add_lines", "draft", "Stripe refused its lines: No such invoice"),
        ("finalize_invoice", "draft", "Stripe refused it: No such invoice"),
        ("finalize_invoice", "paid", None),  # a person was quicker
    ],
)
def test_a_draft_that_a_person_took_away_while_it_was_billed_is_parked_or_taken_as_it_is(
    context: Context,
    stripe: StripeDouble,
    database: TestDatabase,
    monkeypatch: pytest.MonkeyPatch,
    fault: tuple[str, str, str | None],
) -> None:
    refused, status, reason = fault  # the operation, what Stripe then has, why ours is parked
    about = stripe.objects["invoices"][-1]
    make_draft(database, about["id"])
    unpushed = "UPDATE tenant.invoices SET pushed_at = NULL, rated_at = now() WHERE stripe_invoice_id = :id"
    database.break_by(unpushed, id=about["id"])
    about.update(status="draft")
    with Session(database.owner) as session:
        invoice = session.query(Invoice).filter_by(stripe_invoice_id=about["id"]).one()

    def say(_context: Context, request: Request, *_: object) -> dict[str, Any]:
        about.update(status=status if request.operation == refused else "draft")
        if request.operation == refused:
            raise Refused("No such invoice", code="resource_missing", param=None, request_id=None)
        return dict(about)

    monkeypatch.setattr(invoicing, "call", say)
    invoicing.bill(context, claimed(invoice))

    assert parked_reason(database, about["id"]) == reason
    with Session(database.owner) as session:
        now = session.get_one(Invoice, (invoice.organization_id, invoice.id))
    assert now.status == ("draft" if reason else "paid")


@pytest.mark.parametrize(
    "case",
    [
        ("draft", "draft", "invoice.updated"),
        ("draft", "open", "invoice.finalized"),  # our own job is about to write it
        ("paid", "draft", "invoice.updated"),  # late
        ("open", "open", "invoice.finalized"),
        ("paid", "open", "invoice.finalized"),
        ("paid", "paid", "invoice.paid"),
    ],
)
def test_what_our_row_says_already_costs_no_look_at_stripe(
    context: Context, stripe: StripeDouble, database: TestDatabase, case: tuple[str, str, str]
) -> None:
    ours, told, event_type = case
    about = stripe.objects["invoices"][-1]
    have(database, about["id"], ours)

    heard = hear(context, event_type, {**about, "status": told})
    stripe.asked.clear()
    webhooks.drain(context)

    assert row(database, heard).state == "done"
    assert stripe.asked == []


@pytest.mark.parametrize(
    "case",
    [
        ("open", "paid", "invoice.paid", {}),
        ("open", "void", "invoice.voided", {}),
        ("open", "uncollectible", "invoice.marked_uncollectible", {}),
        ("open", "open", "invoice.payment_failed", {}),
        ("paid", "paid", "invoice.updated", {"post_payment_credit_notes_amount": 100}),
    ],
)
def test_news_is_looked_at_as_it_is_now(
    context: Context,
    stripe: StripeDouble,
    database: TestDatabase,
    case: tuple[str, str, str, dict[str, int]],
) -> None:
    ours, told, event_type, change = case
    about = stripe.objects["invoices"][-1]
    have(database, about["id"], ours)

    hear(context, event_type, {**about, "status": told, **change})
    stripe.asked.clear()
    webhooks.drain(context)

    assert f"/v1/invoices/{about['id']}" in stripe.asked


def test_the_events_of_a_held_organization_keep_no_other(
    context: Context, stripe: StripeDouble, database: TestDatabase
) -> None:
    """Who bills many together holds them while Stripe is asked: nobody else waits for that."""
    with Session(database.owner) as session, session.begin():
        held_id = session.query(Organization).one().id
        session.add(organization(session, "globex"))
    (subscription,) = stripe.objects["subscriptions"]
    stripe.objects["customers"].append({**stripe.objects["customers"][0], "id": "cus_globex"})
    waits = hear(context, "customer.subscription.updated", subscription)
    other = hear(context, "customer.updated", stripe.objects["customers"][-1])
    began_s = time.monotonic()
    with context.database.organization_lock(held_id):
        webhooks.drain(context)

    assert time.monotonic() - began_s < 5
    found = row(database, waits)
    assert (found.state, found.attempts, row(database, other).state) == ("queued", 0, "done")


def test_a_charge_of_which_nothing_went_back_costs_no_look(context: Context, stripe: StripeDouble) -> None:
    (customer,) = stripe.objects["customers"]
    charge = {
        "id": "ch_1",
        "object": "charge",
        "customer": customer["id"],
        "payment_intent": "pi_1",
        "amount_refunded": 0,
    }
    hear(context, "charge.succeeded", charge)
    stripe.asked.clear()
    webhooks.drain(context)
    assert stripe.asked == []

    hear(context, "charge.refunded", {**charge, "amount_refunded": 100})
    webhooks.drain(context)
    assert stripe.asked != []


def test_a_cycle_s_draft_is_adopted_by_what_stripe_tells(
    context: Context, stripe: StripeDouble, database: TestDatabase
) -> None:
    (subscription,) = stripe.objects["subscriptions"]
    ends_at = int(datetime(2026, 5, 1, tzinfo=UTC).timestamp())
    draft = {
        **stripe.objects["invoices"][-1],
        "id": "in_of_april",
        "status": "draft",
        "billing_reason": "subscription_cycle",
        "parent": {"subscription_details": {"subscription": subscription["id"], "metadata": {}}},
        "period_end": ends_at,
        "total": 4900,
        "amount_paid": 0,
    }
    heard = [hear(context, "invoice.created", draft) for _ in range(2)]
    stripe.asked.clear()

    webhooks.drain(context)

    assert stripe.asked == []
    assert [row(database, each).state for each in heard] == ["done", "done"]
    with Session(database.owner) as session:
        adopted = session.query(Invoice).filter_by(stripe_invoice_id="in_of_april").one()
        assert (adopted.kind, adopted.status, adopted.period_end_at.timestamp()) == (
            "cycle",
            "draft",
            ends_at,
        )
        assert session.query(Job).filter_by(kind="invoicing.take_over", subject_id=adopted.id).count() == 1


def test_a_draft_that_was_deleted_before_it_is_taken_over_is_parked(
    context: Context, stripe: StripeDouble, database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = stripe.objects["invoices"][-1]
    make_draft(database, about["id"])
    with Session(database.owner) as session:
        invoice = session.query(Invoice).filter_by(stripe_invoice_id=about["id"]).one()

    def refuse(*_: object) -> None:
        raise Refused("No such invoice", code="resource_missing", param=None, request_id=None)

    monkeypatch.setattr(invoicing, "call", refuse)
    invoicing.take_over(context, claimed(invoice))

    assert parked_reason(database, about["id"]) == "its draft was deleted at Stripe"


def have(database: TestDatabase, stripe_invoice_id: str, status: str) -> None:
    """Our row of an invoice as it was when it had this status; it is made as a paid one."""
    if status == "draft":
        make_draft(database, stripe_invoice_id)
    elif status == "open":
        unpaid = (
            "UPDATE tenant.invoices SET status = 'open', paid_minor = 0, paid_at = NULL, closed_at = NULL"
        )
        database.break_by(f"{unpaid} WHERE stripe_invoice_id = :id", id=stripe_invoice_id)


def claimed(invoice: Invoice) -> ClaimedJob:
    return ClaimedJob(
        id=invoice.id,
        kind="invoicing.bill",
        unique_key=f"invoicing.bill:{invoice.id}",
        organization_id=invoice.organization_id,
        subject_id=invoice.id,
        clock_id=None,
        due_at=WALL,
        attempts=1,
        deferrals=0,
    )
