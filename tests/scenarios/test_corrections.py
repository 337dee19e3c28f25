"""Late events, corrections and deletions, before and after the invoice is final: exact to the cent.

AutoFlow Starter costs 35.00 a month: 1,000 runs are included, each further one costs 2 cents.
"""

from collections.abc import Callable
from contextlib import closing
from typing import Any
from uuid import uuid4

import pytest

from cli.demo.api import Api, ApiRefusal
from cli.keys import issue_bound
from tasks import catalog, quarantine
from tasks.stripe_catalog import sync
from tests.scenarios.world import Customer, World, at

Golden = Callable[[str, str], None]


def subscriber(world: World, name: str, plan: str = "autoflow-starter") -> tuple[Customer, str]:
    """A customer with a card who has had the plan since 1 April."""
    customer = world.on("2026-04-01", name)
    customer.card()
    return customer, customer.subscribes(plan)


def explained(customer: Customer, invoice: dict[str, Any], kind: str) -> dict[str, Any]:
    """The explanation of an invoice's line of this kind."""
    line = next(each for each in invoice["lines"] if each["kind"] == kind)
    path = f"/api/billing/invoices/{invoice['id']}/lines/{line['id']}/explain/"
    told: dict[str, Any] = customer.world.admin.get(path)
    return told


def test_late_events_are_priced_in_the_tiers_of_their_own_period(world: World, golden: Golden) -> None:
    una, _ = subscriber(world, "una", "autoflow-professional")  # 75.00: 10,000 included, 1.5 cents to 100,000
    una.lives_until("2026-04-20")
    una.uses("2026-04-05", 99_000)  # April: 89,000 at 1.5 cents = 1,335.00
    una.lives_until("2026-05-03")
    una.uses("2026-04-28", 800, "una-late-1")
    una.uses("2026-04-29", 1_200, "una-late-2")
    una.uses("2026-05-02", 10_500)  # May: 500 at 1.5 cents = 7.50

    una.lives_until("2026-06-01T02:00")

    # April again: 101,000 runs: 90,000 at 1.5 cents = 1,350.00, and 1,000 at 1 cent = 10.00, less 1,335.00
    golden(una.last_invoice, "corrections_late_events.txt")
    told = explained(una, una.invoices[-1], "adjustment")
    assert told["recomputed"]["agrees"]
    assert [event["event_id"] for event in told["events"]["items"]] == ["una-late-1", "una-late-2"]
    assert (told["cause"]["late_events"], told["cause"]["corrected_events"]) == (2, 0)
    world.holds(una)


def test_a_correction_in_time_just_counts(world: World) -> None:
    vic, subscription = subscriber(world, "vic")
    vic.lives_until("2026-04-20")
    vic.uses("2026-04-10", 5_000, "vic-1")
    vic.uses("2026-04-11", 700, "vic-2")

    first = vic.corrects("vic-1", 1_100, "a counter was read wrongly")
    vic.corrects("vic-2", None, "a test run")
    again = vic.corrects("vic-1", 1_100, "a counter was read wrongly")
    vic.corrects("vic-1", 1_200, "read once more")
    assert (first["number"], first["effect"], again["id"]) == (1, "with_its_period", first["id"])
    assert vic.adjusts(subscription) is None, "nothing is late"
    usage = world.product.get(f"/api/billing/access/{vic.slug}/autoflow/")["usage"]
    assert usage == {"workflow_runs": "1200"}
    vic.lives_until("2026-05-01T02:00")

    # 1,200 runs: 200 at 2 cents = 4.00
    assert vic.totals == [("first", "paid", 35_00), ("cycle", "paid", 39_00)]
    told = explained(vic, vic.invoices[-1], "usage")
    assert [told["quantity"][name] for name in ("value", "facts", "voided")] == ["1200", 2, 1]
    assert told["recomputed"]["agrees"]
    shown = {event["event_id"]: event for event in told["events"]["items"]}
    assert [each["quantity"] for each in shown["vic-1"]["corrections"]] == ["1100", "1200"]
    assert shown["vic-1"]["quantity"] == "5000", "the event stays as it came"
    assert [shown[name]["counts"] for name in ("vic-1", "vic-2")] == [True, False]
    assert [each["reason"] for each in shown["vic-2"]["corrections"]] == ["a test run"]
    world.holds(vic)


