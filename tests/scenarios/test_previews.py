"""The coming invoice, previewed, and then lived: to the cent, line by line."""

from typing import Any
from uuid import uuid4

import pytest

from cli.demo.api import ApiRefusal
from tests.scenarios.test_changes import changes
from tests.scenarios.test_coupons import coupon
from tests.scenarios.test_credit import gives
from tests.scenarios.test_taxes import rate
from tests.scenarios.world import Customer, World

_OF_A_LINE = (
    "kind",
    "product",
    "metric",
    "description",
    "quantity",
    "unit_price",
    "amount_minor",
    "discount_minor",
    "tax_minor",
    "period_start_at",
    "period_end_at",
)
_OF_AN_INVOICE = (
    "kind",
    "currency",
    "subtotal_minor",
    "discount_minor",
    "tax_minor",
    "tax_name",
    "tax_percentage",
    "tax_inclusive",
    "credit_minor",
    "total_minor",
    "period_start_at",
    "period_end_at",
)


def upcoming(customer: Customer, subscription: str) -> dict[str, Any]:
    path = f"/api/billing/subscriptions/{subscription}/upcoming/"
    coming: dict[str, Any] = customer.world.admin.get(path)
    return coming


def figures(invoice: dict[str, Any]) -> dict[str, Any]:
    """What a preview and a real invoice both say; lines in any sequence."""
    lines = [{name: line[name] for name in _OF_A_LINE} for line in invoice["lines"]]
    lines.sort(key=lambda line: (line["kind"], line["description"], line["period_start_at"]))
    return {**{name: invoice[name] for name in _OF_AN_INVOICE}, "lines": lines}


def test_everything_that_an_invoice_can_have_comes_as_previewed(world: World) -> None:
    ada = world.on("2026-04-01", "ada", tax_rate=rate(world, "15", inclusive=False))
    ada.card()
    code = coupon(world, percent_off="12.5", duration="forever")
    subscription = ada.subscribes("autoflow-starter", coupon=code)
    ada.lives_until("2026-05-02")
    gives(ada, 3_00)
    ada.uses("2026-04-15", 1_700)  # late: 700 beyond the allowance
    ada.uses("2026-05-01", 1_234)
    ada.lives_until("2026-05-11")
    changes(ada, subscription, plan="autoflow-professional")
    ada.uses("2026-05-11", 20_000)
    ada.lives_until("2026-05-20")

    coming = upcoming(ada, subscription)
    same = world.admin.post(f"/api/billing/subscriptions/{subscription}/preview/", {}, str(uuid4()))
    ada.lives_until("2026-06-01T02:00")

    kinds = {line["kind"] for line in coming["lines"]}
    assert kinds == {"recurring", "usage", "adjustment", "proration"}
    assert coming["credit_minor"] == 3_00 and coming["discount_minor"] > 0 and coming["tax_minor"] > 0
    assert figures(same) == figures(coming)
    assert figures(coming) == figures(ada.invoices[-1])
    world.holds(ada)


def test_while_a_draft_waits_for_late_usage_it_is_the_coming_invoice(world: World) -> None:
    ada = world.on("2026-04-01", "ada")
    ada.card()
    subscription = ada.subscribes("autoflow-starter")
    ada.uses("2026-04-01", 1_500)
    ada.lives_until("2026-05-01T00:30")
    assert ada.totals[-1][:2] == ("cycle", "draft")

    coming = upcoming(ada, subscription)
    ada.lives_until("2026-05-01T02:00")

    assert coming["total_minor"] == 45_00
    assert figures(coming) == figures(ada.invoices[-1])
    world.holds(ada)


def test_the_end_of_a_trial_and_the_last_invoice_come_as_previewed(world: World) -> None:
    tia = world.on("2026-04-01", "tia")
    tia.card()
    subscription = tia.subscribes("autoflow-starter", trial_days=14)
    tia.uses("2026-04-01", 5_000)

    first = upcoming(tia, subscription)
    tia.lives_until("2026-04-15T02:00")
    assert first["total_minor"] == 35_00
    assert figures(first) == figures(tia.invoices[-1])

    tia.uses("2026-04-15T01:00", 1_100)
    tia.cancels(subscription, at_period_end=True)
    last = upcoming(tia, subscription)
    tia.lives_until("2026-05-16")

    assert (last["kind"], last["total_minor"]) == ("final", 2_00)
    assert figures(last) == figures(tia.invoices[-1])
    with pytest.raises(ApiRefusal) as refusal:
        upcoming(tia, subscription)
    assert refusal.value.status == 409
    world.holds(tia)


def test_a_paused_subscription_and_one_without_usage_that_ends_have_none(world: World) -> None:
    pam = world.on("2026-04-01", "pam")
    pam.card()
    flow = pam.subscribes("autoflow-starter")
    seats = pam.subscribes("teamspace-starter")
    world.admin.post(f"/api/billing/subscriptions/{flow}/pause/", {}, str(uuid4()))
    pam.cancels(seats, at_period_end=True)

    for subscription in (flow, seats):
        with pytest.raises(ApiRefusal) as refusal:
            upcoming(pam, subscription)
        assert refusal.value.status == 409
