"""Books that agree show no difference; whatever is falsified, on either side, shows as exactly that."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy.orm import Session

from billing.errors import NotFound
from gateway.errors import Misconfigured, Unreachable
from models.invoices import Dispute, Payment
from models.ops import ReconciliationRun
from models.organizations import Organization
from tasks.context import Context
from tasks.reconciliation import reconcile, run_nightly
from tests.integration.factories import (
    TestDatabase,
    acme_with_a_quarter,
    fresh_database,
    offline_context,
)
from tests.integration.stripe_double import Shape, StripeDouble, stripe_double

WALL = datetime(2026, 4, 3, tzinfo=UTC)


@pytest.fixture(scope="module")
def database() -> Iterator[TestDatabase]:
    with fresh_database("reconciliation") as made:
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


def test_books_that_agree_show_no_difference(
    context: Context, stripe: StripeDouble, database: TestDatabase
) -> None:
    run = reconcile(context)

    assert run.differences == []
    assert run.compared == {
        "customers": 1,
        "payment methods": 1,
        "subscriptions": 1,
        "invoices": 3,
        "invoice lines": 6,
        "payments": 3,
        "disputes": 0,
    }
    with Session(database.owner) as session:
        stored = session.query(ReconciliationRun).one()
    assert (stored.id, stored.finished_at, stored.compared) == (run.id, WALL, run.compared)


def _first(stripe: StripeDouble) -> Shape:
    return stripe.objects["invoices"][0]


def _subscription(stripe: StripeDouble) -> Shape:
    return stripe.objects["subscriptions"][0]


# What Stripe says otherwise, and what the report must say: kind, and the end of the sentence.
AT_STRIPE: dict[str, tuple[Callable[[StripeDouble], Any], str, str]] = {
    "a cent more": (
        lambda stripe: _first(stripe).update(total=5061),
        "amount",
        "invoice ACME-000001: total is 5060 here and 5061 at Stripe",
    ),
    "another subtotal": (
        lambda stripe: _first(stripe).update(subtotal=5059),
        "amount",
        "invoice ACME-000001: subtotal is 5060 here and 5059 at Stripe",
    ),
    "a discount": (
        lambda stripe: _first(stripe).update(total_discount_amounts=[{"amount": 100}]),
        "amount",
        "invoice ACME-000001: discount is 0 here and 100 at Stripe",
    ),
    "a tax": (
        lambda stripe: _first(stripe).update(total_taxes=[{"amount": 7, "tax_behavior": "exclusive"}]),
        "amount",
        "invoice ACME-000001: tax is 0 here and 7 at Stripe",
    ),
    "a refund that was made there": (
        lambda stripe: stripe.objects["charges"].append(
            {"id": "ch_1", "payment_intent": "pi_1", "amount_refunded": 60, "customer": "cus_acme"}
        ),
        "amount",
        "payment pi_1: refunded is 0 here and 60 at Stripe",
    ),
    "a credit note that was made there": (
        lambda stripe: _first(stripe).update(post_payment_credit_notes_amount=60),
        "amount",
        "invoice ACME-000001: credit notes is 0 here and 60 at Stripe",
    ),
    "less paid": (
        lambda stripe: _first(stripe).update(amount_paid=0),
        "amount",
        "invoice ACME-000001: paid is 5060 here and 0 at Stripe",
    ),
    "another currency": (
        lambda stripe: _first(stripe).update(currency="zar"),
        "other",
        "invoice ACME-000001: currency is USD here and ZAR at Stripe",
    ),
    "a void invoice": (
        lambda stripe: _first(stripe).update(status="void"),
        "status",
        "invoice ACME-000001: status is paid here and void at Stripe",
    ),
    "a dearer line": (
        lambda stripe: _first(stripe)["lines"]["data"][1].update(amount=161),
        "amount",
        "invoice ACME-000001: line 2 (Flow usage): amount is 160 here and 161 at Stripe",
    ),
    "one line less": (
        lambda stripe: _first(stripe)["lines"]["data"].pop(),
        "missing_at_stripe",
        "but not at Stripe",
    ),
    "one line more": (
        lambda stripe: _first(stripe)["lines"]["data"].append(
            {**_first(stripe)["lines"]["data"][1], "id": "il_2", "metadata": {}}
        ),
        "missing_here",
        "invoice ACME-000001: line il_2 is at Stripe, but not here",
    ),
    "a smaller payment": (
        lambda stripe: _first(stripe)["payments"]["data"][0].update(amount_paid=5000),
        "amount",
        "payment pi_ACME-000001: amount is 5060 here and 5000 at Stripe",
    ),
    "no payment": (
        lambda stripe: _first(stripe)["payments"]["data"].clear(),
        "missing_at_stripe",
        "invoice ACME-000001: payment pi_ACME-000001 is here, but not at Stripe",
    ),
    "a second payment": (
        lambda stripe: _first(stripe)["payments"]["data"].append(
            {
                **_first(stripe)["payments"]["data"][0],
                "id": "inpay_2",
                "payment": {"type": "payment_intent", "payment_intent": "pi_2"},
            }
        ),
        "missing_here",
        "invoice ACME-000001: payment pi_2 is at Stripe, but not here",
    ),
    "no such invoice": (
        lambda stripe: stripe.objects["invoices"].pop(0),
        "missing_at_stripe",
        "is here, but not at Stripe",
    ),
    "an invoice of its own": (
        lambda stripe: stripe.objects["invoices"].append({**_first(stripe), "id": "in_stranger"}),
        "missing_here",
        "invoice in_stranger is at Stripe, but not here",
    ),
    "a subscription past due": (
        lambda stripe: _subscription(stripe).update(status="unpaid"),
        "status",
        "status is active here and past_due at Stripe",
    ),
    "a cancellation": (
        lambda stripe: _subscription(stripe).update(cancel_at=1777000000),
        "status",
        "cancellation at the period's end is False here and True at Stripe",
    ),
    "another period": (
        lambda stripe: _subscription(stripe)["items"]["data"][0].update(current_period_end=1777593601),
        "other",
        "period is 2026-04-01T00:00:00Z to 2026-05-01T00:00:00Z here and "
        "2026-04-01T00:00:00Z to 2026-05-01T00:00:01Z at Stripe",
    ),
    "a trial": (
        lambda stripe: _subscription(stripe).update(trial_end=1777593600),
        "other",
        "end of the trial is None here and 2026-05-01T00:00:00Z at Stripe",
    ),
    "another price": (
        lambda stripe: _subscription(stripe)["items"]["data"][0].update(price={"id": "price_old"}),
        "other",
        "price is price_flow here and price_old at Stripe",
    ),
    "more seats": (
        lambda stripe: _subscription(stripe)["items"]["data"][0].update(quantity=2),
        "amount",
        "quantity is 1 here and 2 at Stripe",
    ),
    "a second subscription": (
        lambda stripe: stripe.objects["subscriptions"].append({**_subscription(stripe), "id": "sub_2"}),
        "missing_here",
        "subscription sub_2 is at Stripe, but not here",
    ),
    "another default card": (
        lambda stripe: stripe.objects["customers"][0]["invoice_settings"].update(
            default_payment_method="pm_2"
        ),
        "other",
        "customer cus_acme: default payment method is pm_acme here and pm_2 at Stripe",
    ),
    "credit": (
        lambda stripe: stripe.objects["customers"][0].update(balance=-500),
        "amount",
        "customer cus_acme: credit balance is 0 here and 500 at Stripe",
    ),
    "another card number": (
        lambda stripe: stripe.objects["payment_methods"][0]["card"].update(last4="0341"),
        "other",
        "payment method pm_acme: last four digits is 4242 here and 0341 at Stripe",
    ),
    "no card": (
        lambda stripe: stripe.objects["payment_methods"].clear(),
        "missing_at_stripe",
        "payment method pm_acme is here, but not at Stripe",
    ),
    "no customer": (
        lambda stripe: stripe.objects["customers"].clear(),
        "missing_at_stripe",
        "customer cus_acme is here, but not at Stripe",
    ),
    "a deleted customer": (
        lambda stripe: stripe.objects["customers"][0].update(deleted=True),
        "missing_at_stripe",
        "customer cus_acme is here, but not at Stripe",
    ),
    "a customer that we made and forgot": (
        lambda stripe: stripe.objects["customers"].append(
            {**stripe.objects["customers"][0], "id": "cus_lost"}
        ),
        "missing_here",
        "customer cus_lost is at Stripe, but not here",
    ),
}


@pytest.mark.parametrize("falsified", AT_STRIPE)
def test_what_stripe_says_otherwise_is_the_one_difference(
    context: Context, stripe: StripeDouble, falsified: str
) -> None:
    falsify, kind, sentence = AT_STRIPE[falsified]
    falsify(stripe)

    (difference,) = reconcile(context).differences

    assert difference["kind"] == kind
    assert difference["sentence"].endswith(sentence)
    assert (difference["organization_id"] is None) == (difference["object_id"] == "cus_lost")


def test_what_is_wrong_here_shows_too(context: Context, stripe: StripeDouble, database: TestDatabase) -> None:
    database.break_by("UPDATE tenant.invoices SET paid_minor = 5059 WHERE number = 'ACME-000001'")
    database.break_by("DELETE FROM tenant.payments WHERE stripe_payment_intent_id = 'pi_ACME-000002'")

    sentences = {each["sentence"] for each in reconcile(context).differences}

    assert sentences == {
        "invoice ACME-000001: paid is 5059 here and 5060 at Stripe",
        "invoice ACME-000002: payment pi_ACME-000002 is at Stripe, but not here",
    }


DISPUTE = {
    "id": "du_1",
    "object": "dispute",
    "charge": "ch_1",
    "payment_intent": "pi_ACME-000001",
    "amount": 5060,
    "currency": "usd",
    "reason": "fraudulent",
    "status": "needs_response",
}


def disputed(stripe: StripeDouble, **otherwise: Any) -> None:
    """Stripe has a dispute of the first payment."""
    charge = {"id": "ch_1", "payment_intent": "pi_ACME-000001", "amount_refunded": 0, "disputed": True}
    stripe.objects["charges"].append({**charge, "customer": "cus_acme"})
    stripe.objects["disputes"].append({**DISPUTE, **otherwise})


def dispute_here(database: TestDatabase) -> None:
    """We have the same dispute."""
    with Session(database.owner) as session, session.begin():
        payment = session.query(Payment).filter_by(stripe_payment_intent_id="pi_ACME-000001").one()
        session.add(
            Dispute(
                organization_id=payment.organization_id,
                payment_id=payment.id,
                stripe_dispute_id="du_1",
                currency="USD",
                amount_minor=5060,
                reason="fraudulent",
                status="needs_response",
                created_at=WALL,
            )
        )


def sentences(context: Context) -> list[str]:
    return [each["sentence"] for each in reconcile(context).differences]


def test_a_dispute_that_both_sides_have_is_no_difference(
    context: Context, stripe: StripeDouble, database: TestDatabase
) -> None:
    disputed(stripe)
    dispute_here(database)
    assert sentences(context) == []


@pytest.mark.parametrize(
    ("otherwise", "sentence"),
    [
        ({"status": "lost"}, "dispute du_1: status is needs_response here and lost at Stripe"),
        ({"amount": 5000}, "dispute du_1: amount is 5060 here and 5000 at Stripe"),
    ],
)
def test_a_dispute_on_which_both_sides_differ_shows(
    context: Context,
    stripe: StripeDouble,
    database: TestDatabase,
    otherwise: dict[str, Any],
    sentence: str,
) -> None:
    disputed(stripe, **otherwise)
    dispute_here(database)
    assert sentences(context) == [sentence]


def test_a_dispute_that_one_side_lacks_shows(
    context: Context, stripe: StripeDouble, database: TestDatabase
) -> None:
    disputed(stripe)
    assert sentences(context) == ["dispute du_1 is at Stripe, but not here"]
    stripe.objects["disputes"].clear()
    stripe.objects["charges"].clear()
    dispute_here(database)
    assert sentences(context) == ["dispute du_1 is here, but not at Stripe"]


def test_an_open_invoice_must_not_collect_itself(
    context: Context, stripe: StripeDouble, database: TestDatabase
) -> None:
    database.break_by(
        "UPDATE tenant.invoices SET status = 'open', paid_minor = 0, paid_at = NULL "
        "WHERE number = 'ACME-000001'"
    )
    database.break_by(
        "UPDATE tenant.payments SET status = 'failed' WHERE stripe_payment_intent_id = 'pi_ACME-000001'"
    )
    due = _first(stripe)["amount_paid"]
    _first(stripe).update(status="open", amount_paid=0, amount_remaining=due, auto_advance=True)
    _first(stripe)["payments"]["data"].clear()

    (difference,) = reconcile(context).differences

    assert (
        difference["sentence"]
        == "invoice ACME-000001: collection by Stripe itself is False here and True at Stripe"
    )


def test_what_settles_between_two_looks_is_no_difference(context: Context, stripe: StripeDouble) -> None:
    _first(stripe)["status"] = "open"
    answer = stripe.answer

    def settling(path: str, query: dict[str, str]) -> tuple[int, Shape]:
        status, shape = answer(path, query)
        if path == "/v1/invoices":
            shape = {**shape, "data": [dict(each) for each in shape["data"]]}
            _first(stripe)["status"] = "paid"
        return status, shape

    stripe.answer = settling  # type: ignore[method-assign]

    assert reconcile(context).differences == []


def test_someone_elses_customers_at_stripe_are_not_our_business(
    context: Context, stripe: StripeDouble
) -> None:
    stripe.objects["customers"].append({"id": "cus_other", "object": "customer", "metadata": {}})

    assert reconcile(context).differences == []


def test_one_organization_can_be_reconciled_alone(
    context: Context, stripe: StripeDouble, database: TestDatabase
) -> None:
    stripe.objects["customers"].append({**stripe.objects["customers"][0], "id": "cus_lost"})
    with Session(database.owner) as session:
        (acme,) = session.query(Organization.id).one()

    assert reconcile(context, [acme]).differences == [], "strangers are for the full run to find"
    with pytest.raises(NotFound):
        reconcile(context, [uuid4()])


def test_the_nightly_run_runs_once_a_day(database: TestDatabase, stripe: StripeDouble) -> None:
    for hours, runs in [(0, 1), (1, 1), (23, 1), (24, 2), (25, 2)]:
        later = WALL + timedelta(hours=hours)
        with offline_context(database, wall=later, stripe_api_base=stripe.url) as context:
            run_nightly(context)
        with Session(database.owner) as session:
            assert session.query(ReconciliationRun).count() == runs


def test_a_night_without_stripe_is_tried_again(database: TestDatabase, stripe: StripeDouble) -> None:
    stripe.answer = lambda path, query: (401, {"error": {"message": "no"}})  # type: ignore[method-assign]
    with offline_context(database, wall=WALL, stripe_api_base=stripe.url) as context:
        with pytest.raises((Misconfigured, Unreachable)):
            run_nightly(context)
        del stripe.answer
        run_nightly(context)

    with Session(database.owner) as session:
        ends = [run.finished_at for run in session.query(ReconciliationRun).order_by(ReconciliationRun.id)]
    assert ends == [None, WALL]
