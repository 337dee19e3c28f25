"""Stripe's words: each event played at Stripe, then told twice, late, or not at all."""

import json
import re
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from billing.errors import InvalidTerms
from cli.demo.api import patiently
from cli.triggering.fixtures import NotTaken, post_fixture
from cli.triggering.scenes import SCENES, Stage, stage_of
from gateway import requests
from gateway.errors import GatewayError
from gateway.webhooks import sign
from models.ops import WebhookEvent
from tasks import invariants, organizations, webhooks
from tests.scenarios.world import Customer, World

# Those that no billing can do without; the rest are told in the slow run.
SEVEN = (
    "customer.subscription.created",
    "customer.subscription.updated",
    "customer.subscription.deleted",
    "invoice.payment_succeeded",
    "invoice.payment_failed",
    "payment_method.attached",
    "payment_method.detached",
)
UNPLAYED = (
    "charge.dispute.updated",
    "credit_note.updated",
    "invoice.finalization_failed",
    "payment_method.automatically_updated",
    "refund.failed",
    "refund.updated",
)


def heard(world: World, customer_id: str, event_type: str) -> Sequence[WebhookEvent]:
    with world.context.auditor.system() as session:
        return session.query(WebhookEvent).filter_by(customer_id=customer_id, type=event_type).all()


def settles(world: World, customer_id: str) -> dict[str, int]:
    """Wait until every event of the customer is done. Returns how many there are of each state."""

    def states() -> dict[str, int]:
        with world.context.auditor.system() as session:
            rows = session.execute(
                text(
                    "SELECT state, count(*) FROM ops.webhook_inbox WHERE customer_id = :customer "
                    "OR payload #>> '{data,object,customer}' = :customer GROUP BY state"
                ),
                {"customer": customer_id},
            )
            return {str(state): int(count) for state, count in rows}

    return patiently(states, lambda found: set(found) <= {"done", "dead"}, 60.0)


def told(world: World, stage: Stage, event_type: str) -> None:
    """Wait until Stripe's word has come in and everything that came with it is done."""
    arrived = patiently(lambda: _anywhere(world, event_type, stage), bool, 60.0)
    assert arrived, f"{event_type} never came"
    assert set(settles(world, stage.customer_id)) == {"done"}


def _anywhere(world: World, event_type: str, stage: Stage) -> bool:
    """Refunds and disputes do not name their customer in the envelope: their payment is the customer's."""
    charges = world.context.gateway.list("charge", {"customer": stage.customer_id})
    intents = {charge["payment_intent"] for charge in charges}
    with world.context.auditor.system() as session:
        rows = session.query(WebhookEvent).filter_by(type=event_type).all()
    return any(
        row.customer_id == stage.customer_id
        or (row.payload["data"]["object"].get("payment_intent") in intents and row.state == "done")
        for row in rows
    )


def rows_of(world: World, organization_id: UUID, statement: str) -> list[Any]:
    with world.context.tenant(organization_id) as unit:
        return [tuple(row) for row in unit.session.execute(text(statement))]


@pytest.mark.parametrize(
    "event_type",
    [each if each in SEVEN else pytest.param(each, marks=pytest.mark.slow) for each in SCENES],
)
def test_an_event_that_is_lost_is_imported_and_told_again_backwards_changes_nothing(
    world: World, event_type: str
) -> None:
    stage = stage_of(world.context, None)
    stripe_fails(world, {"event": event_type, "fault": "webhook_drop"})

    SCENES[event_type](stage)

    patiently(lambda: undelivered(world, event_type), bool, 30.0)
    webhooks.import_missed(world.context)
    told(world, stage, event_type)
    before = everything(world, stage.organization_id)
    tell_again_backwards(world, stage)
    assert everything(world, stage.organization_id) == before
    assert invariants.check(world.context) == []


def stripe_fails(world: World, fault: dict[str, Any]) -> None:
    """The next time, and once."""
    address = world.stack.urls["sandbox"] + "/_sandbox/faults"
    body = json.dumps({"once": [fault]}).encode()
    content = {"Content-Type": "application/json"}
    urllib.request.urlopen(urllib.request.Request(address, data=body, headers=content)).close()


def undelivered(world: World, event_type: str) -> bool:
    filters = {"delivery_success": False, "type": event_type}
    return any(True for _ in world.context.gateway.list("event", filters))


def tell_again_backwards(world: World, stage: Stage) -> None:
    """Every event of this customer once more, under new ids, the last one first."""
    with world.context.auditor.system() as session:
        heard = session.query(WebhookEvent).filter_by(customer_id=stage.customer_id)
        payloads = [row.payload for row in heard.order_by(WebhookEvent.id.desc())]
    for payload in payloads:
        raw = json.dumps({**payload, "id": f"{payload['id']}_again{uuid4().hex[:6]}"}).encode()
        secret = world.context.settings.stripe_webhook_secrets[0]
        webhooks.accept_event(world.context, raw, sign(raw, secret, world.context.wall()))
    assert set(settles(world, stage.customer_id)) == {"done"}


