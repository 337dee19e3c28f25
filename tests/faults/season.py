"""A season in which everything happens that can happen to a subscription; told twice, it must end alike.

One organization, two subscriptions: AutoFlow with usage, plan changes and a coupon, TeamSpace with seats.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

from sqlalchemy import text

from gateway import requests
from tests.scenarios.world import Customer, World

Snapshot = dict[str, Sequence[Any]]

# (kind, status, charged) of each invoice.
QUIET = [
    ("first", "paid", 11_50),  # AutoFlow 35.00 less 10 % = 31.50, of which 20.00 by credit
    ("first", "paid", 100_00),  # TeamSpace 4 x 25.00
    # AutoFlow in May: Professional 75.00 less 10 % = 67.50; for 20 of April's 30 days -31.50 * 20/30 = -21.00
    # and +67.50 * 20/30 = +45.00; its usage: a third of Starter's month includes 333 1/3 of 500 runs, and
    # 166 2/3 at 2 cents = 3.33; two thirds of Professional's 10,000 include 6,666 2/3 of 8,000, and
    # 1,333 1/3 at 1.5 cents = 20.00
    ("cycle", "paid", 114_83),
    # TeamSpace in May: 6 x 25.00 = 150.00, -100.00 * 20/30 = -66.67, +150.00 * 20/30 = +100.00
    ("cycle", "paid", 183_33),
    ("cycle", "paid", 150_00),  # TeamSpace goes on: 6 x 25.00
    # AutoFlow in June, on a card that fails until the 3rd: Starter 35.00 less 10 % = 31.50;
    # for 16 of May's 31 days -67.50 * 16/31 = -34.84 and +31.50 * 16/31 = +16.26
    ("cycle", "paid", 12_92),
    ("final", "paid", 4_00),  # 200 of 1,200 runs above the month's 1,000 at 2 cents
]


def a_season(world: World, name: str) -> Customer:
    """April to June, through every change that the API and Stripe's dashboard offer."""
    ada = world.on("2026-04-01", name)
    coupon = _coupon(world)
    _posts(ada, f"organizations/{ada.slug}/credit", amount_minor=20_00, reason="a welcome")
    ada.card()
    flow = ada.subscribes("autoflow-starter", coupon=coupon)
    space = ada.subscribes("teamspace-starter", quantity=4)
    _april(ada, flow, space)
    _may(ada, flow, space)
    _june(ada, flow, space)
    return ada


def _april(ada: Customer, flow: str, space: str) -> None:
    ada.lives_until("2026-04-11")
    ada.uses("2026-04-10", 500)
    changes(ada, flow, plan="autoflow-professional")
    changes(ada, space, quantity=6)
    ada.lives_until("2026-04-20")
    for day in range(11, 19):
        ada.uses(f"2026-04-{day}", 1_000)
    _refund_at_stripe(ada, minor=15_00)
    ada.lives_until("2026-05-01T02:00")


def _may(ada: Customer, flow: str, space: str) -> None:
    ada.lives_until("2026-05-10")
    _posts(ada, f"subscriptions/{space}/pause")
    ada.lives_until("2026-05-16")
    changes(ada, flow, plan="autoflow-starter")
    ada.lives_until("2026-05-20")
    _posts(ada, f"subscriptions/{space}/resume")
    changes(ada, space, quantity=3, proration="next_period")
    ada.card("pm_card_chargeCustomerFail")
    ada.lives_until("2026-06-03")


def _june(ada: Customer, flow: str, space: str) -> None:
    ada.card()
    ada.rests()
    ada.uses("2026-06-02", 1_200)
    ada.cancels(flow, at_period_end=False)
    ada.lives_until("2026-06-10")
    ada.cancels(space, at_period_end=True)
    ada.lives_until("2026-07-21")


def changes(customer: Customer, subscription: str, **terms: Any) -> None:
    """Change a subscription and wait until Stripe knows it."""
    path = f"/api/billing/subscriptions/{subscription}/"
    answer = customer.world.admin.send("PATCH", path, json.dumps(terms).encode(), str(uuid4()))
    assert answer.status == 200, answer.content
    customer.rests()


def _posts(customer: Customer, path: str, **content: Any) -> None:
    customer.world.admin.post(f"/api/billing/{path}/", content, str(uuid4()))
    customer.rests()


def _coupon(world: World) -> str:
    code = f"C{uuid4().hex[:8]}"
    terms = {"name": "A season", "percent_off": "10", "duration": "repeating", "duration_in_months": 3}
    world.admin.post("/api/billing/coupons/", {"code": code, **terms}, str(uuid4()))
    return code


def _refund_at_stripe(ada: Customer, *, minor: int) -> None:
    """A person gives part of TeamSpace's first charge back in the dashboard."""
    (charge,) = [each for each in _listed(ada, "charge") if each["amount"] == 100_00]
    request = requests.create_refund(charge["payment_intent"], amount_minor=minor)
    ada.world.context.gateway.send(request, f"person:{uuid4()}")