def test_a_correction_after_the_final_invoice_is_on_the_next_one(world: World, golden: Golden) -> None:
    wes, _ = subscriber(world, "wes")
    wes.lives_until("2026-04-20")
    wes.uses("2026-04-10", 1_500, "wes-1")
    wes.uses("2026-04-12", 400, "wes-2")  # April: 1,900 runs, 900 at 2 cents = 18.00
    wes.lives_until("2026-05-10")

    answer = wes.corrects("wes-1", 1_050, "the retries were counted too")
    assert answer["effect"] == "adjustment"
    wes.lives_until("2026-06-01T02:00")

    # April again: 1,450 runs, 450 at 2 cents = 9.00, less 18.00: -9.00; June 35.00
    golden(wes.last_invoice, "corrections_after_the_invoice.txt")
    told = explained(wes, wes.invoices[-1], "adjustment")
    assert told["recomputed"]["agrees"]
    (cause,) = told["cause"]["corrections"]
    assert (cause["id"], cause["event_id"], cause["quantity"]) == (answer["id"], "wes-1", "1050")
    assert cause["reason"] == "the retries were counted too"
    before = explained(wes, wes.invoices[-2], "usage")
    assert before["recomputed"]["agrees"], "the old line still explains itself"
    (standing,) = before["events"]["items"][0]["corrections"]
    assert standing["counted_here"] is False

    wes.corrects("wes-1", 1_250, "some of them were real")  # 1,650 in all: 13.00, less 18.00 - 9.00
    wes.lives_until("2026-07-01T02:00")
    assert wes.totals[-1] == ("cycle", "paid", 39_00)
    assert explained(wes, wes.invoices[-1], "adjustment")["recomputed"]["agrees"]
    world.holds(wes)


def test_a_deletion_is_credited_at_once_on_demand(world: World, golden: Golden) -> None:
    xan, subscription = subscriber(world, "xan")
    xan.lives_until("2026-04-20")
    xan.uses("2026-04-10", 1_800, "xan-1")
    xan.uses("2026-04-11", 1_200, "xan-2")  # April: 3,000 runs, 2,000 at 2 cents = 40.00
    xan.lives_until("2026-05-10")
    xan.uses("2026-05-09", 1_100)  # May: 100 at 2 cents = 2.00
    xan.corrects("xan-2", None, "sent by a test system")

    made = xan.adjusts(subscription)
    assert xan.adjusts(subscription) is None, "nothing is left to bill"

    # April again: 1,800 runs, 800 at 2 cents = 16.00, less 40.00: -24.00, to the balance
    adjustment = next(each for each in xan.invoices if each["id"] == made)
    assert (adjustment["kind"], adjustment["status"], adjustment["subtotal_minor"]) == (
        "adjustment",
        "paid",
        -24_00,
    )
    assert (adjustment["credit_minor"], adjustment["total_minor"]) == (-24_00, 0)
    xan.lives_until("2026-06-01T02:00")
    # June 35.00 and May's 2.00, of which 24.00 are paid by the balance
    golden(xan.last_invoice, "corrections_deletion.txt")
    assert xan.charges == [("succeeded", 35_00), ("succeeded", 75_00), ("succeeded", 13_00)]
    world.holds(xan)


def test_two_adjustments_at_one_instant_are_two_invoices(world: World) -> None:
    yan, subscription = subscriber(world, "yan")
    yan.lives_until("2026-04-20")
    yan.uses("2026-04-10", 2_000, "yan-1")  # 1,000 at 2 cents = 20.00
    yan.lives_until("2026-05-10")

    yan.corrects("yan-1", 1_500, "half of it")  # 10.00: -10.00
    first = yan.adjusts(subscription)
    yan.corrects("yan-1", 1_600, "a little more")  # 12.00: +2.00
    second = yan.adjusts(subscription)
    yan.uses("2026-05-09", 1_050)  # the period goes on: 50 at 2 cents = 1.00
    yan.lives_until("2026-06-01T02:00")

    subtotals = {each["id"]: each["subtotal_minor"] for each in yan.invoices}
    assert first and second and (subtotals[first], subtotals[second]) == (-10_00, 2_00)
    assert [each["subtotal_minor"] for each in yan.invoices if each["kind"] == "cycle"] == [55_00, 36_00]
    world.holds(yan)


def test_a_conflicting_duplicate_is_shown_and_settled_by_a_correction(world: World, golden: Golden) -> None:
    zoe, _ = subscriber(world, "zoe")
    zoe.lives_until("2026-04-20")
    zoe.uses("2026-04-10", 1_200, "zoe-1")
    other = zoe.uses("2026-04-10", 1_300, "zoe-1")
    assert (other["quarantined"], other["accepted"]) == (1, 1)
    zoe.lives_until("2026-05-10")  # April: the first content counts: 200 at 2 cents = 4.00

    def conflict() -> dict[str, Any]:
        path = f"/api/billing/usage/conflicts/?organization={zoe.slug}"
        (found,) = world.product.get(path)["items"]
        return dict(found)

    shown = conflict()
    assert (shown["kept"]["quantity"], shown["refused"]["quantity"]) == ("1200", "1300")
    assert shown["settled"] is False
    zoe.corrects("zoe-1", 1_300, "the second report was right")
    assert conflict()["settled"] is True
    zoe.lives_until("2026-06-01T02:00")

    # April again: 300 at 2 cents = 6.00, less 4.00
    golden(zoe.last_invoice, "corrections_conflict.txt")
    world.holds(zoe)


