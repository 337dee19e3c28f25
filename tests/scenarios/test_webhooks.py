"""Stripe's words: each event played at Stripe, then told twice, late, or not at all."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from cli.demo.api import patiently
from cli.triggering.fixtures import post_fixture
from cli.triggering.scenes import SCENES, Stage, stage_of
from gateway import requests
from models.ops import WebhookEvent
from tests.scenarios.world import Customer, World

# Celery warns of a task's queue when this process rings a worker for the first time.
pytestmark = pytest.mark.filterwarnings("default::celery.exceptions.CDeprecationWarning")

UNPLAYED = (
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
    """Refunds and disputes do not name their customer in the envelope."""
    with world.context.auditor.system() as session:
        rows = session.query(WebhookEvent).filter_by(type=event_type).all()
    anonymous = event_type.startswith(("charge.dispute", "refund"))
    return any(row.customer_id == stage.customer_id or anonymous for row in rows)


def rows_of(world: World, organization_id: UUID, statement: str) -> list[Any]:
    with world.context.tenant(organization_id) as unit:
        return [tuple(row) for row in unit.session.execute(text(statement))]


@pytest.mark.parametrize("event_type", SCENES)
def test_every_event_is_played_at_stripe_and_understood(world: World, event_type: str) -> None:
    stage = stage_of(world.context, None)

    SCENES[event_type](stage)

    told(world, stage, event_type)


@pytest.mark.parametrize("event_type", UNPLAYED)
@pytest.mark.parametrize("version", ["2024-06-20", "2025-03-31.basil", "2026-10-28.endive"])
def test_what_stripe_says_only_by_itself_is_a_signed_fixture(
    world: World, event_type: str, version: str
) -> None:
    stage = stage_of(world.context, None)

    event_id = post_fixture(stage, event_type, version)

    with world.context.auditor.system() as session:
        row = session.query(WebhookEvent).filter_by(event_id=event_id).one()
    done = patiently(lambda: _state(world, row.id), lambda state: state == "done", 30.0)
    assert (done, row.api_version) == ("done", version)


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
