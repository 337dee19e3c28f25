"""Tax: on top and within, with discounts, exempt, changed in the middle of a period."""

import json
from typing import Any
from uuid import uuid4

from models import sale_terms
from tests.scenarios.world import Customer, World


def rate(world: World, percentage: str, *, inclusive: bool) -> str:
    """A new tax rate; returns its code."""
    code = f"t-{uuid4().hex[:8]}"
    terms = {"code": code, "name": "VAT", "percentage": percentage, "inclusive": inclusive}
    world.admin.post("/api/billing/tax_rates/", terms, str(uuid4()))
    return code


def assigns(customer: Customer, **changes: Any) -> None:
    path = f"/api/billing/organizations/{customer.slug}/"
    answer = customer.world.admin.send("PATCH", path, json.dumps(changes).encode())
    assert answer.status == 200, answer.content
    customer.rests()


def taxes(customer: Customer) -> list[tuple[int, int]]:
    """(tax on top, total) of each invoice, oldest first."""
    return [(each["tax_minor"], each["total_minor"]) for each in customer.invoices]


def test_a_new_rate_takes_effect_with_the_next_invoice(world: World) -> None:
    ada = world.on("2026-04-01", "ada", tax_rate="za-vat")
    ada.card()
    ada.subscribes("autoflow-starter")  # 35.00 and 15 % = 5.25
    ada.lives_until("2026-04-20")

    assigns(ada, tax_rate=rate(world, "7.7", inclusive=False))
    ada.lives_until("2026-05-01T02:00")  # 7.7 % of 35.00 = 2.695 -> 2.70
    assigns(ada, tax_exempt="exempt")
    ada.lives_until("2026-06-01T02:00")
    assigns(ada, tax_exempt="none", tax_rate=None)
    ada.lives_until("2026-07-01T02:00")

    assert taxes(ada) == [(5_25, 40_25), (2_70, 37_70), (0, 35_00), (0, 35_00)]
    world.holds(ada)


def test_a_draft_keeps_the_rate_that_it_was_made_with(world: World) -> None:
    ada = world.on("2026-04-01", "ada", tax_rate="za-vat")
    ada.card()
    ada.subscribes("autoflow-starter")
    ada.lives_until("2026-05-01T00:30")  # the draft of April stands and waits for usage
    assert ada.totals[-1][:2] == ("cycle", "draft")

    assigns(ada, tax_rate=rate(world, "20", inclusive=False))
    ada.lives_until("2026-06-01T02:00")

    assert taxes(ada) == [(5_25, 40_25), (5_25, 40_25), (7_00, 42_00)]
    world.holds(ada)


def test_inclusive_tax_is_within_the_prices_of_recurring_and_usage_lines_after_the_discount(
    world: World,
) -> None:
    bea = world.on("2026-04-01", "bea")
    bea.card()
    assigns(bea, tax_rate=rate(world, "19", inclusive=True))
    bea.subscribes(bundle="starter")  # 54.00 contains it
    bea.lives_until("2026-04-10")
    bea.uses("2026-04-09", 1_333)  # 333 at 2 cents = 6.66

    bea.lives_until("2026-05-01T02:00")

    # 35.00 - 3.50 = 31.50 contains 31.50 * 19/119 = 5.03; 25.00 - 2.50 = 22.50 contains 3.59;
    # 6.66 contains 1.06
    assert sorted(line["tax_minor"] for line in bea.invoices[-1]["lines"]) == [1_06, 3_59, 5_03]
    assert taxes(bea) == [(0, 54_00), (0, 60_66)]
    world.holds(bea)


def test_an_exempt_organization_of_the_first_hour_pays_no_tax(world: World) -> None:
    gov = world.on("2026-04-01", "gov", tax_rate="za-vat")
    assigns(gov, tax_exempt="reverse")
    gov.card()
    gov.subscribes("teamspace-starter")

    assert taxes(gov) == [(0, 25_00)]
    world.holds(gov)


def test_two_rates_that_say_the_same_are_two_at_stripe_too(world: World) -> None:
    codes = [f"same-{uuid4().hex[:8]}" for _ in range(2)]
    for code in codes:
        world.admin.post("/api/billing/tax_rates/", {"code": code, "name": "VAT", "percentage": "15"}, code)

    with world.context.system() as unit:
        ids = {sale_terms.tax_rate(unit.session, code).stripe_tax_rate_id for code in codes}  # type: ignore[union-attr]
    assert len(ids) == 2 and None not in ids
