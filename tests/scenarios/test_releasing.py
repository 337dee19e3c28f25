"""What was parked goes on once a person has put it right; until then it says why it cannot."""

from typing import Any
from uuid import UUID, uuid4

import pytest
from stripe import StripeClient

from billing.keys import stripe_key
from cli.demo.api import ApiRefusal, patiently
from gateway import requests
from models import parking
from tasks.stripe_calls import call
from tests.scenarios.test_closing import audited, does
from tests.scenarios.test_dashboard import Person, parked
from tests.scenarios.world import Customer, World


def dashboard(world: World) -> StripeClient:
    key = world.context.settings.stripe_api_key
    assert key is not None
    return StripeClient(key, base_addresses={"api": world.stack.urls["sandbox"]})


def releases(customer: Customer) -> dict[str, Any]:
    """Release the newest invoice; returns the answer."""
    return does(customer, "release", customer.invoices[-1])


def released(customer: Customer) -> dict[str, Any]:
    path = f"/api/billing/organizations/{customer.slug}/release/"
    answer: dict[str, Any] = customer.world.admin.post(path, {}, str(uuid4()))
    return answer


def test_a_line_that_a_person_takes_off_again_lets_the_invoice_go_on(world: World) -> None:
    ann = world.on("2026-04-01", "ann")
    ann.card()
    ann.subscribes("autoflow-starter")
    ann.lives_until("2026-04-20")
    ann.uses("2026-04-10", 1_200)  # 200 above the allowance: 4.00
    ann.lives_until("2026-05-01T00:10")
    person, stripe = Person(ann), dashboard(world)
    draft = person.draft()
    line: requests.Line = {"description": "Consulting", "amount_minor": 99_00}
    person.does(
        requests.add_lines(draft, [line | {"period_start": 1_777_593_600, "period_end": 1_777_593_600}])
    )
    ann.lives_until("2026-05-02")
    with pytest.raises(ApiRefusal, match=r"our total is \$39.00, Stripe's is \$138.00.*Consulting"):
        releases(ann)
    (odd,) = [
        each.id for each in stripe.v1.invoices.line_items.list(draft).data if each.description == "Consulting"
    ]
    stripe.v1.invoices.remove_lines(draft, {"lines": [{"id": odd, "behavior": "delete"}]})

    releases(ann)
    ann.rests()

    assert ann.totals == [("first", "paid", 35_00), ("cycle", "paid", 39_00)]
    assert ann.charges == [("succeeded", 35_00), ("succeeded", 39_00)]
    assert audited(ann, ann.invoices[-1]) == ["invoice.release"]
    assert parked(ann) == []
    with pytest.raises(ApiRefusal, match="not parked"):
        releases(ann)
    world.holds(ann)


def test_collection_that_a_person_takes_up_again_is_ours_once_released(world: World) -> None:
    flo = world.on("2026-04-01", "flo")
    flo.card()
    flo.subscribes("autoflow-starter")
    person, stripe = Person(flo), dashboard(world)
    subscription = person.subscription["id"]
    person.does(requests.pause_collection(subscription))
    flo.lives_until("2026-05-02")
    with pytest.raises(ApiRefusal, match="a person paused its collection at Stripe"):
        releases(flo)
    stripe.v1.subscriptions.update(subscription, {"pause_collection": ""})

    releases(flo)
    flo.rests()

    assert flo.charges == [("succeeded", 35_00), ("succeeded", 35_00)]
    world.holds(flo)


def test_a_draft_of_ours_that_a_person_deleted_is_built_anew(world: World) -> None:
    gus = world.on("2026-04-01", "gus")
    gus.card()
    subscription = gus.subscribes("autoflow-starter")
    gus.lives_until("2026-04-20")
    gus.uses("2026-04-10", 1_500)
    gus.cancels(subscription, at_period_end=False)
    gus.lives_until("2026-04-20T00:30")
    person = Person(gus)
    # A worker made it and died, and a person took it away before the next one came.
    invoice_id = UUID(gus.invoices[-1]["id"])
    made = requests.create_invoice(
        person.stage.customer_id, "USD", {"invoice_id": str(invoice_id), "kind": "final"}, []
    )
    draft = call(world.context, made, stripe_key("invoice", invoice_id), gus.id)["id"]
    person.does(requests.delete_invoice(draft))
    gus.lives_until("2026-04-20T02:00")
    assert "No such invoice" in parked(gus)[0]

    releases(gus)
    gus.rests()

    assert gus.totals == [("first", "paid", 35_00), ("final", "paid", 10_00)]
    assert gus.charges == [("succeeded", 35_00), ("succeeded", 10_00)]
    assert gus.rows("SELECT releases FROM tenant.invoices WHERE kind = 'final'") == [(1,)]
    world.holds(gus)


def test_a_parked_organization_goes_on_where_it_stood_once_its_books_are_right(world: World) -> None:
    kit = world.on("2026-04-01", "kit")
    kit.card()
    kit.subscribes("autoflow-starter")
    kit.card("pm_card_chargeCustomerFail")
    kit.lives_until("2026-05-01T02:00")  # May's payment failed: a retry is planned
    with pytest.raises(ApiRefusal, match="not parked"):
        released(kit)
    with world.context.system() as unit:
        assert parking.park(unit.session, kit.id, unit.now, "a look", actor="a test")
    kit.lives_until("2026-06-01T03:00")
    assert kit.totals[1:] == [("cycle", "open", 35_00), ("cycle", "draft", 0)]
    assert kit.charges == [("succeeded", 35_00), ("failed", 35_00)]

    answer = released(kit)
    kit.rests()

    assert answer["slug"] == kit.slug
    assert [status for _, status, _ in kit.totals] == ["paid", "open", "open"]
    assert kit.charges == [("succeeded", 35_00), *[("failed", 35_00)] * 3]
    kit.card()
    kit.rests()
    assert [status for _, status, _ in kit.totals] == ["paid", "paid", "paid"]
    world.holds(kit)


def test_a_wrong_book_or_a_lost_customer_keeps_an_organization_parked(world: World) -> None:
    lou = world.on("2026-04-01", "lou")
    lou.card()
    lou.subscribes("autoflow-starter")
    person = Person(lou)
    with world.context.tenant(lou.id) as unit:
        unit.session.connection().exec_driver_sql("UPDATE tenant.invoices SET paid_minor = paid_minor - 1")
    with world.context.system() as unit:
        parking.park(unit.session, lou.id, unit.now, "a look", actor="a test")
    with pytest.raises(ApiRefusal, match=r"stays parked: I\d"):
        released(lou)
    with world.context.tenant(lou.id) as unit:
        unit.session.connection().exec_driver_sql("UPDATE tenant.invoices SET paid_minor = paid_minor + 1")
    person.does(requests.delete_customer(person.stage.customer_id))

    with pytest.raises(ApiRefusal, match="was deleted at Stripe"):
        released(lou)

    patiently(lou.access, lambda found: found == "none", 30.0)
    with world.context.tenant(lou.id) as unit:
        assert unit.organization.parked_at is not None