def everything(world: World, organization_id: UUID) -> dict[str, str]:
    """All that we have of an organization, once nothing more is due."""
    waiting = text(
        "SELECT count(*) FROM ops.jobs WHERE organization_id = :id "
        "AND state IN ('queued', 'running') AND due_at <= now()"
    )

    def busy() -> int:
        with world.context.auditor.system() as session:
            return int(session.execute(waiting, {"id": organization_id}).scalar_one())

    patiently(busy, lambda found: found == 0, 60.0)
    with world.context.auditor.system() as session:
        names = session.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'tenant'"))
        return {
            name: str(
                session.execute(
                    text(
                        f"SELECT string_agg(t::text, ' ' ORDER BY t::text) FROM tenant.{name} t "
                        "WHERE organization_id = :id"
                    ),
                    {"id": organization_id},
                ).scalar_one()
            )
            for name in names.scalars().all()
        }


@pytest.mark.parametrize("event_type", UNPLAYED)
@pytest.mark.parametrize("version", ["2024-06-20", "2025-03-31.basil", "2026-10-28.endive"])
def test_what_stripe_says_only_by_itself_is_a_signed_fixture(
    world: World, event_type: str, version: str
) -> None:
    stage = stage_of(world.context, None)

    event_id = post_fixture(stage, event_type, version, world.stack.urls["web"])

    with world.context.auditor.system() as session:
        row = session.query(WebhookEvent).filter_by(event_id=event_id).one()
    done = patiently(lambda: _state(world, row.id), lambda state: state == "done", 30.0)
    assert (done, row.api_version) == ("done", version)


@pytest.mark.parametrize("version", ["2024-06-20", "2025-03-31.basil", "2025-09-30.clover"])
@pytest.mark.parametrize(
    "event_type", ["charge.refunded", "credit_note.created", "customer.updated", "invoice.paid"]
)
def test_an_older_shape_goes_the_whole_way(world: World, event_type: str, version: str) -> None:
    event_id = post_fixture(stage_of(world.context, None), event_type, version, world.stack.urls["web"])

    with world.context.auditor.system() as session:
        row = session.query(WebhookEvent).filter_by(event_id=event_id).one()
    assert patiently(lambda: _state(world, row.id), lambda state: state == "done", 30.0) == "done"


def test_events_are_played_for_an_organization_that_has_products_already(world: World) -> None:
    ada = world.on("2026-04-01", "ada")
    ada.card()
    ada.subscribes("autoflow-starter")
    stage = stage_of(world.context, ada.id)

    SCENES["charge.refunded"](stage)  # the payment that is there
    SCENES["customer.subscription.created"](stage)  # of another product
    ada.rests()

    assert ada.charges[0] == ("refunded", 35_00)
    held = "SELECT count(DISTINCT product_id) FROM tenant.subscription_items"
    assert rows_of(world, ada.id, held) == [(2,)]


def test_a_fixture_that_nobody_takes_says_so(world: World) -> None:
    ada = world.on("2026-04-01", "ada")
    stage = stage_of(world.context, ada.id)

    with pytest.raises(NotTaken, match="dunlin up"):
        post_fixture(stage, "customer.updated", "2024-06-20", "http://127.0.0.1:9")
    with pytest.raises(InvalidTerms, match="not a version"):
        post_fixture(stage, "customer.updated", "2019-05-16", world.stack.urls["web"])


def _state(world: World, row_id: UUID) -> str:
    with world.context.auditor.system() as session:
        return session.get_one(WebhookEvent, row_id).state


def test_a_refund_made_in_the_dashboard_shows_here_and_agrees(world: World) -> None:
    ada = world.on("2026-04-01", "ada")
    ada.card()
    ada.subscribes("autoflow-starter")
    stage = stage_of(world.context, ada.id)
    (intent,) = rows_of(world, ada.id, "SELECT stripe_payment_intent_id FROM tenant.payments")[0]

    stage.person(requests.create_refund(intent, 10_00))
    ada.rests()
    partly = patiently(lambda: refunds(world, ada), bool, 30.0)
    stage.person(requests.create_refund(intent))
    patiently(lambda: refunds(world, ada), lambda found: len(found) == 2, 30.0)

    assert partly == [(10_00, "succeeded")]
    assert refunds(world, ada) == [(10_00, "succeeded"), (25_00, "succeeded")]
    assert ada.charges == [("refunded", 35_00)]
    world.holds(ada)


def refunds(world: World, customer: Customer) -> list[Any]:
    return rows_of(world, customer.id, "SELECT amount_minor, status FROM tenant.refunds ORDER BY id")


