"""TAX_RATE: everybody without a rate of their own pays it, from the first invoice to the last."""

from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest

from gateway import requests
from models import work
from tasks import tax, webhooks
from tasks.queue import run_job
from tests.scenarios.system import system
from tests.scenarios.test_changes import changes
from tests.scenarios.test_dashboard import Person
from tests.scenarios.test_taxes import assigns, taxes
from tests.scenarios.world import Customer, World

_RATE = "7.5"


@pytest.fixture(scope="module")
def taxed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A system of its own, in which a tax is due by default."""
    with system(tmp_path_factory.mktemp("taxed") / "state", TAX_RATE=_RATE) as world:
        yield world


def test_an_organization_without_a_rate_pays_the_default_on_all_its_invoices(taxed: World) -> None:
    ada = taxed.on("2026-04-01", "ada")
    ada.card()
    subscription = ada.subscribes("autoflow-starter")  # 35.00 and 7.5 % = 2.625 -> 2.63
    ada.lives_until("2026-04-16")
    changes(ada, subscription, plan="autoflow-professional")
    ada.uses("2026-04-10", 700)  # half of 1,000 is included: 200 at 2 cents = 4.00, and 0.30
    ada.lives_until("2026-05-01T02:00")
    # 75.00: 5.625 -> 5.63; -17.50: -1.3125 -> -1.31; 37.50: 2.8125 -> 2.81; 4.00: 0.30
    assert taxes(ada) == [(2_63, 37_63), (7_43, 106_43)]

    ada.uses("2026-05-01T01:00", 10_000)
    ada.uses("2026-05-01T01:30", 100)  # 100 above, at 1.5 cents = 1.50: 0.1125 -> 0.11
    ada.cancels(subscription, at_period_end=False)
    ada.lives_until("2026-05-01T05:00")

    assert taxes(ada)[-1] == (11, 1_61)
    taxed.holds(ada)


def test_a_rate_of_ones_own_and_an_exemption_come_before_the_default(taxed: World) -> None:
    own, gov = taxed.on("2026-04-01", "own", tax_rate="za-vat"), taxed.on("2026-04-01", "gov")
    assigns(gov, tax_exempt="exempt")
    for each in (own, gov):
        each.card()
        each.subscribes("autoflow-starter")
        each.lives_until("2026-05-01T02:00")

    assert taxes(own) == [(5_25, 40_25), (5_25, 40_25)]
    assert taxes(gov) == [(0, 35_00), (0, 35_00)]
    assigns(own, tax_rate=None)
    own.lives_until("2026-06-01T02:00")
    assert taxes(own)[-1] == (2_63, 37_63)
    taxed.holds(own, gov)


def test_what_stripe_finalized_by_another_rate_of_ours_is_taxed_by_that_rate(taxed: World) -> None:
    kay = taxed.on("2026-04-01", "kay")
    kay.card()
    kay.subscribes("teamspace-starter", quantity=2)
    kay.lives_until("2026-04-16")
    person = Person(kay)
    vat = str(tax.find(taxed.context, "za-vat").stripe_tax_rate_id)

    person.does(requests.update_subscription(person.subscription["id"], default_tax_rates=[vat]))
    person.changes({"id": person.item(), "quantity": 4}, how="always_invoice")  # 25.00 and 15 % of it
    kay.lives_until("2026-05-01T02:00")

    # the cycle's draft is given our own rate when it is taken over: 100.00 and 7.5 %
    assert taxes(kay) == [(3_75, 53_75), (3_75, 28_75), (7_50, 107_50)]
    assert [each["tax_percentage"] for each in kay.invoices] == ["7.5", "15", "7.5"]
    taxed.holds(kay)


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A system in which nobody works by themselves."""
    with system(tmp_path_factory.mktemp("idle") / "state", ("web", "sandbox"), TAX_RATE=_RATE) as world:
        yield world


def works(world: World) -> None:
    """Do everything that is due now."""
    webhooks.drain(world.context)
    with world.context.system() as unit:
        due = work.due_jobs(unit.session, unit.now, 100)
    for job_id, _ in due:
        run_job(world.context, job_id)


def test_a_first_invoice_that_is_read_after_the_rate_was_changed_keeps_the_rate_it_was_made_with(
    idle: World,
) -> None:
    slug = f"lou-{uuid4().hex[:8]}"
    terms = {"slug": slug, "name": "Lou", "email": "lou@example.test", "currency": "USD"}
    made = idle.admin.post("/api/billing/organizations/", terms, str(uuid4()))
    lou = Customer(idle, slug, UUID(made["id"]), clock="")
    lou.card()
    wanted = {"organization": slug, "plan": "autoflow-starter", "currency": "USD", "interval": "month"}
    idle.admin.post("/api/billing/subscriptions/", wanted, str(uuid4()))
    path = f"/api/billing/organizations/{slug}/"
    assert idle.admin.send("PATCH", path, b'{"tax_rate": "za-vat"}').status == 200
    assert lou.invoices == []  # nobody has read it yet

    for _ in range(3):
        works(idle)

    assert taxes(lou) == [(2_63, 37_63)]
    assert lou.totals == [("first", "paid", 37_63)]
    idle.holds(lou)
