"""The proofs on a system that lives: explained lines, work done twice, and what a person does at Stripe."""

from typing import Any
from uuid import uuid4

from sqlalchemy import text

from cli.demo.api import patiently
from gateway import requests
from models.schema import metadata
from tasks import rollups
from tasks.reconciliation import reconcile
from tests.scenarios.world import Customer, World

# Everything of an organization that a job may write, but the jobs themselves.
_BOOKS = [table.name for table in metadata.sorted_tables if table.schema == "tenant"]


def test_every_line_explains_itself_and_computes_again(world: World) -> None:
    eve = world.on("2026-04-01", "eve")
    eve.card()
    eve.subscribes("autoflow-professional")
    eve.lives_until("2026-04-20")
    eve.uses("2026-04-02", 60_000)
    eve.uses("2026-04-19", 45_000)
    eve.lives_until("2026-05-03")
    eve.uses("2026-04-30", 1_000)  # late: the 105,001st to 106,000th run, at 1 cent
    eve.lives_until("2026-06-01T02:00")

    lines = [line for invoice in eve.invoices for line in explained(eve, invoice)]

    assert [(line["line"]["kind"], line["line"]["amount_minor"]) for line in lines] == [
        ("recurring", 75_00),  # April
        ("recurring", 75_00),  # May
        ("usage", 1_400_00),  # April: 90,000 at 1.5 cents, 5,000 at 1 cent
        ("recurring", 75_00),  # June
        ("adjustment", 10_00),  # April again: 1,000 at 1 cent
    ]
    assert [line["recomputed"]["agrees"] for line in lines] == [True] * 5
    assert [len(line["events"]["items"]) for line in lines] == [0, 0, 2, 0, 1]
    assert [step["amount"] for step in lines[2]["steps"]] == ["0", "135000", "5000"]
    assert lines[4]["cause"]["late_events"] == 1
    world.holds(eve)


def test_doing_all_work_again_changes_nothing(world: World) -> None:
    """I11, with a life that touched everything: usage in time, late and corrected, a decline, a recovery."""
    max_ = world.on("2026-04-01", "max")
    max_.card()
    subscription = max_.subscribes("autoflow-starter")
    max_.lives_until("2026-04-20")
    max_.uses("2026-04-19", 2_000, "max-1")
    max_.card("pm_card_chargeCustomerFail")
    max_.lives_until("2026-05-05")
    max_.uses("2026-04-30", 300)
    max_.corrects("max-1", 1_500, "half of it")
    max_.card()
    max_.adjusts(subscription)
    max_.corrects("max-1", 1_600, "a little more")
    max_.lives_until("2026-06-02")
    rollups.write(world.context)  # the tick goes on by itself; here, before anybody looks
    before, calls = books(max_), intentions(max_)

    repeated = do_again(max_)

    assert repeated > 10
    assert books(max_) == before
    assert intentions(max_) == calls, "nothing that was said to Stripe is said under another key"
    world.holds(max_)


def test_what_a_person_changes_at_stripe_is_found(world: World) -> None:
    ida = world.on("2026-04-01", "ida")
    ida.card()
    ida.subscribes("autoflow-starter")
    world.holds(ida)
    customer_id = at_stripe(ida)
    (subscription,) = world.context.gateway.list("subscription", {"customer": customer_id})
    (item,) = subscription["items"]["data"]

    say(
        ida,
        requests.update_subscription(
            subscription["id"],
            items=[{"id": item["id"], "price": item["price"]["id"], "quantity": 3}],
            proration_behavior="none",
        ),
    )
    foreign = say(ida, requests.create_invoice(customer_id, "USD", {}))
    ida.rests()

    run = reconcile(world.context, [ida.id])
    assert sorted(each["sentence"] for each in run.differences) == [
        f"invoice {foreign['id']} is at Stripe, but not here",
        # The plan has no seats: its quantity is not followed.
        f"subscription item {item['id']}: quantity is 1 here and 3 at Stripe",
    ]


def explained(customer: Customer, invoice: dict[str, Any]) -> list[dict[str, Any]]:
    """Each line of the invoice, as the API explains it."""
    path = f"/api/billing/invoices/{invoice['id']}/lines"
    return [customer.world.admin.get(f"{path}/{line['id']}/explain/") for line in invoice["lines"]]


def books(customer: Customer) -> dict[str, list[str]]:
    """Every row of the organization, as text."""
    with customer.world.context.tenant(customer.id) as unit:
        return {
            table: sorted(unit.session.execute(text(f"SELECT t::text FROM tenant.{table} t")).scalars())
            for table in _BOOKS
        }


def intentions(customer: Customer) -> list[str]:
    """The keys of everything that was said to Stripe for the organization."""
    with customer.world.context.database.system() as session:
        keys = text("SELECT idempotency_key FROM ops.stripe_calls WHERE organization_id = :id ORDER BY 1")
        return list(session.execute(keys, {"id": customer.id}).scalars())


def do_again(customer: Customer) -> int:
    """Have the workers do every finished job of the organization once more. Returns how many."""
    with customer.world.context.database.system() as session:
        jobs = list(
            session.execute(
                text(
                    "UPDATE ops.jobs SET state = 'queued', attempts = 0, finished_at = NULL, "
                    "not_before_at = now() WHERE organization_id = :id AND state = 'done' RETURNING id"
                ),
                {"id": customer.id},
            ).scalars()
        )

    def states() -> set[str]:
        with customer.world.context.database.system() as session:
            found = text("SELECT DISTINCT state FROM ops.jobs WHERE id = ANY(:ids)")
            return set(session.execute(found, {"ids": jobs}).scalars())

    assert patiently(states, lambda seen: seen <= {"done", "dead"}, 90) == {"done"}
    return len(jobs)


def at_stripe(customer: Customer) -> str:
    """The organization's customer id at Stripe."""
    with customer.world.context.tenant(customer.id) as unit:
        return str(unit.organization.stripe_customer_id)


def say(customer: Customer, request: requests.Request) -> dict[str, Any]:
    """Do something at Stripe behind Dunlin's back."""
    return customer.world.context.gateway.send(request, f"person:{uuid4()}").object