def test_a_person_changes_the_seats_in_the_dashboard_and_our_rows_follow(world: World) -> None:
    tom = world.on("2026-04-01", "tom")
    tom.card()
    tom.subscribes("teamspace-starter")
    stage = stage_of(world.context, tom.id)
    (found,) = world.context.gateway.list("subscription", {"customer": stage.customer_id})
    item = found["items"]["data"][0]

    stage.person(
        requests.update_subscription(
            found["id"], items=[{"id": item["id"], "quantity": 3}], proration_behavior="none"
        )
    )
    followed = patiently(lambda: seats(world, tom), lambda now: now == [3], 30.0)
    tom.lives_until("2026-05-01T02:00")

    assert followed == [3]
    assert tom.totals == [("first", "paid", 25_00), ("cycle", "paid", 75_00)]
    world.holds(tom)


def seats(world: World, customer: Customer) -> list[int]:
    live = "SELECT quantity FROM tenant.subscription_items WHERE ended_at IS NULL"
    return [quantity for (quantity,) in rows_of(world, customer.id, live)]


def test_a_person_sets_a_price_that_we_do_not_sell_and_nobody_is_charged(world: World) -> None:
    una = world.on("2026-04-01", "una")
    una.card()
    una.subscribes("teamspace-starter")
    stage = stage_of(world.context, una.id)
    (found,) = world.context.gateway.list("subscription", {"customer": stage.customer_id})
    item = found["items"]["data"][0]
    product, key = item["price"]["product"], f"own-{uuid4()}"
    own = stage.person(requests.create_price(product, "USD", "month", 1_00, lookup_key=key))

    change: requests.Item = {"id": item["id"], "price": own["id"], "quantity": 1}
    stage.person(requests.update_subscription(found["id"], items=[change], proration_behavior="none"))
    una.lives_until("2026-05-01T02:00")

    assert una.totals == [("first", "paid", 25_00), ("cycle", "draft", 25_00)]
    (reason,) = rows_of(world, una.id, "SELECT parked_reason FROM tenant.invoices WHERE kind = 'cycle'")[0]
    assert "1.00" in reason
    assert una.charges == [("succeeded", 25_00)]


def test_two_workers_and_a_lost_reply_make_one_customer(world: World) -> None:
    terms = organizations.OrganizationTerms(
        slug=f"twin-{uuid4().hex[:8]}", name="Twin", email="twin@example.test", currency="USD"
    )
    organization_id = organizations.create(world.context, terms).id
    stripe_fails(world, {"operation": "POST /v1/customers", "fault": "http_500_after"})

    def ensure(_: int) -> str:
        try:
            return organizations.ensure_customer(world.context, organization_id)
        except GatewayError:
            return organizations.ensure_customer(world.context, organization_id)

    with ThreadPoolExecutor(2) as workers:
        made = set(workers.map(ensure, range(2)))
    organizations.update(world.context, organization_id, {"name": "Twins", "address": {"city": "Paarl"}})

    (customer_id,) = made
    at_stripe = [
        each
        for each in world.context.gateway.list("customer", {"email": "twin@example.test"})
        if each["metadata"]["organization_id"] == str(organization_id)
    ]
    assert [each["id"] for each in at_stripe] == [customer_id]
    told = patiently(
        lambda: world.context.gateway.fetch("customer", customer_id),
        lambda now: now["name"] == "Twins",
        30.0,
    )
    assert (told["name"], told["address"]["city"]) == ("Twins", "Paarl")


def test_a_card_that_ends_is_warned_of_once_thirty_days_before(world: World) -> None:
    eve = world.on("2026-04-01", "eve")
    eve.card()
    ((year, month),) = rows_of(world, eve.id, "SELECT exp_year, exp_month FROM tenant.payment_methods")
    ends_at = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
    warned_at = ends_at - timedelta(days=30)

    for year_between in range(2027, warned_at.year):
        eve.lives_until(f"{year_between}-01-01")
    eve.lives_until(f"{warned_at - timedelta(minutes=1):%Y-%m-%dT%H:%M}")
    early = mails(world, eve)
    eve.lives_until(f"{warned_at:%Y-%m-%dT%H:%M}")
    on_time = mails(world, eve)
    eve.lives_until(f"{ends_at + timedelta(days=3):%Y-%m-%dT%H:%M}")

    assert early == []
    assert on_time == mails(world, eve) == [("Your card ending in 4242 expires soon",)]


def mails(world: World, customer: Customer) -> list[Any]:
    written = "SELECT subject FROM tenant.notifications WHERE kind = 'card.expiring' AND channel = 'mail'"
    return rows_of(world, customer.id, written)


def test_the_documented_trial_from_a_python_shell_works_as_it_stands(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).parents[2] / "docs/webhooks.md").read_text()
    (snippet,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    for name, value in world.stack.environment.items():
        monkeypatch.setenv(name, value)

    exec(snippet, {})  # noqa: S102  # the page's own words are what is tested

    assert re.fullmatch(r"Created: trialing until 20\d\d-\d\d-\d\d\n", capsys.readouterr().out)