LUMEN = """
[[tiers]]
code = "starter"
name = "Starter"
rank = 1

[[products]]
code = "{code}"
name = "{name}"
billing_type = "hybrid"
base_charge = "flat"

[[products.meters]]
code = "hours"
name = "Light hours"
unit = "hour"
aggregation = "sum"

[products.plans.starter]
prices = {{ USD = 1000 }}

[products.plans.starter.charges.hours.USD]
model = "per_unit"
unit_price = "{unit_price}"
{more}
"""


# A second meter, priced at 50 cents.
FLASHES = """
[[products.meters]]
code = "flashes"
name = "Flashes"
unit = "flash"
aggregation = "sum"

[products.plans.starter.charges.flashes.USD]
model = "per_unit"
unit_price = "50"
"""


class Lamp:
    """A product of a story's own, with its own key: it reports hours of light."""

    def __init__(self, world: World, code: str, **terms: str) -> None:
        self.world, self.code = world, code
        self.sells(**terms)
        key = issue_bound(world.context, "product", f"story {uuid4()}", product=code)
        self.api = Api(world.stack.urls["web"], key)

    def sells(self, *, unit_price: str, more: str = "") -> None:
        """Bring the plan at this price to the catalog and to Stripe."""
        terms = {"code": self.code, "name": self.code.title(), "unit_price": unit_price, "more": more}
        catalog.apply(self.world.context, LUMEN.format(**terms))
        sync(self.world.context)

    def shines(
        self, customer: Customer, day: str, quantity: int, event_id: str, metric: str = "hours"
    ) -> None:
        event = {
            "event_id": event_id,
            "organization": customer.slug,
            "product": self.code,
            "metric": metric,
            "quantity": quantity,
            "timestamp": at(day),
        }
        batch = self.api.post("/api/billing/usage/track/", event, str(uuid4()))["batch_id"]
        customer.batch(batch, self.api)

    def corrects(self, customer: Customer, event_id: str, **said: Any) -> None:
        content = {"organization": customer.slug, "event_id": event_id, "reason": "read wrongly", **said}
        self.api.post("/api/billing/usage/correct/", content, str(uuid4()))


def test_each_side_of_a_price_change_is_adjusted_at_its_own_price(world: World, golden: Golden) -> None:
    lamp = Lamp(world, "lumen", unit_price="10")
    with closing(lamp.api):
        pia, subscription = subscriber(world, "pia", "lumen-starter")  # 10.00, and 10 cents an hour
        pia.lives_until("2026-04-16")
        lamp.shines(pia, "2026-04-10", 100, "pia-1")  # 10.00
        lamp.sells(unit_price="25")
        pia.changes(subscription, plan="lumen-starter", proration="none")  # now 25 cents an hour
        pia.lives_until("2026-04-21")
        lamp.shines(pia, "2026-04-20", 40, "pia-2")  # 10.00
        pia.lives_until("2026-05-10")
        assert pia.totals[-1] == ("cycle", "paid", 30_00)

        lamp.corrects(pia, "pia-1", quantity="80.5")  # 8.05, less 10.00: -1.95
        lamp.corrects(pia, "pia-2", quantity=44)  # 11.00, less 10.00: +1.00
        lamp.shines(pia, "2026-04-15T23:00", 3, "pia-3")  # late, at 10 cents: +0.30
        lamp.sells(unit_price="99")  # of no concern to who has another version
        pia.lives_until("2026-06-01T02:00")

        golden(pia.last_invoice, "corrections_price_change.txt")
        lines = [line for line in pia.invoices[-1]["lines"] if line["kind"] == "adjustment"]
        assert sorted(line["amount_minor"] for line in lines) == [-1_65, 1_00]
        world.holds(pia)


