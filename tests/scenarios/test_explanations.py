"""Every kind of line explains itself, and computes again with its discounts, its tax and its invoice."""

from typing import Any
from uuid import UUID, uuid4

from tasks.explain import explain_invoice, explain_text
from tasks.explanation_text import sums_text
from tests.scenarios.test_changes import changes
from tests.scenarios.test_coupons import coupon
from tests.scenarios.world import Customer, World


def told(customer: Customer) -> list[dict[str, Any]]:
    """Every invoice explained over HTTP; all of it must come out again."""
    base = "/api/billing/invoices/"
    whole = [customer.world.admin.get(f"{base}{invoice['id']}/explain/") for invoice in customer.invoices]
    for each in whole:
        texts = [explain_text(line) for line in each["lines"]]
        assert each["agrees"], "\n".join([*texts, sums_text(each)])
    return whole


def kinds(whole: list[dict[str, Any]]) -> set[str]:
    return {line["line"]["kind"] for invoice in whole for line in invoice["lines"]}


def text_of(customer: Customer, invoice: int) -> str:
    """An invoice's explanation as the command prints it; the random parts left out."""
    found = explain_invoice(customer.world.context, customer.id, UUID(customer.invoices[invoice]["id"]))
    texts = [explain_text(line) for line in found["lines"]]
    whole = "\n".join([*texts, sums_text(found)]).replace(customer.slug.upper(), "ORG")
    return "\n".join(line for line in whole.splitlines() if "version sold since" not in line)


def test_seats_changed_in_mid_period_under_a_coupon_and_an_inclusive_tax(world: World, golden: Any) -> None:
    rate = f"incl-{uuid4().hex[:8]}"
    content = {"code": rate, "name": "VAT", "percentage": "15", "inclusive": True}
    world.admin.post("/api/billing/tax_rates/", content, rate)
    code = coupon(world, percent_off="50", duration="forever")
    gil = world.on("2026-04-01", "gil", tax_rate=rate)
    gil.card()
    seats = gil.subscribes("teamspace-starter", quantity=4, coupon=code)
    gil.lives_until("2026-04-11")
    changes(gil, seats, quantity=6)
    gil.lives_until("2026-04-21T09:30")
    changes(gil, seats, plan="teamspace-professional")
    gil.lives_until("2026-05-01T02:00")

    whole = told(gil)

    assert kinds(whole) == {"seats", "proration"}
    golden(text_of(gil, -1).replace(code, "HALF"), "explained_changes.txt")
    world.holds(gil)


def test_a_trial_a_bundle_that_ends_credit_and_a_tax_on_top(world: World) -> None:
    rate = f"excl-{uuid4().hex[:8]}"
    world.admin.post("/api/billing/tax_rates/", {"code": rate, "name": "VAT", "percentage": "15"}, rate)
    bea = world.on("2026-04-01", "bea", tax_rate=rate)
    bea.card()
    code = coupon(world, amount_off_minor=7_00, currency="USD", duration="forever")
    bundle = bea.subscribes(bundle="starter", trial_days=14, coupon=code)
    bea.uses("2026-04-01", 5_000)
    bea.lives_until("2026-04-20")
    credit = f"/api/billing/organizations/{bea.slug}/credit/"
    world.admin.post(credit, {"amount_minor": 5_00, "reason": "an outage"}, str(uuid4()))
    bea.uses("2026-04-18", 1_500)
    bea.lives_until("2026-05-16")
    changes(bea, bundle, product="teamspace", remove=True)
    bea.lives_until("2026-06-16")

    whole = told(bea)

    assert kinds(whole) == {"recurring", "seats", "usage"}
    assert any(line["trial"] for line in whole[0]["lines"])
    discounts = [part for invoice in whole for line in invoice["lines"] for part in line["discount"]["parts"]]
    assert {part["code"] for part in discounts} == {"bundle starter", code}
    assert [each["sums"]["credit_minor"] for each in whole].count(5_00) == 1
    world.holds(bea)


def test_late_and_corrected_usage(world: World) -> None:
    eve = world.on("2026-04-01", "eve")
    eve.card()
    eve.subscribes("autoflow-professional")
    eve.lives_until("2026-04-20")
    eve.uses("2026-04-02", 60_000, "many")
    eve.lives_until("2026-05-03")
    eve.uses("2026-04-30", 1_000)
    eve.corrects("many", 40_000, "a loop was counted")
    eve.lives_until("2026-06-01T02:00")

    whole = told(eve)

    assert kinds(whole) == {"recurring", "usage", "adjustment"}
    adjustment = next(line for line in whole[-1]["lines"] if line["line"]["kind"] == "adjustment")
    # 41,000 instead of 60,000: 19,000 less at 1.5 cents
    assert adjustment["recomputed"]["recomputed_minor"] == -285_00
    world.holds(eve)