# Each is read inside the organization. Ids, Stripe's ids and instants of the wall differ by nature.
_HERE = {
    "subscriptions": (
        "SELECT status, quantity, currency, interval, anchor_at, current_period_start_at, "
        "current_period_end_at, usage_closed_until_at, cancel_at_period_end, cancelled_at, ended_at "
        "FROM tenant.product_subscriptions ORDER BY started_at, id"
    ),
    "items": (
        "SELECT p.code, p.version, i.quantity, i.started_at, i.ended_at, i.debited_minor, "
        "i.debited_from_at, i.debited_until_at FROM tenant.subscription_items i "
        "JOIN catalog.product_plans p ON p.id = i.plan_id ORDER BY p.code, i.started_at"
    ),
    "changes": (
        "SELECT proration, quantity, changed_at, applied_at, refusal "
        "FROM tenant.subscription_changes ORDER BY changed_at, quantity"
    ),
    "invoices": (
        "SELECT kind, status, period_start_at, period_end_at, subtotal_minor, discount_minor, tax_minor, "
        "credit_minor, total_minor, paid_minor, parked_reason FROM tenant.invoices "
        "ORDER BY period_end_at, kind, subtotal_minor"
    ),
    "lines": (
        "SELECT v.kind, v.period_end_at, l.kind, l.description, l.quantity, l.unit_price, l.amount_minor, "
        "l.discount_minor, l.period_start_at, l.period_end_at FROM tenant.invoice_lines l "
        "JOIN tenant.invoices v ON v.id = l.invoice_id "
        "ORDER BY v.period_end_at, v.kind, v.subtotal_minor, l.kind, l.amount_minor, l.description"
    ),
    "numbers": "SELECT count(number), count(DISTINCT number) FROM tenant.invoices",
    "payments": (
        "SELECT attempt, amount_minor, status, decline_code, attempted_at, settled_at "
        "FROM tenant.payments ORDER BY attempted_at, amount_minor, attempt"
    ),
    "refunds": "SELECT amount_minor, status FROM tenant.refunds ORDER BY amount_minor",
    "credit": "SELECT amount_minor, reason FROM tenant.credit_entries ORDER BY created_at, amount_minor",
    "redemptions": "SELECT count(*) FROM tenant.coupon_redemptions",
    "dunning": "SELECT at, kind FROM tenant.dunning_steps ORDER BY at, kind",
    "usage": "SELECT state, count(*), sum(quantity) FROM tenant.usage_records GROUP BY state",
    "mails": (
        "SELECT channel, kind, count(*) FROM tenant.notifications "
        "GROUP BY channel, kind ORDER BY channel, kind"
    ),
}


def snapshot(customer: Customer) -> Snapshot:
    """Everything that a run leaves behind, here and at Stripe, but for what differs by nature."""
    with customer.world.context.tenant(customer.id) as unit:
        here = {
            name: [tuple(row) for row in unit.session.execute(text(rows))] for name, rows in _HERE.items()
        }
    return here | _at_stripe(customer)


def _at_stripe(customer: Customer) -> Snapshot:
    gateway, customer_id = customer.world.context.gateway, _stripe_id(customer)
    transactions = gateway.list("customer_balance_transaction", {"customer": customer_id})
    return {
        "Stripe's customer": [gateway.fetch("customer", customer_id)["balance"]],
        "Stripe's subscriptions": sorted(map(_terms, _listed(customer, "subscription", status="all"))),
        "Stripe's invoices": sorted(map(_amounts, _listed(customer, "invoice"))),
        # A decline whose answer Stripe lost for good looks like a try that never was, and is tried once more:
        # refused charges may be more than in a quiet run, money that came in may not.
        "Stripe's charges": sorted(
            (each["amount"], each["amount_refunded"])
            for each in _listed(customer, "charge")
            if each["status"] == "succeeded"
        ),
        "Stripe's balance": sorted((each["type"], each["amount"]) for each in transactions),
        # By their ends: a test token makes another card when Stripe has stored a failure after the first one.
        "Stripe's cards": sorted(
            {
                each["card"]["last4"]
                for each in gateway.list("customer_payment_method", {"customer": customer_id})
            }
        ),
    }


def _terms(subscription: Mapping[str, Any]) -> tuple[Any, ...]:
    items = [
        (
            item["price"]["lookup_key"],
            item["quantity"],
            item["current_period_start"],
            item["current_period_end"],
        )
        for item in subscription["items"]["data"]
    ]
    given = len(subscription["discounts"])
    return str(items), subscription["status"], subscription["billing_cycle_anchor"], given


def _amounts(invoice: Mapping[str, Any]) -> tuple[Any, ...]:
    figures = ("period_end", "total", "amount_paid", "amount_remaining", "starting_balance", "attempt_count")
    lines = sorted((line["amount"], line["period"]["start"]) for line in invoice["lines"]["data"])
    return invoice["billing_reason"], *(invoice[name] for name in figures), invoice["status"], str(lines)


def _stripe_id(customer: Customer) -> str:
    with customer.world.context.tenant(customer.id) as unit:
        return str(unit.organization.stripe_customer_id)


def _listed(customer: Customer, kind: str, **filters: Any) -> list[dict[str, Any]]:
    return list(customer.world.context.gateway.list(kind, {"customer": _stripe_id(customer), **filters}))