def test_a_minimum_is_charged_without_usage_and_kept_by_corrections(world: World, golden: Golden) -> None:
    lamp = Lamp(world, "glow", unit_price="10", more="minimum_minor = 2000")
    with closing(lamp.api):
        rob, _ = subscriber(world, "rob", "glow-starter")  # 10.00, and 10 cents an hour, at least 20.00
        rob.lives_until("2026-05-10")
        assert rob.totals[-1] == ("cycle", "paid", 30_00), "April: no hours, the minimum of 20.00"
        lamp.shines(rob, "2026-04-10", 150, "rob-1")  # April again: 15.00 is less than the minimum: 0.00
        lamp.shines(rob, "2026-05-05", 260, "rob-2")  # May: 26.00
        rob.lives_until("2026-06-10")
        assert rob.totals[-1] == ("cycle", "paid", 36_00)

        lamp.corrects(rob, "rob-1", quantity=230)  # April: 23.00, less 20.00: +3.00
        lamp.corrects(rob, "rob-2", void=True)  # May: the minimum of 20.00, less 26.00: -6.00
        rob.lives_until("2026-07-01T02:00")

        # July 10.00, June's minimum 20.00, +3.00 and -6.00
        golden(rob.last_invoice, "corrections_minimum.txt")
        assert rob.totals[-1] == ("cycle", "paid", 27_00)
        world.holds(rob)


def test_usage_that_no_plan_prices_is_billed_once_the_plan_does(world: World) -> None:
    lamp = Lamp(world, "beacon", unit_price="10")
    with closing(lamp.api):
        quinn, subscription = subscriber(world, "quinn", "beacon-starter")
        lamp.sells(unit_price="10", more=FLASHES)
        quinn.lives_until("2026-04-16")
        lamp.shines(quinn, "2026-04-16", 40, "quinn-1", metric="flashes")
        lamp.shines(quinn, "2026-04-15", 9, "quinn-2", metric="flashes")
        held = quarantine.held(world.context, organization=quinn.slug)
        assert [(group.metric, group.reason, group.events) for group in held] == [("flashes", "no_charge", 2)]

        # From now on Quinn has the version that prices flashes: the one of now finds its place.
        quinn.changes(subscription, plan="beacon-starter", proration="none")
        quinn.rests()
        assert [group.events for group in quarantine.held(world.context, organization=quinn.slug)] == [1]
        quinn.lives_until("2026-05-01T02:00")

        # May 10.00, and 40 flashes at 50 cents = 20.00; what came before the change stays in quarantine
        assert quinn.totals[-1] == ("cycle", "paid", 30_00)
        assert quarantine.redrive(world.context, organization=quinn.slug)[0] == 0
        world.holds(quinn)


def test_a_correction_after_the_end_gets_an_invoice_of_its_own(world: World) -> None:
    sue, subscription = subscriber(world, "sue")
    sue.lives_until("2026-04-12")
    sue.uses("2026-04-11", 3_000, "sue-1")
    sue.cancels(subscription, at_period_end=False)
    sue.lives_until("2026-04-20")
    assert sue.totals == [("first", "paid", 35_00), ("final", "paid", 40_00)]

    sue.corrects("sue-1", 2_000, "counted twice")
    sue.lives_until("2026-06-01")

    # 2,000 runs: 1,000 at 2 cents = 20.00, less 40.00: 20.00 on the balance
    assert [(each["kind"], each["subtotal_minor"]) for each in sue.invoices][2:] == [("adjustment", -20_00)]
    balance = world.admin.get(f"/api/billing/organizations/{sue.slug}/credit/")["balance_minor"]
    assert balance == 20_00
    world.holds(sue)


def test_the_credit_of_a_correction_carries_the_tax_of_the_invoice_that_it_is_on(world: World) -> None:
    tia = world.on("2026-04-01", "tia", tax_rate="za-vat")
    tia.card()
    tia.subscribes("autoflow-starter")
    tia.lives_until("2026-04-20")
    tia.uses("2026-04-10", 2_000, "tia-1")  # 20.00
    tia.lives_until("2026-05-10")
    tia.corrects("tia-1", 1_000, "half of it")
    tia.lives_until("2026-06-01T02:00")

    # (35.00 - 20.00) and 15 %
    assert tia.totals[-1] == ("cycle", "paid", 17_25)
    assert explained(tia, tia.invoices[-1], "adjustment")["tax"]["amount_minor"] == -3_00
    world.holds(tia)


def test_what_cannot_be_corrected_is_refused_by_name(world: World) -> None:
    kim, _ = subscriber(world, "kim")
    kim.uses("2026-04-01", 5, "kim-1")
    with pytest.raises(ApiRefusal, match="no such usage event"):
        kim.corrects("kim-9", 1, "unknown")
    with pytest.raises(ApiRefusal, match="quantity"):
        kim.corrects("kim-1", "1e12", "too much")
    key = str(uuid4())
    kim.corrects("kim-1", 6, "one more", key)
    assert kim.corrects("kim-1", 6, "one more", key)["number"] == 1
    with pytest.raises(ApiRefusal, match="another correction"):
        kim.corrects("kim-1", 7, "two more", key)
    world.holds(kim)
